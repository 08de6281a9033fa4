"""Algorithm 1 and the clusters of one class (METHOD section 3, paper section 3.1.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import numpy as np

from lhs.errors import UserError
from lhs.hierarchy.distinct import Rows, distinct_rows
from lhs.hierarchy.kmeans import Backend, KMeansFit, fit_kmeans, nearest_centres
from lhs.hierarchy.sparse_rows import Values

log = logging.getLogger(__name__)

FEWEST_CLUSTERS = 2
MOST_CLUSTERS = 15
MAX_ITERATIONS = 100


class Trial(NamedTuple):
    """One step of Algorithm 1."""

    clusters: int
    iterations: int
    converged: bool
    smallest: int  # samples of the smallest cluster


@dataclass(frozen=True, eq=False)
class ClusterSearch:
    """The result of Algorithm 1."""

    count: int
    """K_j."""
    trace: list[Trial]
    """The fits made, in order."""
    fit: KMeansFit | None
    """The fit with `count` clusters, on the rows of `rows`; None if none was made."""
    rows: Rows
    """All samples."""
    fitting: Rows
    """Those that k-means was fitted on."""


@dataclass(frozen=True, eq=False)
class ClassClusters:
    """The clusters of one class, the largest first."""

    centres: np.ndarray
    """(K, L) float32."""
    labels: np.ndarray
    """(N,) int32 cluster of each sample, the nearest centre."""
    sizes: np.ndarray
    """(K,) int64 samples of each cluster, descending."""
    count: int
    """K_j of Algorithm 1, before `k_scale`."""
    trace: list[Trial]
    fitted_on: int
    """Samples that k-means saw: all, or `max_fit_samples` of them."""
    iterations: int
    converged: bool


def choose_cluster_count(
    histograms: np.ndarray,
    min_size: int,
    seed: int,
    *,
    weights: np.ndarray | None = None,
    backend: Backend = "sklearn",
) -> int:
    """Choose the number of clusters of one class by Algorithm 1, literally.

    K = 2; for i = 2..15: k-means with i clusters and at most 100 iterations; not converged: next
    i; every cluster has more than `min_size` samples: K = i, otherwise stop. With fewer distinct
    histograms than i it stops with a logged warning.

    Parameters
    ----------
    histograms
        (N, L) normalised histograms of the class's samples.
    min_size
        n*, samples that every cluster must exceed.
    seed
        Of k-means.
    weights
        (N,) whole numbers, samples that each row represents; 1 each by default.
    backend
        `sklearn` or `cuml`.

    Returns
    -------
    int
        K_j, from 2 to 15. As in the paper it is 2 even if two clusters are too small.
    """
    return search_cluster_counts(histograms, min_size, seed, weights=weights, backend=backend).count


def search_cluster_counts(
    histograms: Values,
    min_size: int,
    seed: int,
    *,
    weights: np.ndarray | None = None,
    backend: Backend = "sklearn",
    max_fit_samples: int | None = None,
) -> ClusterSearch:
    """Run Algorithm 1 and keep its trace.

    The fits do not depend on `min_size`, so one search with `min_size=0` makes every fit and
    `count_from_trace` then gives K_j for any n*.

    Parameters
    ----------
    histograms, min_size, seed, weights, backend
        As for `choose_cluster_count`.
    max_fit_samples
        Fit on a seeded uniform sample of at most this many samples. Sizes are always counted over
        all samples, so `min_size` keeps its meaning.

    Returns
    -------
    ClusterSearch
    """
    rows = distinct_rows(histograms, weights)
    fitting = rows.sample(max_fit_samples, seed)
    count, trace, kept = FEWEST_CLUSTERS, [], None
    for clusters in range(FEWEST_CLUSTERS, MOST_CLUSTERS + 1):
        if fitting.distinct < clusters:
            log.warning(
                "Algorithm 1 stops: %d distinct label histograms cannot make %d clusters",
                fitting.distinct,
                clusters,
            )
            break
        fit = _fit(rows, fitting, clusters, seed, backend)
        sizes = rows.cluster_sizes(fit.labels, clusters)
        trial = Trial(clusters, fit.iterations, fit.iterations < MAX_ITERATIONS, int(sizes.min()))
        trace.append(trial)
        accepted = count_from_trace([trial], min_size, count)
        if clusters == FEWEST_CLUSTERS or accepted > count:
            count, kept = accepted, fit
        if trial.converged and trial.smallest <= min_size:
            break
    return ClusterSearch(count, trace, kept, rows, fitting)


def count_from_trace(trace: Iterable[Trial], min_size: int, count: int = FEWEST_CLUSTERS) -> int:
    """K_j of Algorithm 1 for a bound n*, from the trace of a search.

    Parameters
    ----------
    trace
        Of a search with a `min_size` not above this one (0 is right for all).
    min_size
        n*.
    count
        K_j before the trace's first step.

    Returns
    -------
    int
        K_j.

    Examples
    --------
    >>> count_from_trace([Trial(2, 9, True, 40), Trial(3, 100, False, 7), Trial(4, 8, True, 9)], 8)
    4
    """
    for trial in trace:
        if not trial.converged:
            continue
        if trial.smallest <= min_size:
            break
        count = trial.clusters
    return count


def scaled_count(count: int, k_scale: float) -> int:
    """Scale K_j, rounded to the nearest whole number (halves up), at least 1.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.k_scale`, if it is not above 0 and finite.
    """
    if not 0 < k_scale < float("inf"):
        raise UserError(f"hierarchy.k_scale: found {k_scale!r}, allowed are numbers above 0")
    # Decimal, so that 1.1 * 5 is the 5.5 that the user wrote.
    scaled = (Decimal(str(k_scale)) * count).quantize(Decimal(1), ROUND_HALF_UP)
    return max(1, int(scaled))


def cluster_class(
    histograms: Values,
    *,
    min_size: int,
    k_scale: float = 1.0,
    seed: int,
    backend: Backend = "sklearn",
    max_fit_samples: int | None = None,
    bins: np.ndarray | None = None,
    num_classes: int | None = None,
) -> ClassClusters:
    """Cluster the samples of one common class: Algorithm 1, then k-means with its K_j scaled.

    With fewer distinct histograms than clusters, each distinct histogram is a cluster.

    Parameters
    ----------
    histograms
        (N, L) normalised histograms of the class's samples, or (N, P) with only the bins that
        occur; `SparseRows` are made dense a chunk at a time.
    min_size
        n* of Algorithm 1, compared with sizes over all N samples.
    k_scale
        Factor on K_j. At 1 Algorithm 1's own fit is used.
    seed
        Of k-means and of the sample.
    backend
        `sklearn` or `cuml`.
    max_fit_samples
        Above this many samples k-means is fitted on a seeded uniform sample of this size, and all
        samples are assigned to its centres in chunks.
    bins
        (P,) class ids of the columns, if `histograms` has only those.
    num_classes
        L, needed with `bins`.

    Returns
    -------
    ClassClusters

    Raises
    ------
    lhs.errors.UserError
        If `k_scale` is not above 0.
    ValueError
        If there are no samples.
    """
    if not len(histograms):
        raise ValueError("a class without samples has no clusters")
    search = search_cluster_counts(
        histograms, min_size, seed, backend=backend, max_fit_samples=max_fit_samples
    )
    rows, fitting = search.rows, search.fitting
    clusters = min(scaled_count(search.count, k_scale), fitting.distinct)
    fit = search.fit
    if fit is None or len(fit.centres) != clusters:
        fit = _fit(rows, fitting, clusters, seed, backend)
    sizes = rows.cluster_sizes(fit.labels, clusters)
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rank = np.zeros(clusters, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    # Means of histograms; values below zero are rounding errors of k-means.
    centres = np.maximum(fit.centres[order], 0)
    if bins is not None:
        if num_classes is None:
            raise ValueError("bins without num_classes")
        narrow = centres
        centres = np.zeros((len(narrow), num_classes), np.float32)
        centres[:, bins] = narrow
    return ClassClusters(
        centres=centres,
        labels=rows.per_sample(rank[fit.labels]),
        sizes=sizes[order],
        count=search.count,
        trace=search.trace,
        fitted_on=fitting.samples,
        iterations=fit.iterations,
        converged=fit.iterations < MAX_ITERATIONS,
    )


def _fit(rows: Rows, fitting: Rows, clusters: int, seed: int, backend: Backend) -> KMeansFit:
    """Fit on some rows, and label all of them."""
    fit = fit_kmeans(
        fitting.values,
        clusters,
        seed=seed,
        max_iterations=MAX_ITERATIONS,
        weights=fitting.weights,
        backend=backend,
    )
    if fitting is rows:
        return fit
    return fit._replace(labels=nearest_centres(rows.values, fit.centres, backend=backend))
