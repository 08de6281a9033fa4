"""Three ways to feed a patch network, and how many patches a second each gives.

64 patches a step around random centres of SIFTFlow's training images and their variants:

- `cache`: the program's: threads of the training process cut patches from decoded images that it
  keeps in memory (`train.cache_mb`);
- `chunks`: Ray Data tasks cut them, one execution for eight steps, the next while those are used;
- `streaming`: Ray Data tasks cut them, one execution over all steps, its order kept.

Nothing trains beside them: it is what each can deliver. Each is a process of its own, measured in
turn, and the quickest round of each counts. The first steps, in which processes start, are apart.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from reporting import options, report

from lhs.config import DataConfig, TrainConfig
from lhs.data import open_dataset
from lhs.networks.patch import PATCH
from lhs.training.decoded import TrainingScenes
from lhs.training.patches import PatchSource, SampleIndex, cut_patches

SIDES = ("cache", "chunks", "streaming")
BATCH, WARM, CHUNK = 64, 10, 8
VARIANTS, SIDE_OF_IMAGES = 6, 256


class Rows:
    """Random samples."""

    def __init__(self, images: int, total: int) -> None:
        draw = np.random.default_rng(0)
        places = [
            draw.integers(0, most, total) for most in (images, VARIANTS, *[SIDE_OF_IMAGES] * 2)
        ]
        labels = np.zeros(total, np.uint16)
        self.index = SampleIndex(np.arange(total), *places, labels, labels)
        self.total, self.class_counts = total, np.array([total])

    def __call__(self, start: int, stop: int) -> SampleIndex:
        return self.index.take(slice(start, stop))


def cut_block(block: pa.Table, config: DataConfig) -> pa.Table:
    """Cut the patches of a step in a Ray Data task."""
    from lhs.engine.stages.scenes import worker_dataset

    scenes = TrainingScenes(worker_dataset(config).split("train"), None, 0)
    columns = [block[name].to_numpy() for name in SampleIndex._fields]
    patches = cut_patches(scenes, SampleIndex(*columns), side=PATCH, seed=0)
    buffers = [None, pa.py_buffer(patches)]
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(3 * PATCH**2), len(patches), buffers)
    return pa.table({"ids": block["ids"], "patches": column})


def by_ray(orders: list[SampleIndex], config: DataConfig, steps: int) -> Iterator[int]:
    """Patches of each step; `steps` of them in one execution."""
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    for first in range(0, len(orders), steps):
        blocks = [pa.table(rows._asdict()) for rows in orders[first : first + steps]]
        cut = ray.data.from_arrow(blocks).map_batches(
            cut_block, batch_size=None, batch_format="pyarrow", num_cpus=0.05,
            compute=ray.data.TaskPoolStrategy(size=2), fn_kwargs={"config": config},
        )  # fmt: skip
        if steps < len(orders):
            cut = cut.materialize()
        for block in cut.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=4):
            pixels = block["patches"].combine_chunks().buffers()[1]
            # A copy, as a tensor needs one: Ray's memory can't be written.
            yield len(np.frombuffer(pixels, np.uint8).copy()) // (3 * PATCH**2)


def in_turn(made: Iterator[int], ahead: int) -> Iterator[int]:
    """The same, made by a thread that runs so many steps ahead."""
    import queue
    import threading

    waiting: queue.Queue[int | None] = queue.Queue(ahead)

    def work() -> None:
        for one in made:
            waiting.put(one)
        waiting.put(None)

    threading.Thread(target=work, daemon=True).start()
    yield from iter(waiting.get, None)


def measure(side: str, root: Path, steps: int) -> dict[str, float]:
    """Patches a second of one side after the first steps, and seconds until those were there."""
    config = DataConfig(dataset="siftflow", root=str(root))
    scenes = TrainingScenes(open_dataset(config).split("train"), None, 1024)
    rows = Rows(len(scenes), BATCH * steps)
    source = PatchSource(scenes, rows, 0, PATCH, train=TrainConfig(batch_size=BATCH))
    started = time.perf_counter()
    if side == "cache":
        return timed((len(share[0].images) for share in source.batches(0, 0)), started)
    from lhs.engine.runtime.cluster import connected

    with connected():
        orders = list(source.order(0))
        if side == "streaming":
            return timed(by_ray(orders, config, len(orders)), started)
        return timed(in_turn(by_ray(orders, config, CHUNK), 2 * CHUNK), started)


def timed(made: Iterator[int], started: float) -> dict[str, float]:
    for _ in itertools.islice(made, WARM):
        pass
    begun = time.perf_counter()
    patches = sum(made)
    return {
        "patches_a_second": patches / (time.perf_counter() - begun),
        "seconds_to_begin": begun - started,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="for the script itself")
    chosen = parser.parse_args()
    if chosen.side is not None:
        print(json.dumps(measure(chosen.side, chosen.data_root, chosen.steps)))
        return
    best: dict[str, dict[str, float]] = {}
    for number in range(chosen.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            command = [
                sys.executable, __file__, "--data-root", str(chosen.data_root),
                "--steps", str(chosen.steps), "--side", side,
            ]  # fmt: skip
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{side}: {found['patches_a_second']:.0f} patches a second, "
                  f"{found['seconds_to_begin']:.1f} s to begin", flush=True)  # fmt: skip
            if side not in best or found["patches_a_second"] > best[side]["patches_a_second"]:
                best[side] = found
    others = max(best[side]["patches_a_second"] for side in SIDES[1:])
    report(
        "patch_feeds",
        best,
        {"the program's feed against the quicker of the others": (
            best["cache"]["patches_a_second"] / others, ">=", 1.0)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
