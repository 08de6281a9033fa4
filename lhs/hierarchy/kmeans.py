"""One k-means fit, by scikit-learn or by cuML."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from lhs.errors import UserError
from lhs.hierarchy.sparse_rows import Values

log = logging.getLogger(__name__)

Backend = Literal["sklearn", "cuml"]
TOLERANCE = 1e-4
GPU_STARTS = 1
"""k-means++ starts of a fit by cuML, of which it keeps the best. As many as scikit-learn makes
here, until they are measured on a GPU: with cuML's default start, `scalable-k-means++`, inertia was
3 to 10 % above scikit-learn's (one H100), and Algorithm 1's K_j depends on these fits. With weights
the start is scikit-learn's, and there is one."""
GPU_ROWS = 20_000
"""Rows from which the `cuml` backend uses the GPU; below, scikit-learn fits. Estimated,
not measured: 300,000 rows of 33 columns took scikit-learn 1.15 s and cuML 0.04 s (K = 15, one
H100), so at this number scikit-learn takes less than 0.1 s."""
_ASSIGN_ROWS = 65536


class KMeansFit(NamedTuple):
    """The outcome of one k-means run on N rows of L values."""

    centres: np.ndarray  # (K, L) float32
    labels: np.ndarray  # (N,) int32, the nearest centre of each row
    iterations: int
    inertia: float  # (weighted) sum of squared distances to the nearest centre


class CumlProbe(NamedTuple):
    """Whether cuML can run on this machine."""

    state: Literal["runs", "no GPU", "not installed", "broken"]
    reason: str
    """Why it cannot, for people; empty if it runs."""


NO_GPU = CumlProbe("no GPU", "there is no GPU")


def probe_cuml() -> CumlProbe:
    """Look for a GPU, and import cuML where there is one."""
    if not _has_gpu():
        return NO_GPU
    if importlib.util.find_spec("cuml") is None:
        return CumlProbe(
            "not installed", 'there is a GPU, and cuML is not installed: pip install "lhs[gpu]"'
        )
    try:
        with warnings.catch_warnings():
            # Deprecations inside these packages do not matter here.
            warnings.simplefilter("ignore")
            import cuml.cluster  # noqa: F401
            import cupy

        # cuML imports without a usable GPU and then fails in `fit`. This call raises the reason,
        # such as a driver that is too old; `cupy.cuda.is_available` does not.
        if not cupy.cuda.runtime.getDeviceCount():
            return CumlProbe("broken", "cupy sees no GPU, though the NVIDIA driver does")
    except Exception as error:  # a broken CUDA installation raises all kinds of errors
        return CumlProbe("broken", f"{type(error).__name__}: {error}")
    return CumlProbe("runs", "")


def pick_backend(setting: str, probe: CumlProbe | None = None) -> Backend:
    """Resolve `hierarchy.backend`.

    `auto` is cuML if it runs, otherwise scikit-learn. A GPU that is not used because cuML is
    missing or broken is reported by a logged warning.

    Parameters
    ----------
    setting
        `auto`, `sklearn` or `cuml`.
    probe
        The result of `probe_cuml` on the machine that clusters; by default this one.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.backend`, if cuML is asked for and cannot run, with the reason, or for an
        unknown name.
    """
    if setting == "sklearn":
        return "sklearn"
    if setting not in ("auto", "cuml"):
        raise UserError(
            f"hierarchy.backend: found {setting!r}, allowed are 'auto', 'sklearn' and 'cuml'"
        )
    found = probe or probe_cuml()
    if found.state == "runs":
        return "cuml"
    if setting == "cuml":
        raise UserError(
            f"hierarchy.backend: found 'cuml', which cannot run here: {found.reason}; allowed are "
            "'auto' and 'sklearn'"
        )
    if found.state == "not installed":
        log.warning("clustering by scikit-learn: %s", found.reason)
    elif found.state == "broken":
        log.warning("clustering by scikit-learn: cuML cannot run here: %s", found.reason)
    return "sklearn"


def fit_kmeans(
    histograms: Values,
    clusters: int,
    *,
    seed: int,
    max_iterations: int = 100,
    weights: np.ndarray | None = None,
    backend: Backend = "sklearn",
) -> KMeansFit:
    """Run k-means once, from a k-means++ start.

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
        `sklearn` (CPU) or `cuml` (GPU), see `pick_backend`. With fewer than `GPU_ROWS` rows
        scikit-learn fits in both cases.

    Returns
    -------
    KMeansFit
    """
    histograms = np.ascontiguousarray(histograms, np.float32)
    fit = _fit_cuml if backend == "cuml" and len(histograms) >= GPU_ROWS else _fit_sklearn
    fitted = fit(histograms, clusters, seed, max_iterations, weights)
    return KMeansFit(
        np.asarray(fitted.cluster_centers_, np.float32),
        np.asarray(fitted.labels_, np.int32),
        int(fitted.n_iter_),
        float(fitted.inertia_),
    )


def nearest_centres(
    histograms: Values,
    centres: np.ndarray,
    squares: np.ndarray | None = None,
    backend: Backend = "sklearn",
) -> np.ndarray:
    """Assign rows to their nearest centre, in float64 and in chunks of bounded memory.

    Parameters
    ----------
    histograms
        (N, L) rows.
    centres
        (K, L) centres.
    squares
        (K,) squared norms of the centres, if columns that are zero in every row were left out of
        both arrays.
    backend
        `sklearn` (CPU) or `cuml` (GPU, from `GPU_ROWS` rows on).

    Returns
    -------
    labels
        (N,) int32, the lower id if two are equally near.
    """
    labels = np.empty(len(histograms), np.int32)
    centres = np.asarray(centres, np.float64)
    if squares is None:
        squares = np.einsum("kl,kl->k", centres, centres)
    assign = _assign_cupy if backend == "cuml" and len(histograms) >= GPU_ROWS else _assign_numpy
    for start in range(0, len(histograms), _ASSIGN_ROWS):
        rows = np.asarray(histograms[start : start + _ASSIGN_ROWS])
        labels[start : start + len(rows)] = assign(rows, centres, squares)
    return labels


def _assign_numpy(rows: np.ndarray, centres: np.ndarray, squares: np.ndarray) -> np.ndarray:
    return (squares - 2 * np.asarray(rows, np.float64) @ centres.T).argmin(axis=1)


def _assign_cupy(rows: np.ndarray, centres: np.ndarray, squares: np.ndarray) -> np.ndarray:
    import cupy

    # Converted to float64 on the device. Like numpy's, cupy's argmin takes the lower of two ids.
    on_device = cupy.asarray(rows).astype(cupy.float64)
    distances = cupy.asarray(squares) - 2 * on_device @ cupy.asarray(centres).T
    return np.asarray(cupy.asnumpy(distances.argmin(axis=1)))


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
    # One thread: two add up in another order. How many there are would depend on what the process
    # did before, since scikit-learn uses torch's threads if torch was imported first.
    with threadpool_limits(1), warnings.catch_warnings():
        # It only warns of fewer distinct rows than clusters.
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

    start: Any = "k-means++"
    if weights is not None:
        # cuML's own start counts each row once, whatever its weight.
        from sklearn.cluster import kmeans_plusplus
        from threadpoolctl import threadpool_limits

        # One thread, as in `_fit_sklearn`.
        with threadpool_limits(1):
            start, _ = kmeans_plusplus(
                histograms, clusters, sample_weight=weights, random_state=seed
            )
    kmeans = KMeans(
        n_clusters=clusters,
        init=start,
        n_init=GPU_STARTS,
        max_iter=max_iterations,
        # scikit-learn's is relative to the variance. cuML's is not, and ends a fit as well once
        # inertia falls by less than this share.
        tol=max(TOLERANCE * float(histograms.var(axis=0, dtype=np.float64).mean()), 1e-12),
        random_state=seed,
        output_type="numpy",
    )
    return kmeans.fit(histograms, sample_weight=weights)


def _has_gpu() -> bool:
    """Ask the NVIDIA driver itself: cupy reports a machine without a driver as one too old."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    no_device = 100
    return driver.cuInit(0) != no_device
