"""The whole pipeline on a Ray of its own, with so many logical GPUs, on a machine without a card.

`python -m tests.engine.runtime.logical_gpus FOLDER GPUS [PART...]` writes `results.json` there:
for each part what came out, or how it failed. A part that fails, or takes longer than `LIMIT`, does
not keep the next from running.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from lhs.config import Config
from tests.engine.conftest import stage, tiny

LIMIT = 600
"""Seconds that a part may take."""
SWEEP = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="two", recipe={recipe!r}, trials=[
    {{"train.strategy": "sequential"}},
    {{"train.strategy": "hierarchical", "unlabelled.mode": "pseudo_labels"}},
])
"""


def experiment(folder: Path, **changes: Any) -> Config:
    """The tiny experiment, smaller still."""
    smaller: dict[str, Any] = {
        "data__synthetic": {
            "train": 12, "test": 4, "height": 64, "width": 80, "unlabelled": 0.3
        },
        "train__max_steps": 2,
        "train__restarts": 0,
        "report__baseline": "none",
        "report__scenes": 0,
    }  # fmt: skip
    return tiny(folder / "storage", **{**smaller, **changes})


def command(*words: str) -> str:
    """Run `lhs` in this process; what it printed as results."""
    from lhs.run import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(list(words))
    assert code == 0, f"exit code {code}"
    return printed.getvalue()


def devices(folder: Path) -> dict[str, Any]:
    """What a task may use that booked a GPU, and one that did not: as things are, with a card."""
    import ray
    import torch

    from lhs.engine.runtime.devices import granted_device

    def look() -> list[str]:
        without = str(granted_device())
        torch.cuda.is_available = lambda: True
        return [without, str(granted_device())]

    task = ray.remote(num_cpus=0, max_calls=1)(look)
    return {f"{gpus} booked": ray.get(task.options(num_gpus=gpus).remote()) for gpus in (0, 1)}


def sweep(folder: Path) -> dict[str, Any]:
    """Side by side: S on label clusters, and H on what the baseline labelled of the rest."""
    config = experiment(folder, train__gpu_share=0.5)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (folder / "two.py").write_text(SWEEP.format(recipe=str(folder / "tiny.yaml")))
    last = command("sweep", str(folder / "two.py"), "--json").splitlines()[-1]
    return {
        f"{trial['number']}, {name}": score
        for trial in json.loads(last)["trials"]
        for name, score in scores_of(trial).items()
    }


def patches(folder: Path) -> dict[str, Any]:
    """`lhs run` with a network of patches."""
    config = experiment(
        folder,
        data__synthetic={"train": 4, "test": 2, "height": 48, "width": 48},
        context={"superpixel_size": 200, "variants": 0},
        network={"name": "squeezenet"},
        evaluation={"stride": 8},
        train__strategy="baseline",
    )
    recipe = folder / "patches.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return scores_of(json.loads(command("run", str(recipe), "--json").splitlines()[-1]))


def embedding(folder: Path) -> dict[str, Any]:
    """A hierarchy of what a pretrained network sees."""
    from lhs.engine.cache import Stages
    from lhs.engine.graph import HIERARCHY
    from lhs.engine.stages.descriptors import read_descriptors
    from lhs.engine.storage import Storage

    config = experiment(
        folder, hierarchy={"kind": "image_embedding", "image_clusters": 3, "n_star": 20}
    )
    stages = Stages(Storage(config.storage))
    hierarchy = stages.make(HIERARCHY, config)
    _, vectors = read_descriptors(stages.storage, stage(stages, "descriptors").path)
    return {
        "subclasses": hierarchy.facts["subclasses"],
        **{f"value {n}": float(value) for n, value in enumerate(vectors[:, :20].ravel())},
    }


def evaluate(folder: Path) -> dict[str, Any]:
    """`lhs evaluate` of a model that was not trained here."""
    sizes = {"train": 2, "test": 4, "height": 64, "width": 80}
    options = [w for key, n in sizes.items() for w in ("--set", f"data.synthetic.{key}={n}")]
    text = command("evaluate", str(model(folder)), "--dataset", "synthetic", "--json", *options)
    return scores_of(json.loads(text.splitlines()[-1]))


def predict(folder: Path) -> dict[str, Any]:
    """`lhs predict` of such a model."""
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number, height in enumerate((40, 64, 64)):
        Image.fromarray(rng.integers(0, 256, (height, 72, 3), np.uint8)).save(
            images / f"{number}.png"
        )
    command("predict", str(model(folder)), str(images), "--out", str(folder / "labelled"))
    return {
        f"{path.stem}, id {label}": float((np.array(Image.open(path)) == label).mean())
        for path in sorted((folder / "labelled").glob("?.png"))
        for label in range(3)
    }


def model(folder: Path) -> Path:
    """A model folder of random weights."""
    import torch

    from lhs.config import NetworkConfig
    from lhs.data import open_dataset
    from lhs.evaluation.description import ModelDescription
    from lhs.evaluation.model import save_model
    from lhs.networks.build import build_network

    path = folder / "model"
    if path.exists():
        return path
    path.mkdir()
    dataset = open_dataset(experiment(folder).data)
    torch.manual_seed(0)
    network = build_network(NetworkConfig(channels=16, weights="none"), len(dataset.classes))
    for layer in network.last_layers():
        torch.nn.init.normal_(layer.weight, std=3)
    description = ModelDescription(
        network=NetworkConfig(channels=16, weights="none"), strategy="baseline",
        dataset=dataset.name, classes=tuple(dataset.classes),
        colours=tuple((int(r), int(g), int(b)) for r, g, b in dataset.colours),
        outputs=len(dataset.classes), hierarchy_digest=None,
    )  # fmt: skip
    save_model(path, network, description)
    return path


def scores_of(tree: dict[str, Any]) -> dict[str, Any]:
    """The scores in what a command printed."""
    names = ("per_pixel", "per_class", "mean_iou")
    return {name: tree.get("scores", tree)[name] for name in names}


PARTS: tuple[Callable[[Path], dict[str, Any]], ...] = (
    evaluate, predict, embedding, sweep, patches,
)  # fmt: skip


def attempt(part: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What a part found, or how it failed."""
    started = time.monotonic()
    signal.alarm(LIMIT)
    try:
        result: dict[str, Any] = {"found": part(folder)}
    except Exception:
        result = {"failed": traceback.format_exc()}
    finally:
        signal.alarm(0)
    return result | {"seconds": round(time.monotonic() - started, 1)}


def pretend() -> None:
    """In every process: cuML is asked also for few rows, and without the NVIDIA driver."""
    from lhs.hierarchy import kmeans

    kmeans.GPU_ROWS = 0
    kmeans._has_gpu = lambda: True


def late(*_: Any) -> None:
    raise TimeoutError(f"not done after {LIMIT} s")


def main(folder: Path, gpus: int, *wanted: str) -> None:
    """Run all parts, or those that are wanted."""
    import ray

    from lhs.engine.runtime.cluster import connected

    signal.signal(signal.SIGALRM, late)
    if gpus:
        pretend()
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"worker_process_setup_hook": pretend} if gpus else None,
    )
    results = {}
    with connected():
        parts = (*[devices] * (gpus > 0), *PARTS)
        for part in parts if not wanted else [part for part in parts if part.__name__ in wanted]:
            results[part.__name__] = attempt(part, folder)
            (folder / "results.json").write_text(json.dumps(results, indent=1))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
