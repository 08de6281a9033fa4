"""The parts of `gpu.py` that train: beside a bare loop, whole, side by side, resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_bench import Bench, connected, run, synchronise

from lhs.config import Config
from lhs.loading import load_config


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
                # FCN's 135 million weights take a CPU half a minute: its feeding and its optimizer,
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
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(parameters, rate, train.momentum, weight_decay=decay, fused=fused)
        if train.optimizer == "sgd"
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
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
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
    from lhs.engine.cache import Stages
    from lhs.engine.graph import MODEL
    from lhs.engine.storage import Storage

    return Path(Stages(Storage(config.storage)).make(MODEL, config).path)
