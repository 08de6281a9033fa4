"""The parts of `gpu.py`: each measures one thing, and notes each figure as soon as it has it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhs.config import Config, NetworkConfig
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
            f"train.gpu={'yes' if self.device == 'cuda' else 'no'}", *TINY[: 99 * self.tiny], *more,
        ]  # fmt: skip


def card(bench: Bench) -> None:
    """The card, the machine and the versions."""
    import ray
    import timm
    import torch

    bench.note("python", platform.python_version())
    bench.note("torch", torch.__version__)
    bench.note("ray", ray.__version__)
    bench.note("timm", timm.__version__)
    bench.note("cores", len(os.sched_getaffinity(0)))
    bench.note("memory, GB", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    cuda = bench.device == "cuda"
    properties = torch.cuda.get_device_properties(0) if cuda else None
    bench.note("card", properties.name if properties else None)
    bench.note("card's memory, GB", properties.total_memory / 1e9 if properties else None)
    bench.note("capability", list(torch.cuda.get_device_capability(0)) if cuda else None)
    bench.note("cuda", torch.version.cuda)
    bench.note("cudnn", torch.backends.cudnn.version())
    version = None
    if cuda:
        import cuml

        version = cuml.__version__
    bench.note("cuml", version)


def dense(bench: Bench) -> None:
    """Prediction of every pixel of an image, at the precision that evaluation takes."""
    import numpy as np
    import torch
    from pixelwise import counted

    from lhs.networks.precision import resolve_precision

    device = torch.device(bench.device)
    precision = resolve_precision("auto", device, "evaluation.precision")
    side, product = (16, 256) if bench.tiny else (SIDE, 8192)
    bench.note("precision", precision)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    rate = product_rate(product, device, precision)
    bench.note("matrix product, TMAC/s", rate / 1e12)
    for name in DENSE:
        # A CPU takes seconds for a score at every pixel, however few they are.
        every = 8 if bench.tiny and name in PATCHES else 1
        model = random_model(name, bench.device, every, precision)
        adds = counted(model.scores, lambda model=model: model.predict(pixels))
        seconds = quickest(
            lambda model=model: model.predict(pixels), device, 1 if bench.tiny else 10
        )
        bench.note(f"{name}: ms", seconds * 1e3)
        bench.note(f"{name}: TMAC", adds / 1e12)
        bench.note(f"{name}: share of the product rate", adds / seconds / rate)
        del model
        if bench.device == "cuda":
            torch.cuda.empty_cache()


def product_rate(side: int, device: Any, precision: Any) -> float:
    """Multiply-adds a second of a product of two large matrices."""
    import torch

    from lhs.networks.precision import arithmetic

    left, right = torch.randn(2, side, side, device=device)
    with arithmetic(precision, device):
        return side**3 / quickest(lambda: left @ right, device, 5)


def clustering(bench: Bench) -> None:
    """k-means by cuML and by scikit-learn: time and inertia over five seeds."""
    from clustering import label_histograms

    from lhs.hierarchy.kmeans import fit_kmeans

    backends = ("sklearn", "cuml") if bench.device == "cuda" else ("sklearn",)
    sizes = dict.fromkeys(SIZES)
    rows_of = {rows: rows // 100 if bench.tiny else rows for rows in sizes}
    histograms = label_histograms(max(rows_of.values()), BINS, 0)
    if len(backends) > 1:
        # Imports and the card's first kernels are nobody's time.
        fit_kmeans(histograms[:30_000], CLUSTERS, seed=0, backend="cuml")
    for name, rows in rows_of.items():
        inertia = {}
        for backend in backends:
            fits, seconds = [], []
            for seed in range(SEEDS):
                started = time.perf_counter()
                fit = fit_kmeans(histograms[:rows], CLUSTERS, seed=seed, backend=backend)
                seconds.append(time.perf_counter() - started)
                fits.append(fit.inertia)
            inertia[backend] = statistics.median(fits)
            bench.note(f"{name} rows: {backend}, s", statistics.median(seconds))
            bench.note(f"{name} rows: {backend}, inertia", inertia[backend])
        ratio = inertia["cuml"] / inertia["sklearn"] if "cuml" in inertia else None
        bench.note(f"{name} rows: inertia, cuML / scikit-learn", ratio)


def evaluation(bench: Bench) -> None:
    """`lhs evaluate` of `lite` on JPEG files: the images that more of them take longer for."""
    few, many = (8, 24) if bench.tiny else (400, 4000)
    model = bench.folder / "model"
    model.mkdir()
    save_random_lite(model)
    seconds = {}
    with connected():
        # The first starts the processes that the others find.
        for name, images in (("warm", few), ("few", few), ("many", many)):
            root = bench.folder / name
            write_images(root, images, 64 if bench.tiny else SIDE)
            started = time.perf_counter()
            run("evaluate", str(model), "--dataset", "folder", "--set", f"data.folder.path={root}")
            seconds[name] = time.perf_counter() - started
            bench.note(f"{images} images ({name}), s", seconds[name])
    bench.note("images/s", (many - few) / max(1e-3, seconds["many"] - seconds["few"]))


def training(bench: Bench) -> None:
    """The program's own training stage against a bare loop on tensors that lie on the device."""
    import pandas as pd

    # Steps that are measured, after those in which images are decoded for the first time.
    cases = {
        "lite batch 8": ("stanford-lite-baseline", 8, 90, 170),
        "lite batch 32": ("stanford-lite-baseline", 32, 40, 80),
        "fcn16s batch 10": ("stanford-fcn16s-baseline", 10, 40, 50),
    }
    with connected():
        for name, (recipe, batch, warm, steps) in cases.items():
            smaller = []
            if bench.tiny:
                batch, warm, steps = 2, 1, 3
                # FCN's 135 million weights take a CPU half a minute: its feeding and its solver,
                # without them.
                smaller = ["network.name=lite", "network.weights=imagenet"]
            config = load_config(
                recipe,
                bench.settings(
                    name.replace(" ", "-"), f"train.batch_size={batch}", "train.coarser.steps=0",
                    "train.baseline.new_layers.run=no",
                    f"train.baseline.all_layers.steps={warm + steps}", *smaller,
                ),
            )  # fmt: skip
            rows = pd.read_parquet(trained(config) / "history.parquet").iloc[warm:]
            under_ray = batch * len(rows) / float(rows["seconds"].sum())
            bench.note(f"{name}: images/s under Ray Train", under_ray)
            waited = float(rows["waited"].sum() / rows["seconds"].sum())
            bench.note(f"{name}: share waited", waited)
            bare = bare_loop(config, bench.device, warm, steps)
            bench.note(f"{name}: images/s of the bare loop", bare)
            bench.note(f"{name}: Ray Train / bare loop", under_ray / bare)


def bare_loop(config: Config, device: str, warm: int, steps: int) -> float:
    """Images a second of the loop that one would write if all data lay on the device."""
    import torch

    from lhs.networks.build import build_network
    from lhs.networks.precision import arithmetic, resolve_precision
    from lhs.networks.weights import load_weights
    from lhs.training.losses import label_loss

    train, where = config.train, torch.device(device)
    classes, void = 8, 255
    # FCN trains on whole images; Stanford's are 240 x 320.
    height, width = train.crop_height, train.crop_width
    if config.examples == "variants" and config.data.dataset == "stanford":
        height, width = 240, 320
    torch.manual_seed(0)
    network = build_network(config.network, classes)
    load_weights(network, config.network)
    network.to(where, memory_format=torch.channels_last).train()
    batches = [
        (
            torch.randint(0, 256, (train.batch_size, 3, height, width), device=where)
            .float()
            .to(memory_format=torch.channels_last),
            torch.randint(0, classes, (train.batch_size, height, width), device=where),
        )
        for _ in range(4)
    ]
    parameters = list(network.parameters())
    rate, decay, fused = 1e-4, train.weight_decay, device == "cuda"
    solver: torch.optim.Optimizer = (
        torch.optim.SGD(parameters, rate, train.momentum, weight_decay=decay, fused=fused)
        if train.solver == "sgd"
        else torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
    )
    precision = resolve_precision(train.precision, where, "train.precision")
    with arithmetic(precision, where):
        for step in range(warm + steps):
            if step == warm:
                synchronise(where)
                started = time.perf_counter()
            images, labels = batches[step % len(batches)]
            loss = label_loss(network(images).float(), labels, void)
            solver.zero_grad(set_to_none=True)
            loss.backward()
            solver.step()
    synchronise(where)
    return train.batch_size * steps / (time.perf_counter() - started)


def whole_run(bench: Bench) -> None:
    """`lhs run stanford-lite-h-lc` with its baseline, stage by stage."""
    shorter = ["train.max_steps=3", "network.channels=16", "train.batch_size=4"] * bench.tiny
    started = time.perf_counter()
    settings = bench.settings("run", "report.baseline=train", *shorter)
    run("run", "stanford-lite-h-lc", *(word for one in settings for word in ("--set", one)))
    bench.note("all, s", time.perf_counter() - started)
    found = [
        (path.parent, json.loads(path.read_text()))
        for path in (bench.folder / "run").glob("stages/*/[!.]*/_SUCCESS.json")
    ]
    strategies = {}
    for folder, success in found:
        if success["stage"] == "model":
            description = json.loads((folder / "model" / "model.json").read_text())
            strategies[folder.name] = description["strategy"]
    for folder, success in sorted(found, key=lambda pair: pair[1]["stage"]):
        name = success["stage"]
        if name in ("model", "evaluation"):
            model = folder.name if name == "model" else success["inputs"]["model"]
            name += f" ({strategies[model]})"
        bench.note(f"{name}, s", success["seconds"])
        if success["stage"] == "evaluation":
            bench.note(f"{name}: per pixel", success["facts"]["per_pixel"])


def side_by_side(bench: Bench) -> None:
    """Eight trainings of a sweep on one card."""
    import pandas as pd

    trials, steps, batch = (2, 4, 2) if bench.tiny else (8, 300, 8)
    file = bench.folder / "eight.py"
    listed = ", ".join(f'{{"train.seed": {seed}}}' for seed in range(trials))
    file.write_text(
        "from lhs.sweeps import Sweep\n"
        f'SWEEP = Sweep(name="eight", recipe="stanford-lite-baseline", trials=[{listed}])\n'
    )
    settings = bench.settings(
        "eight", f"train.batch_size={batch}", "train.gpu_share=0.125", "data.max_test=2",
        "train.baseline.new_layers.run=no", f"train.baseline.all_layers.steps={steps}",
    )  # fmt: skip
    run("sweep", str(file), *(word for one in settings for word in ("--set", one)))
    rates = []
    for path in (bench.folder / "eight").glob("stages/model/[!.]*/history.parquet"):
        # Not the first steps, nor the last, when some are alone.
        middle = pd.read_parquet(path).iloc[steps // 4 : steps - steps // 4]
        rates.append(batch * len(middle) / float(middle["seconds"].sum()))
    assert len(rates) == trials
    bench.note("trainings", trials)
    bench.note("images/s of all", sum(rates))
    bench.note("images/s of the slowest", min(rates))


def precision(bench: Bench) -> None:
    """The loss after 200 steps, by the arithmetic."""
    import pandas as pd

    steps, batch = (6, 2) if bench.tiny else (200, 8)
    losses = {}
    with connected():
        for name in ("float32", "tf32", "bfloat16"):
            if name == "tf32" and bench.device == "cpu":
                bench.note("tf32: loss / float32's", None)
                continue
            config = load_config(
                "stanford-lite-baseline",
                bench.settings(
                    name, f"train.precision={name}", f"train.batch_size={batch}",
                    "train.baseline.new_layers.run=no", f"train.baseline.all_layers.steps={steps}",
                ),
            )  # fmt: skip
            rows = pd.read_parquet(trained(config) / "history.parquet")
            losses[name] = float(rows["loss"].tail(max(1, steps // 10)).mean())
            bench.note(f"{name}: loss", losses[name])
            if name != "float32":
                bench.note(f"{name}: loss / float32's", losses[name] / losses["float32"])


def resume(bench: Bench) -> None:
    """The weights of a training whose worker was killed half-way, against an undisturbed one."""
    import numpy as np
    from safetensors.numpy import load_file

    steps, batch = (12, 2) if bench.tiny else (200, 8)
    weights = {}
    with connected():
        for name in ("undisturbed", "killed"):
            config = load_config(
                "stanford-lite-baseline",
                bench.settings(
                    name, f"train.batch_size={batch}", f"train.checkpoint_steps={steps // 4}",
                    "train.baseline.new_layers.run=no", f"train.baseline.all_layers.steps={steps}",
                ),
            )  # fmt: skip
            with (
                killer(Path(config.storage))
                if name == "killed"
                else contextlib.nullcontext([]) as killed
            ):
                path = trained(config) / "model" / "weights.safetensors"
            weights[name] = load_file(path)
            bench.note(
                f"{name}: sha256 of the weights", hashlib.sha256(path.read_bytes()).hexdigest()
            )
    bench.note("workers killed", len(killed))
    differ = [
        float(np.abs(tensor - weights["killed"][name]).max(initial=0))
        for name, tensor in weights["undisturbed"].items()
    ]
    bench.note("largest difference of a weight", max(differ))
    bench.note("equal to the last bit", max(differ) == 0)
    assert killed, "the training ended before its worker was killed"


@contextlib.contextmanager
def killer(storage: Path) -> Iterator[list[int]]:
    """Kill the training worker as soon as there is a checkpoint; who was killed."""
    import psutil

    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if not list(storage.glob("stages/model/.unfinished-*/state.pt")):
                continue
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "TrainWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
            if killed:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def trained(config: Config) -> Path:
    """The folder of the program's own training stage, on the scenes alone."""
    from lhs.engine.graph import MODEL
    from lhs.engine.stages import Stages
    from lhs.engine.storage import Storage

    return Path(Stages(Storage(config.storage)).make(MODEL, config).path)


def connected() -> Any:
    """The program's own Ray, for all of a part."""
    from lhs.engine.cluster import connected

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
    from lhs.evaluation.model import ModelDescription

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


PARTS: dict[str, Callable[[Bench], None]] = {
    "card": card,
    "dense": dense,
    "clustering": clustering,
    "evaluation": evaluation,
    "training": training,
    "run": whole_run,
    "side by side": side_by_side,
    "precision": precision,
    "resume": resume,
}
