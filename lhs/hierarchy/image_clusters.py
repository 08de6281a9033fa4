"""IC: subclasses of the common classes from clusters of whole images (METHOD section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lhs.data.scenes import void_of
from lhs.errors import UserError
from lhs.hierarchy.classes import common_classes
from lhs.hierarchy.clustering import MAX_ITERATIONS
from lhs.hierarchy.kmeans import Backend, fit_kmeans
from lhs.hierarchy.model import Hierarchy
from lhs.hierarchy.scene_names import scene_subclasses


def cluster_images(
    descriptors: np.ndarray, clusters: int, seed: int, backend: Backend = "sklearn"
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster images by k-means on their descriptors.

    Parameters
    ----------
    descriptors
        (N, D) one row an image.
    clusters
        K, from 1.
    seed
        Of k-means.
    backend
        `sklearn` or `cuml`.

    Returns
    -------
    labels
        (N,) int32 cluster of each image, 0 the one of the most images.
    centres
        (K, D) float32.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.image_clusters`, if fewer images differ.
    """
    descriptors = np.ascontiguousarray(descriptors, np.float32)
    distinct = len(np.unique(descriptors, axis=0))
    if distinct < clusters:
        raise UserError(
            f"hierarchy.image_clusters = {clusters}: only {distinct} training images differ; "
            "allowed are as many clusters at most"
        )
    fit = fit_kmeans(
        descriptors, clusters, seed=seed, max_iterations=MAX_ITERATIONS, backend=backend
    )
    order = np.argsort(-np.bincount(fit.labels, minlength=clusters), kind="stable")
    rank = np.empty(clusters, np.int32)
    rank[order] = np.arange(clusters, dtype=np.int32)
    return rank[fit.labels], fit.centres[order]


def cluster_name(cluster: int) -> str:
    """The name of a cluster, used like a scene name; the first is `cluster1`."""
    return f"cluster{cluster + 1}"


def from_image_clusters(
    *,
    kind: str,
    dataset: str,
    classes: Sequence[str],
    counts: np.ndarray,
    images: Mapping[str, int],
    centres: np.ndarray,
    rho: float,
    described_by: str,
    seed: int,
    backend: Backend,
) -> Hierarchy:
    """Split each common class by its images' clusters; only pairs that occur become subclasses.

    Parameters
    ----------
    kind
        `image_clusters` or `image_embedding`.
    dataset
        The dataset's name.
    classes
        L class names.
    counts
        (K, L) samples of each class in images of each cluster.
    images
        Cluster of each training image, by its id.
    centres
        (K, D) float32, from `cluster_images`.
    rho
        Share of the common classes, see `common_classes`.
    described_by
        The kind of descriptors, for people.
    seed, backend
        Settings of the clustering.

    Returns
    -------
    Hierarchy
        Subclasses are named `cluster1+class`; a rare class is its own single subclass, under its
        own name. The file holds the centres and the cluster of every training image, which can't be
        derived from label maps.

    Raises
    ------
    lhs.errors.UserError
        If `rho` is outside (0, 1].
    """
    names = [cluster_name(cluster) for cluster in range(len(centres))]
    counts = np.asarray(counts, np.int64).reshape(len(names), len(classes))
    totals = counts.sum(axis=0)
    common = common_classes(totals, rho)
    made = {
        "kind": kind,
        "rho": float(rho),
        "common_classes": common.tolist(),
        "class_counts": totals.tolist(),
        "seed": int(seed),
        "backend": backend,
        "described_by": described_by,
        # The shortest decimal of a float32 reads back as the same float32.
        "image_centres": {
            name: [float(str(value)) for value in centre]
            for name, centre in zip(names, centres.astype(np.float32), strict=True)
        },
        "images": {image: names[images[image]] for image in sorted(images)},
    }
    return Hierarchy(
        dataset,
        tuple(classes),
        void_of(len(classes)),
        scene_subclasses(classes, names, counts, common),
        made,
    )
