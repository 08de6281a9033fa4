"""The parts of `gpu.py`: each measures one thing, and notes each figure as soon as it has it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from gpu_bench import (
    BINS,
    CLUSTERS,
    DENSE,
    PATCHES,
    SEEDS,
    SIDE,
    SIZES,
    Bench,
    connected,
    quickest,
    random_model,
    run,
    save_random_lite,
    write_images,
)
from gpu_training import precision, resume, side_by_side, training, whole_run


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
