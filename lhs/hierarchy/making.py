"""LC from samples that one process takes: subclasses of the common classes (METHOD section 3).

It returns what a `Hierarchy` is made of, and knows nothing of that class. The stages of
`lhs.engine` share the samples' work out to many processes and assemble the same parts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from lhs.config import Config
from lhs.context.extraction import histogram_rows, sample_rows
from lhs.context.histograms import (
    SparseHistograms,
    check_region,
    class_counts,
    label_histograms,
    to_sparse,
)
from lhs.data.dataset import Dataset
from lhs.data.scenes import void_of
from lhs.errors import UserError
from lhs.hierarchy.classes import common_classes, least_size
from lhs.hierarchy.clustering import ClassClusters, cluster_class
from lhs.hierarchy.kmeans import Backend, pick_backend
from lhs.hierarchy.sparse_rows import SparseRows


class Parts(NamedTuple):
    """What a hierarchy is made of, besides its classes.

    Attributes
    ----------
    subclasses
        Fields of each `Subclass`, ordered by class.
    made
        See `lhs.hierarchy.document.Made`.
    """

    subclasses: list[dict[str, Any]]
    made: dict[str, Any]


def parts_of_clusters(
    *,
    classes: Sequence[str],
    counts: np.ndarray,
    clusters: Mapping[int, ClassClusters],
    rho: float,
    region: float,
    k_scale: float,
    n_star: int | str,
    seed: int,
    backend: Backend,
    max_fit_samples: int | None,
) -> Parts:
    """Assemble the parts: see `lhs.hierarchy.label_clusters.from_label_clusters`."""
    check_region(region)
    counts = np.asarray(counts, np.int64)
    common = common_classes(counts, rho)
    if sorted(clusters) != sorted(common.tolist()):
        raise ValueError(f"clusters of {sorted(clusters)}, common classes {sorted(common)}")
    subclasses: list[dict[str, Any]] = []
    clusterings = []
    for label, name in enumerate(classes):
        if label not in clusters:
            subclasses.append({"name": name, "parent": label, "count": int(counts[label])})
            continue
        found = clusters[label]
        for place, (size, centre) in enumerate(zip(found.sizes, found.centres, strict=True), 1):
            subclasses.append(
                {"name": f"{name}/{place}", "parent": label, "count": int(size), "centre": centre}
            )
        clusterings.append(
            {
                "parent": label,
                "k": found.count,
                "fitted_on": found.fitted_on,
                "iterations": found.iterations,
                "converged": found.converged,
                "trace": [trial._asdict() for trial in found.trace],
            }
        )
    made = {
        "kind": "label_clusters",
        "rho": float(rho),
        "common_classes": common.tolist(),
        "class_counts": counts.tolist(),
        "region": "inf" if math.isinf(region) else int(region),
        "k_scale": float(k_scale),
        "n_star": n_star if isinstance(n_star, str) else int(n_star),
        "min_size": least_size(n_star, counts, common),
        "seed": int(seed),
        "backend": backend,
        "max_fit_samples": max_fit_samples,
        "clusterings": clusterings,
    }
    return Parts(subclasses, made)


def parts_from_label_maps(
    label_maps: Iterable[np.ndarray],
    classes: Sequence[str],
    *,
    step: int,
    rho: float,
    region: float,
    k_scale: float,
    n_star: int | str,
    seed: int,
    backend: str,
    max_fit_samples: int,
) -> Parts:
    """Sample label maps on a grid, and cluster: see `Hierarchy.from_label_maps`."""
    if step < 1:
        raise UserError(f"step: found {step}, allowed are whole numbers of pixels from 1")
    void = void_of(len(classes))

    def counted(label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label_map = np.asarray(label_map)
        class_counts(label_map, len(classes), void)  # refuses ids that are no class
        axes = [np.arange(min(step // 2, (side - 1) // 2), side, step) for side in label_map.shape]
        centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        labels = label_map[centres[:, 0], centres[:, 1]]
        centres, labels = centres[labels != void], labels[labels != void]
        return labels, label_histograms(label_map, centres, region, len(classes), void)

    parts = _clustered(
        map(counted, label_maps), classes, rho=rho, region=region, k_scale=k_scale, n_star=n_star,
        seed=seed, backend=pick_backend(backend), max_fit_samples=max_fit_samples,
    )  # fmt: skip
    parts.made["grid"] = step
    return parts


def parts_from_scenes(dataset: Dataset, config: Config) -> Parts:
    """Sample superpixels of augmented images, and cluster: see `Hierarchy.from_scenes`."""
    settings, context = config.hierarchy, config.context
    if settings.kind != "label_clusters":
        raise UserError(
            f"hierarchy.kind = {settings.kind}: allowed here is label_clusters; `lhs hierarchy` "
            "makes the other kinds"
        )
    variants = [
        (scene, number)
        for scene in dataset.split("train")
        for number in range(context.variants + 1)
    ]

    def counted(place: int) -> tuple[np.ndarray, np.ndarray]:
        scene, number = variants[place]
        rows = sample_rows(
            scene, number, superpixel_size=context.superpixel_size, seed=context.seed,
            void=dataset.void,
        )  # fmt: skip
        # As the stage sorts its rows: k-means depends on their order.
        order = np.lexsort((rows.centres[:, 1], rows.centres[:, 0]))
        centres = rows.centres[order]
        histograms = histogram_rows(
            dataset, scene, number, centres, region=settings.region, seed=context.seed
        )
        return rows.classes[order], histograms

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return _clustered(
            pool.map(counted, range(len(variants))), dataset.classes, rho=settings.rho,
            region=settings.region, k_scale=settings.k_scale, n_star=settings.n_star,
            seed=settings.seed, backend=pick_backend(settings.backend),
            max_fit_samples=settings.max_fit_samples,
        )  # fmt: skip


def _clustered(
    samples: Iterator[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    *,
    rho: float,
    n_star: int | str,
    max_fit_samples: int,
    backend: Backend,
    **settings: Any,
) -> Parts:
    """Cluster the common classes of samples: labels (N,) and histograms (N, L) of each image."""
    counts = np.zeros(len(classes), np.int64)
    found: list[list[SparseHistograms]] = [[] for _ in classes]
    for labels, histograms in samples:
        counts += np.bincount(labels, minlength=len(classes))
        for label in np.unique(labels).tolist():
            found[label].append(to_sparse(histograms[labels == label]))
    if not counts.sum():
        raise UserError("no sample carries a label, so there is nothing to cluster")
    common = common_classes(counts, rho)
    clusters = {}
    for label in common.tolist():
        rows = SparseRows(_joined(found[label]))
        clusters[label] = cluster_class(
            rows if len(rows) > max_fit_samples else rows[:],
            min_size=least_size(n_star, counts, common),
            k_scale=settings["k_scale"],
            seed=settings["seed"],
            backend=backend,
            max_fit_samples=max_fit_samples,
            bins=rows.bins,
            num_classes=len(classes),
        )
    return parts_of_clusters(
        classes=classes, counts=counts, clusters=clusters, rho=rho, n_star=n_star, backend=backend,
        max_fit_samples=max_fit_samples, **settings,
    )  # fmt: skip


def _joined(parts: Sequence[SparseHistograms]) -> SparseHistograms:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return SparseHistograms(
        np.concatenate([part.bins for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
