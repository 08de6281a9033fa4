"""A training step under Ray Train: against plain PyTorch, on two workers, and how long it waits.

`lite` on SIFTFlow, all layers, crops of 224 x 224, batches of 8, on the CPU:

1. the program's own training stage with one worker, against the loop that one would write around a
   `DataLoader` with a worker process per core, for the same network, crops, loss,
   optimizer and rate;
2. two workers of one thread each against one worker of one thread, with the same batch of 64 in
   all: 32 for each of the two (what they exchange a step does not grow with the batch), and so few
   images that none is decoded while it is measured;
3. the share of time that the steps of 1 wait for data;
4. two trainings apart, which share nothing but the machine, each one worker of one thread with half
   of that batch: more than they do, two workers can't do on it.

Each side is a process of its own (two for part 4, each on one core); they take turns, and the
quickest round of each counts. A round is the mean of its steps after the first ten.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from reporting import options, report

from lhs.config import Config
from lhs.engine.stages.training import KEEP_MEMORY
from lhs.loading import load_config

WARM = 10
SHARED = ("one thread", "two workers", "apart")
SIDES = ("ray", "plain", *SHARED)


def experiment(side: str, root: Path, storage: str, steps: int, batch: int) -> Config:
    """Nothing but steps of all layers."""
    workers = 2 if side == "two workers" else 1
    threads = "null" if side in ("ray", "plain") else 1
    settings = [
        f"data.root={root}",
        f"storage={storage}",
        f"train.workers={workers}",
        f"train.threads={threads}",
        *([f"data.max_train={WARM * batch}"] if side in SHARED else []),
        f"train.batch_size={batch if side in SHARED else 8}",
        "train.baseline.new_layers.epochs=0",
        f"train.baseline.all_layers.steps={steps}",
        "report.scenes=0",
    ]
    return load_config("siftflow-lite-baseline", settings)


def under_ray(config: Config) -> dict[str, float]:
    """Seconds of a step in the program's training stage, and the share of them it waited."""
    from lhs.engine.cache import Stages
    from lhs.engine.graph import MODEL
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.storage import Storage
    from lhs.engine.tracking.tracker import tracked

    storage = Storage(config.storage)
    with connected(), tracked(config, storage, "siftflow", "benchmark") as tracker:
        model = Stages(storage, tracker).make(MODEL, config)
    steps = pd.read_parquet(f"{model.path}/history.parquet").iloc[WARM:]
    return {
        "step": float(steps["seconds"].mean()),
        "waited": float(steps["waited"].sum() / steps["seconds"].sum()),
    }


def plain(config: Config) -> dict[str, float]:
    """Seconds of a step in the loop that one would write first."""
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy, interpolate
    from torch.utils.data import DataLoader, Dataset

    from lhs.data import open_dataset
    from lhs.engine.runtime.cluster import cores
    from lhs.networks.build import build_network
    from lhs.networks.weights import load_weights
    from lhs.training.crops import random_crop
    from lhs.training.decoded import TrainingScenes

    train = config.train
    dataset = open_dataset(config.data)
    scenes = TrainingScenes(dataset.split("train"), None, train.cache_mb)

    class Crops(Dataset):
        def __len__(self) -> int:
            return len(scenes)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
            rng = np.random.default_rng(place)
            crop = random_crop(scenes.example(place), train, dataset.void, dataset.void, rng)
            return (
                torch.from_numpy(crop.image.transpose(2, 0, 1).copy()),
                torch.from_numpy(crop.label_map.astype(np.int64)),
            )

    torch.manual_seed(train.seed)
    torch.set_num_threads(cores())
    network = build_network(config.network, len(dataset.classes))
    load_weights(network, config.network)
    network.to(memory_format=torch.channels_last).train()
    steps = train.baseline.all_layers.steps
    assert steps is not None
    rate = train.baseline.all_layers.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=train.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps + 1, pct_start=0.15, cycle_momentum=False
    )
    loader = DataLoader(
        Crops(), train.batch_size, shuffle=True, drop_last=True, num_workers=cores(),
        multiprocessing_context="fork",
    )  # fmt: skip
    seconds = []
    before = time.perf_counter()
    for number, (images, labels) in enumerate(loader):
        if number == steps:
            break
        scores = network(images.to(torch.float32, memory_format=torch.channels_last))
        scores = interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = cross_entropy(scores, labels, ignore_index=dataset.void)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    return {"step": sum(seconds[WARM:]) / len(seconds[WARM:])}


def measure(side: str, root: Path, steps: int, batch: int) -> dict[str, float]:
    """One round of one side, in this process."""
    with tempfile.TemporaryDirectory() as storage:
        config = experiment(side, root, storage, steps, batch)
        return plain(config) if side == "plain" else under_ray(config)


def round_of(side: str, root: Path, steps: int, batch: int) -> dict[str, float]:
    """One round of one side, in a process of its own."""
    command = [
        sys.executable, __file__, "--data-root", str(root), "--steps", str(steps),
        "--batch", str(batch // 2 if side == "apart" else batch), "--side", side,
    ]  # fmt: skip
    places = [["taskset", "--cpu-list", core] for core in "01"] if side == "apart" else [[]]
    # The allocator's settings of the program's own workers, for all sides.
    environment = {**os.environ, **KEEP_MEMORY}
    running = [
        subprocess.Popen([*place, *command], stdout=subprocess.PIPE, text=True, env=environment)
        for place in places
    ]
    results: list[dict[str, float]] = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        results.append(json.loads(output.splitlines()[-1]))
    measured = max(results, key=lambda result: result["step"])
    print(f"{side}: {measured['step']:.3f} s a step", flush=True)
    return measured


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="crops of a step of part 2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="for the script itself")
    chosen = parser.parse_args()
    if chosen.side is not None:
        print(json.dumps(measure(chosen.side, chosen.data_root, chosen.steps, chosen.batch)))
        return
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(chosen.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            rounds[side].append(round_of(side, chosen.data_root, chosen.steps, chosen.batch))
    best = {side: min(one["step"] for one in rounds[side]) for side in SIDES}
    waited = max(one["waited"] for one in rounds["ray"])
    report(
        "training",
        {f"seconds_a_step_{side.replace(' ', '_')}": value for side, value in best.items()}
        | {"two_trainings_apart_against_one": best["one thread"] / best["apart"]},
        {
            "Ray Train against plain PyTorch": (best["ray"] / best["plain"], "<=", 1.05),
            "two workers against one": (best["one thread"] / best["two workers"], ">=", 1.6),
            "share of time waited for data": (waited, "<", 0.05),
        },
    )


if __name__ == "__main__":
    from lhs.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks/training.py: {error}")
