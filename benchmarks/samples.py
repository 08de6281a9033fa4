"""Scenes to label histograms: against the obvious pipeline, and what Ray Data costs.

On SIFTFlow, R = 129, unaugmented, with a worker per core everywhere:

1. decode, superpixels, samples and histograms of 200 images in a process pool, against the same
   with scikit-image's `slic` (its defaults, pixels / 300 segments) and one `np.bincount` a window;
   the two take turns, in four parts;
2. the Ray Data stages over 1000 images against the very same functions in a process pool;
3. `label_histograms` alone against `np.bincount` a window, which must agree to the last count;
4. peak memory of the sample stage, all of Ray's processes together, over 250 and over 2488 images.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from reporting import options, report

from lhs.config import Config
from lhs.context.extraction import histogram_rows, sample_rows
from lhs.context.histograms import label_histograms
from lhs.data import open_dataset
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene
from lhs.loading import load_config

REGION, SIZE, PARTS = 129, 300, 4
WORKERS = multiprocessing.cpu_count()


def ours(dataset: Dataset, scene: Scene) -> int:
    """What the stages do with one image, without Ray."""
    rows = sample_rows(scene, 0, superpixel_size=SIZE, seed=0, void=dataset.void)
    counts = histogram_rows(dataset, scene, 0, rows.centres, region=REGION, seed=0)
    return len(counts)


def obvious(dataset: Dataset, scene: Scene) -> int:
    """What one would write first."""
    from skimage.segmentation import slic

    image, label_map = scene.image(), scene.label_map()
    superpixels = slic(image, n_segments=label_map.size // SIZE, start_label=0)
    found = 0
    for number in range(superpixels.max() + 1):
        ys, xs = np.nonzero(superpixels == number)
        if not len(ys):
            continue
        nearest = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
        y, x = int(ys[nearest]), int(xs[nearest])
        if label_map[y, x] != dataset.void:
            naive_histogram(label_map, y, x, len(dataset.classes), dataset.void)
            found += 1
    return found


def naive_histogram(
    label_map: np.ndarray, y: int, x: int, num_classes: int, void: int
) -> np.ndarray:
    """One `np.bincount` over one window."""
    reach = REGION // 2
    window = label_map[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    return np.bincount(window[window != void], minlength=num_classes)


def pooled(work: Callable[[Scene], int], scenes: list[Scene], pool: ProcessPoolExecutor) -> float:
    """Seconds for all scenes in a pool of processes that are already running."""
    started = time.perf_counter()
    list(pool.map(work, scenes, chunksize=4))
    return time.perf_counter() - started


def against_obvious(dataset: Dataset, scenes: list[Scene]) -> dict[str, float]:
    """Images per second of both pipelines, taking turns."""
    spent = {"ours": 0.0, "obvious": 0.0}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        work = {"ours": partial(ours, dataset), "obvious": partial(obvious, dataset)}
        for function in work.values():  # every process imports and opens what it needs
            pooled(function, scenes[: 4 * WORKERS], pool)
        for part in range(PARTS):
            for name, function in work.items():
                spent[name] += pooled(function, scenes[part::PARTS], pool)
    return {name: len(scenes) / seconds for name, seconds in spent.items()}


def histograms_alone(dataset: Dataset, scenes: list[Scene]) -> dict[str, Any]:
    """Time of our windows and of `np.bincount`'s, and whether they agree."""
    quick = naive = 0.0
    equal = True
    for scene in scenes:
        label_map = scene.label_map()
        rows = sample_rows(scene, 0, superpixel_size=SIZE, seed=0, void=dataset.void)
        classes, void = len(dataset.classes), dataset.void
        started = time.perf_counter()
        counted = label_histograms(label_map, rows.centres, REGION, classes, void)
        middle = time.perf_counter()
        expected = [naive_histogram(label_map, y, x, classes, void) for y, x in rows.centres]
        naive += time.perf_counter() - middle
        quick += middle - started
        equal &= np.array_equal(counted, np.array(expected).reshape(counted.shape))
    return {"speedup": naive / quick, "equal": equal}


def stage_config(root: Path, storage: str, images: int | None) -> Config:
    """SIFTFlow, unaugmented, so many training images."""
    limit = "null" if images is None else str(images)
    settings = [
        "data.dataset=siftflow",
        f"data.root={root}",
        f"data.max_train={limit}",
        f"storage={storage}",
        "context.variants=0",
        f"hierarchy.region={REGION}",
    ]
    return load_config("demo", settings)


def run_stages(root: Path, images: int | None, *, watched: bool) -> float:
    """Seconds of the Ray Data stages, or (`watched`) peak MB of the sample stage.

    Not both at once: reading the memory of all of Ray's processes takes its own share of a core.
    """
    from lhs.engine.cache import Stages
    from lhs.engine.graph import HISTOGRAMS, SAMPLES, annotated_scenes
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.storage import Storage

    with tempfile.TemporaryDirectory() as folder, connected():
        config = stage_config(root, folder, images)
        stages = Stages(Storage(folder))
        annotated_scenes(stages, config)
        if watched:
            with peak_memory() as peak:
                stages.make(SAMPLES, config)
            return peak.highest / 2**20
        started = time.perf_counter()
        stages.make(HISTOGRAMS, config)
        return time.perf_counter() - started


class peak_memory:
    """Highest proportional set size of this process and all below it, sampled."""

    def __enter__(self) -> peak_memory:
        self.highest = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(1.0):
            total = 0
            own = psutil.Process()
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            self.highest = max(self.highest, total)


def memory_of(root: Path, images: int | None) -> float:
    """Peak memory of the sample stage in a process, and a Ray, of its own."""
    command = [sys.executable, __file__, "--data-root", str(root), "--memory-of", str(images or 0)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--memory-of", type=int, help="for the script itself")
    arguments = parser.parse_args()
    root = arguments.data_root
    if arguments.memory_of is not None:
        print(run_stages(root, arguments.memory_of or None, watched=True))
        return
    dataset = open_dataset("siftflow", root)
    train = dataset.split("train")
    rates = against_obvious(dataset, train[:200])
    alone = histograms_alone(dataset, train[:40])
    config = stage_config(root, "unused", 1000)
    thousand = open_dataset(config.data).split("train")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        pool_seconds = pooled(partial(ours, dataset), thousand, pool)
    ray_seconds = run_stages(root, 1000, watched=False)
    small, large = memory_of(root, 250), memory_of(root, None)
    figures = {
        "images_per_second": rates["ours"],
        "obvious_images_per_second": rates["obvious"],
        "pool_images_per_second": 1000 / pool_seconds,
        "ray_data_images_per_second": 1000 / ray_seconds,
        "histograms_speedup": alone["speedup"],
        "peak_mb_250_images": small,
        "peak_mb_2488_images": large,
    }
    report(
        "samples",
        figures,
        {
            "pipeline against the obvious one": (rates["ours"] / rates["obvious"], ">=", 1.5),
            "Ray Data against a process pool": (pool_seconds / ray_seconds, ">=", 0.8),
            "histograms against np.bincount": (alone["speedup"], ">=", 5.0),
            "histograms equal np.bincount": (alone["equal"], "==", True),
            "peak memory, 2488 against 250 images": (large / small, "<=", 1.1),
        },
    )


if __name__ == "__main__":
    from lhs.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks/samples.py: {error}")
