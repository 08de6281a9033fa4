"""LC: subclasses of the common classes from clusters of label histograms (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lhs.hierarchy.clustering import ClassClusters
from lhs.hierarchy.kmeans import Backend
from lhs.hierarchy.making import parts_of_clusters
from lhs.hierarchy.model import Hierarchy


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
    parts = parts_of_clusters(
        classes=classes, counts=counts, clusters=clusters, rho=rho, region=region,
        k_scale=k_scale, n_star=n_star, seed=seed, backend=backend,
        max_fit_samples=max_fit_samples,
    )  # fmt: skip
    return Hierarchy.of_parts(dataset, classes, parts)
