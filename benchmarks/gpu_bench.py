"""What the parts of `gpu.py` share: sizes, settings, models, images, clocks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhs.config import NetworkConfig
from lhs.loading import load_config
from lhs.run import main as lhs

SIZES = (30_000, 300_000, 2_000_000)
"""Histograms that are clustered."""
BINS, CLUSTERS, SEEDS = 33, 5, 5
SIDE = 256
DENSE = ("squeezenet", "clarifai", "overfeat", "lite", "fcn16s")
PATCHES = DENSE[:3]
TINY = (
    "data.dataset=synthetic", "data.synthetic.train=16", "data.synthetic.test=4",
    "data.synthetic.height=64", "data.synthetic.width=80", "context.superpixel_size=100",
    "context.variants=1", "hierarchy.n_star=20", "hierarchy.region=33", "train.crop_height=64",
    "train.crop_width=64",
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """How the parts run."""

    device: str
    """`cuda` or `cpu`."""
    tiny: bool
    data_root: Path
    folder: Path
    """For what a part writes."""
    note: Callable[[str, Any], None]
    """Takes a figure's name and value."""

    def settings(self, storage: str, *more: str) -> list[str]:
        """Settings of an experiment with a storage of its own."""
        return [
            f"storage={self.folder / storage}", f"data.root={self.data_root}", "report.scenes=0",
            f"train.gpu={str(self.device == 'cuda').lower()}", *TINY[: 99 * self.tiny], *more,
        ]  # fmt: skip


def connected() -> Any:
    """The program's own Ray, for all of a part."""
    from lhs.engine.runtime.cluster import connected

    return connected()


def run(*words: str) -> None:
    """A command of `lhs`, in this process."""
    code = lhs(list(words))
    if code:
        raise RuntimeError(f"lhs {words[0]}: exit code {code}")


def quickest(work: Callable[[], object], device: Any, rounds: int) -> float:
    """Seconds of the quickest of some rounds."""
    seconds = []
    for _ in range(rounds):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def synchronise(device: Any) -> None:
    """Wait for what the card was given to do."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def random_model(name: str, device: str, every: int, precision: Any) -> Any:
    """A model with random weights: they change no count and no time."""
    import torch

    from lhs.evaluation.model import Model
    from lhs.networks.build import build_network

    torch.manual_seed(0)
    config = NetworkConfig(name=name, weights="none")
    return Model(build_network(config, BINS), description(config, BINS), device, every, precision)


def description(config: NetworkConfig, classes: int) -> Any:
    """What a model's file says, of so many classes."""
    from lhs.evaluation.description import ModelDescription

    return ModelDescription(
        network=config, strategy="baseline", dataset="folder",
        classes=tuple(f"class {number}" for number in range(classes)),
        colours=((0, 0, 0),) * classes, outputs=classes, hierarchy_digest=None,
    )  # fmt: skip


def save_random_lite(folder: Path) -> None:
    """The folder of such a model, of eight classes."""
    from lhs.evaluation.model import save_model
    from lhs.networks.build import build_network

    config = NetworkConfig(weights="none")
    save_model(folder, build_network(config, 8), description(config, 8))


def write_images(root: Path, count: int, side: int) -> None:
    """A folder of JPEG files and label maps: a few different ones, each many times."""
    from lhs.data import open_dataset

    scenes = open_dataset(
        load_config("demo", [f"data.synthetic.{name}={side}" for name in ("height", "width")]).data
    ).split("test")[:16]
    for kind in ("images", "labels", "splits"):
        (root / kind).mkdir(parents=True)
    from PIL import Image

    names = [f"{number:05}" for number in range(count)]
    for number, name in enumerate(names):
        image, labels = root / "images" / f"{name}.jpg", root / "labels" / f"{name}.png"
        if number < len(scenes):
            Image.fromarray(scenes[number].image()).save(image, quality=90)
            Image.fromarray((scenes[number].label_map() % 8).astype("uint8")).save(labels)
        else:
            first = names[number % len(scenes)]
            shutil.copy(root / "images" / f"{first}.jpg", image)
            shutil.copy(root / "labels" / f"{first}.png", labels)
    (root / "classes.txt").write_text("".join(f"class {number}\n" for number in range(8)))
    (root / "splits" / "train.txt").write_text(f"{names[0]}\n")
    (root / "splits" / "test.txt").write_text("".join(f"{name}\n" for name in names[1:]))
