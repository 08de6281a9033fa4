"""One k-means fit, by scikit-learn or by cuML."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from lhs.errors import UserError
from lhs.hierarchy.sparse_rows import Values

Backend = Literal["sklearn", "cuml"]
TOLERANCE = 1e-4
_ASSIGN_ROWS = 65536


class KMeansFit(NamedTuple):
    """The outcome of one k-means run on N rows of L values."""

    centres: np.ndarray  # (K, L) float32
    labels: np.ndarray  # (N,) int32, the nearest centre of each row
    iterations: int
    inertia: float  # (weighted) sum of squared distances to the nearest centre


def pick_backend(backend: str) -> Backend:
    """Settle `auto`: cuML where it is installed and a GPU is there, otherwise scikit-learn.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.backend`, if cuML is asked for and cannot run here, or for an unknown
        name.
    """
    if backend == "sklearn":
        return "sklearn"
    if backend not in ("auto", "cuml"):
        raise UserError(
            f"hierarchy.backend: found {backend!r}, allowed are 'auto', 'sklearn' and 'cuml'"
        )
    if _cuml_runs():
        return "cuml"
    if backend == "auto":
        return "sklearn"
    raise UserError(
        "hierarchy.backend: found 'cuml', but cuML or a GPU is missing here; "
        "allowed are 'auto' and 'sklearn'"
    )


def fit_kmeans(
    histograms: Values,
    clusters: int,
    *,
    seed: int,
    max_iterations: int = 100,
    weights: np.ndarray | None = None,
    backend: Backend = "sklearn",
) -> KMeansFit:
    """Run k-means once, from one k-means++ start.

    A run has converged if it took fewer than `max_iterations` iterations, whatever the backend
    (METHOD section 3).

    Parameters
    ----------
    histograms
        (N, L) float32 rows.
    clusters
        K, from 1 to the number of distinct rows.
    seed
        Of the start. The same rows, weights and seed give the same fit with scikit-learn.
    max_iterations
        At most so many iterations.
    weights
        (N,) samples that each row stands for; 1 each by default.
    backend
        `sklearn` (CPU) or `cuml` (GPU), see `pick_backend`.

    Returns
    -------
    KMeansFit
    """
    histograms = np.ascontiguousarray(histograms, np.float32)
    fit = _fit_cuml if backend == "cuml" else _fit_sklearn
    fitted = fit(histograms, clusters, seed, max_iterations, weights)
    return KMeansFit(
        np.asarray(fitted.cluster_centers_, np.float32),
        np.asarray(fitted.labels_, np.int32),
        int(fitted.n_iter_),
        float(fitted.inertia_),
    )


def nearest_centres(
    histograms: Values, centres: np.ndarray, squares: np.ndarray | None = None
) -> np.ndarray:
    """Assign rows to their nearest centre, in chunks of bounded memory.

    Parameters
    ----------
    histograms
        (N, L) rows.
    centres
        (K, L) centres.
    squares
        (K,) squared norms of the centres, where columns that are zero in every row were left out
        of both arrays.

    Returns
    -------
    labels
        (N,) int32, the lower id where two are equally near.
    """
    labels = np.empty(len(histograms), np.int32)
    centres = np.asarray(centres, np.float64)
    if squares is None:
        squares = np.einsum("kl,kl->k", centres, centres)
    for start in range(0, len(histograms), _ASSIGN_ROWS):
        rows = np.asarray(histograms[start : start + _ASSIGN_ROWS], np.float64)
        labels[start : start + len(rows)] = (squares - 2 * rows @ centres.T).argmin(axis=1)
    return labels


def _fit_sklearn(
    histograms: np.ndarray,
    clusters: int,
    seed: int,
    max_iterations: int,
    weights: np.ndarray | None,
) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    kmeans = KMeans(
        clusters,
        init="k-means++",
        n_init=1,
        max_iter=max_iterations,
        tol=TOLERANCE,
        algorithm="lloyd",
        random_state=seed,
    )
    # One thread: two add up in another order, and whether there are two would hang on what the
    # process did before, since scikit-learn takes torch's where that was imported first.
    with threadpool_limits(1), warnings.catch_warnings():
        # It only tells of fewer distinct rows than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(histograms, sample_weight=weights)


def _fit_cuml(
    histograms: np.ndarray,
    clusters: int,
    seed: int,
    max_iterations: int,
    weights: np.ndarray | None,
) -> Any:
    from cuml.cluster import KMeans

    kmeans = KMeans(
        n_clusters=clusters,
        init="scalable-k-means++",
        n_init=1,
        max_iter=max_iterations,
        tol=TOLERANCE,
        random_state=seed,
        output_type="numpy",
    )
    return kmeans.fit(histograms, sample_weight=weights)


def _cuml_runs() -> bool:
    # cuML imports without a GPU and fails only in fit, so the GPU is asked for first.
    try:
        import cupy

        if not cupy.cuda.is_available():
            return False
        import cuml.cluster  # noqa: F401
    except Exception:  # a broken CUDA installation raises all kinds of errors
        return False
    return True
