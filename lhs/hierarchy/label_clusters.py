"""LC: subclasses of the common classes from clusters of label histograms (METHOD section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lhs.context.histograms import check_region
from lhs.data.scenes import void_of
from lhs.hierarchy.classes import common_classes, least_size
from lhs.hierarchy.clustering import ClassClusters
from lhs.hierarchy.kmeans import Backend
from lhs.hierarchy.model import Hierarchy, Subclass


def from_label_clusters(
    *,
    dataset: str,
    classes: Sequence[str],
    counts: np.ndarray,
    clusters: Mapping[int, ClassClusters],
    rho: float,
    region: float,
    k_scale: float,
    n_star: int | str,
    seed: int,
    backend: Backend,
    max_fit_samples: int | None = None,
) -> Hierarchy:
    """Assemble a hierarchy from the clusters of each common class.

    Parameters
    ----------
    dataset
        The dataset's name.
    classes
        L class names.
    counts
        (L,) samples of each class.
    clusters
        Of each common class (`common_classes(counts, rho)`), from `cluster_class` with
        `min_size=least_size(n_star, counts, common)` and the settings below.
    rho, region, k_scale, n_star, seed, backend, max_fit_samples
        Settings of the clustering; `backend` as resolved by `pick_backend`.

    Returns
    -------
    Hierarchy
        Subclasses are named `class/1`, `class/2`, the largest first; a rare class is its own single
        subclass, under its own name.

    Raises
    ------
    lhs.errors.UserError
        If a setting is out of range.
    ValueError
        If `clusters` are not those of the common classes.
    """
    check_region(region)
    counts = np.asarray(counts, np.int64)
    common = common_classes(counts, rho)
    if sorted(clusters) != sorted(common.tolist()):
        raise ValueError(f"clusters of {sorted(clusters)}, common classes {sorted(common)}")
    subclasses, clusterings = [], []
    for label, name in enumerate(classes):
        if label not in clusters:
            subclasses.append(Subclass(name, label, int(counts[label])))
            continue
        found = clusters[label]
        for place, (size, centre) in enumerate(zip(found.sizes, found.centres, strict=True), 1):
            subclasses.append(Subclass(f"{name}/{place}", label, int(size), centre=centre))
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
    return Hierarchy(dataset, tuple(classes), void_of(len(classes)), tuple(subclasses), made)
