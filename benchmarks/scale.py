"""What a dataset of LM+Sun's size costs up to its hierarchy, on generated data like it.

Datasets of its layout, classes and shares of labelled pixels (`tests/data/partly_labelled.py`):

1. samples and histograms of 500, 1000, 2000 and 4000 images, each size in a process, and a Ray, of
   its own: seconds, the quicker of two runs, against a straight line through the four; and, in
   runs of their own, the peak memory of all of Ray's processes together;
2. bytes that a sample's histogram takes in storage, against its 232 bins in float32;
3. five million samples of one class, clustered by all fits that Algorithm 1 can ask for, in a
   process of its own: its peak memory;
4. from these a table: what all 45,176 images cost on 1, 8 and 64 machines like this one.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from reporting import options, report
from samples import peak_memory

from lhs.config import Config
from lhs.context.histograms import to_sparse
from lhs.hierarchy.classes import common_classes
from lhs.loading import load_config

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.data.partly_labelled import PUBLISHED, write_partly_labelled

SIZES = (500, 1000, 2000, 4000)
SIDE = 160
"""Pixels of a well labelled image's side; the others have twice as many pixels."""
MACHINES = (1, 8, 64)
LMSUN = PUBLISHED["lmsun"]
SAMPLES, CHUNK, KINDS = 5_000_000, 50_000, 40
ROUNDS = 2
CORES = multiprocessing.cpu_count()


def stage_config(root: Path, storage: Path, images: int) -> Config:
    """LM+Sun's recipe, unaugmented, so many training images."""
    settings = [f"data.root={root}", f"data.max_train={images}", f"storage={storage}"]
    return load_config("lmsun-overfeat-s-lc", [*settings, "context.variants=0"])


def run_stages(root: Path, images: int, *, watched: bool) -> dict[str, Any]:
    """Run the two stages: seconds, samples and stored bytes, or (`watched`) peak MB.

    Not both at once: reading the memory of all of Ray's processes takes its own share of a core.
    """
    from lhs.engine.cache import Stages
    from lhs.engine.graph import HISTOGRAMS, SAMPLES, annotated_scenes
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.storage import Storage

    with tempfile.TemporaryDirectory() as folder, connected():
        config = stage_config(root, Path(folder), images)
        stages = Stages(Storage(folder))
        annotated_scenes(stages, config)
        if watched:
            with peak_memory() as peak:
                stages.make(HISTOGRAMS, config)
            return {"peak_mb": peak.highest / 2**20}
        started = time.perf_counter()
        samples, histograms = stages.make(SAMPLES, config), stages.make(HISTOGRAMS, config)
        seconds = time.perf_counter() - started
        stored = sum(path.stat().st_size for path in Path(histograms.path, "rows").iterdir())
    common = common_classes(np.array(samples.facts["class_counts"]), config.hierarchy.rho)
    return {
        "seconds": seconds,
        "samples": samples.facts["samples"],
        "bytes_a_sample": stored / samples.facts["samples"],
        "common_classes": len(common),
    }


def write_samples(folder: Path) -> None:
    """Rows of one class, as the histogram stage leaves them: 2 to 8 of 232 classes around each."""
    from lhs.engine.stages.samples import HISTOGRAMS

    rng = np.random.default_rng(0)
    seen = [rng.choice(LMSUN.classes, rng.integers(2, 9), replace=False) for _ in range(KINDS)]
    mixtures = [rng.dirichlet(np.full(len(classes), 1.5)) for classes in seen]
    folder.mkdir(parents=True)
    for part in range(SAMPLES // CHUNK):
        counts = np.zeros((CHUNK, LMSUN.classes), np.int32)
        kinds = rng.integers(KINDS, size=CHUNK)
        for kind, (classes, mixture) in enumerate(zip(seen, mixtures, strict=True)):
            rows = np.flatnonzero(kinds == kind)
            shares = rng.gamma(mixture * 8 + 0.05, size=(len(rows), len(classes)))
            shares /= shares.sum(axis=1, keepdims=True)
            counts[rows[:, None], classes] = np.rint(shares * 129**2)
        sparse = to_sparse(counts)
        offsets = pa.array(sparse.offsets.astype(np.int32))
        columns = [
            pa.array([f"image {part:03}/{row // 100:03}" for row in range(CHUNK)]),
            np.zeros(CHUNK, np.int16),
            (np.arange(CHUNK) % 100).astype(np.int32),
            np.zeros(CHUNK, np.int32),
            np.zeros(CHUNK, np.uint16),
            np.full(CHUNK, 300, np.int32),
            pa.ListArray.from_arrays(offsets, pa.array(sparse.bins, pa.uint16())),
            pa.ListArray.from_arrays(offsets, pa.array(sparse.counts, pa.int32())),
        ]
        pq.write_table(pa.table(columns, schema=HISTOGRAMS), folder / f"{part:03}.parquet")


def cluster_all(folder: Path) -> dict[str, Any]:
    """Cluster them as the hierarchy's task does: seconds, peak GiB of this process, clusters."""
    from lhs.engine.stages.hierarchy import cluster_label
    from lhs.engine.storage import Storage

    config = stage_config(folder, folder, SAMPLES)
    started = time.perf_counter()
    found = cluster_label(Storage(str(folder)), str(folder), 0, LMSUN.classes, config, 0, "sklearn")
    return {
        "cluster_seconds": time.perf_counter() - started,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "clusters": len(found.sizes),
        "fits": len(found.trace),
        "assigned": int(found.sizes.sum()),
    }


def in_a_process(part: str, folder: Path, images: int = 0) -> dict[str, Any]:
    """One of the above, alone in a process; its figures."""
    command = [sys.executable, __file__, "--part", part, "--data-root", str(folder)]
    done = subprocess.run(
        [*command, "--images", str(images)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(part, images or SAMPLES, found, file=sys.stderr, flush=True)
    return found


def cost_table(slope: float, fixed: float, a_million: float, per_image: float, common: int) -> str:
    """Seconds of LM+Sun's stages by number of machines, each figure with its arithmetic."""
    millions = per_image * LMSUN.train / 1e6
    lines = [
        f"A machine has {CORES} cores. Samples and histograms: {fixed:.0f} s to start and "
        f"{1000 * slope:.1f} ms an image.",
        f"Clustering: {a_million:.0f} s a million samples with a machine to itself, "
        f"{per_image:.0f} samples an image, {common} common classes as if all were of one size.",
        "",
        "| machines | images each | samples and histograms | classes in turn | clustering |",
        "|---|---|---|---|---|",
    ]
    for machines in MACHINES:
        images = math.ceil(LMSUN.train / machines)
        turns = math.ceil(common / machines)
        clustering = turns * a_million * millions / common
        lines.append(
            f"| {machines} | {images} | {fixed + slope * images:.0f} s | {turns} "
            f"| {clustering:.0f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--part", choices=("time", "memory", "cluster"), help="for the script")
    parser.add_argument("--images", type=int, help="for the script itself")
    arguments = parser.parse_args()
    if arguments.part == "cluster":
        print(json.dumps(cluster_all(arguments.data_root)))
        return
    if arguments.part:
        watched = arguments.part == "memory"
        print(json.dumps(run_stages(arguments.data_root, arguments.images, watched=watched)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_partly_labelled(folder / "lmsun", "lmsun", train=max(SIZES), test=4, side=SIDE)
        rounds = [[in_a_process("time", folder, n) for n in SIZES] for _ in range(ROUNDS)]
        # Of each size the run that least else on the machine disturbed.
        timed = [
            min(found, key=lambda one: float(one["seconds"])) for found in zip(*rounds, strict=True)
        ]
        watched = [in_a_process("memory", folder, images) for images in SIZES]
        write_samples(folder / "millions" / "rows")
        clustered = in_a_process("cluster", folder / "millions")
    seconds = np.array([found["seconds"] for found in timed])
    slope, fixed = np.polyfit(SIZES, seconds, 1)
    line = fixed + slope * np.array(SIZES)
    peaks = [found["peak_mb"] for found in watched]
    largest = timed[-1]
    a_million = clustered["cluster_seconds"] / (SAMPLES / 1e6)
    per_image = largest["samples"] / max(SIZES)
    print(cost_table(slope, fixed, a_million, per_image, largest["common_classes"]))
    dense = 4 * LMSUN.classes
    report(
        "scale",
        {"images": SIZES, "stages": timed, "peaks": peaks, "clustering": clustered},
        {
            "largest distance from a straight line": (
                float(np.abs(seconds / line - 1).max()), "<=", 0.1,
            ),
            "peak memory, most against fewest images": (peaks[-1] / peaks[0], "<=", 1.1),
            "stored bytes a sample, against dense float32": (
                largest["bytes_a_sample"] / dense, "<=", 0.1,
            ),
            "GiB to cluster five million samples": (clustered["peak_gib"], "<=", 8.0),
            "samples that have a cluster": (clustered["assigned"], "==", SAMPLES),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
