"""Equal histograms counted once: at R = inf all samples of an image share one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lhs.hierarchy.sparse_rows import SparseRows, Values, select

# Folding rows pays if it leaves less than this share of them for k-means.
_WORTHWHILE = 0.5
_HASHED_ROWS = 16384


@dataclass(frozen=True, eq=False)
class Rows:
    """The samples of a class as rows with weights."""

    values: Values
    """(M, L) rows."""
    weights: np.ndarray | None
    """(M,) whole numbers, samples that each row represents; None is 1 each."""
    inverse: np.ndarray | None
    """(N,) row of each sample; None if samples and rows are the same."""
    distinct: int
    """Rows that differ from each other."""

    @property
    def samples(self) -> int:
        """Samples that the rows represent."""
        return len(self.values) if self.weights is None else int(self.weights.sum())

    def cluster_sizes(self, labels: np.ndarray, clusters: int) -> np.ndarray:
        """(K,) int64 samples of each cluster, from the (M,) cluster of each row."""
        sizes = np.bincount(labels, weights=self.weights, minlength=clusters)
        return np.rint(sizes).astype(np.int64)

    def per_sample(self, labels: np.ndarray) -> np.ndarray:
        """(N,) value of each sample, from the (M,) value of each row."""
        return labels if self.inverse is None else labels[self.inverse]

    def sample(self, most: int | None, seed: int) -> Rows:
        """Draw a uniform sample of the samples, without replacement; itself if few enough.

        Few distinct rows are all taken, however many samples they represent: the cost of k-means
        depends on the number of rows, not on their weights.
        """
        if most is None or len(self.values) <= most:
            return self
        drawn = np.random.default_rng(seed)
        if self.weights is None:
            chosen = np.sort(drawn.choice(len(self.values), most, replace=False))
            weights = None
        else:
            samples = np.repeat(np.arange(len(self.values)), self.weights)
            chosen, weights = np.unique(
                samples[drawn.choice(len(samples), most, replace=False)], return_counts=True
            )
        values = select(self.values, chosen)
        distinct = len(_first_of_equals(values)[0])
        return replace(self, values=values, weights=weights, inverse=None, distinct=distinct)


def distinct_rows(histograms: Values, weights: np.ndarray | None = None) -> Rows:
    """Fold equal rows into one with a weight, if that at least halves their number.

    Parameters
    ----------
    histograms
        (N, L) rows.
    weights
        (N,) samples that each represents; 1 each by default.

    Returns
    -------
    Rows
        `M < N / 2` folded rows, or the N rows unchanged.
    """
    if not isinstance(histograms, SparseRows):
        histograms = np.ascontiguousarray(histograms, np.float32)
    if weights is not None:
        weights = np.asarray(weights, np.int64)
    first, inverse = _first_of_equals(histograms)
    if len(first) >= _WORTHWHILE * len(histograms):
        return Rows(histograms, weights, None, len(first))
    folded = np.bincount(inverse, weights=weights, minlength=len(first))
    return Rows(select(histograms, first), np.rint(folded).astype(np.int64), inverse, len(first))


def _first_of_equals(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first of each set of equal rows, and the set of every row."""
    # Sorting a hash of each row is several times faster than sorting rows; afterwards it is checked
    # that rows with equal hashes are equal.
    hashes = np.empty(len(values), np.uint64)
    for start in range(0, len(values), _HASHED_ROWS):
        hashes[start : start + _HASHED_ROWS] = _hash(values[start : start + _HASHED_ROWS])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if all(
        np.array_equal(values[first[inverse[start : start + _HASHED_ROWS]]], rows)
        for start in range(0, len(values), _HASHED_ROWS)
        for rows in [values[start : start + _HASHED_ROWS]]
    ):
        return first, inverse
    _, first, inverse = np.unique(
        np.asarray(values), axis=0, return_index=True, return_inverse=True
    )
    return first, inverse.reshape(-1)


def _hash(values: np.ndarray) -> np.ndarray:
    words = (values + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0.0 becomes 0.0
    words *= np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(32)
    factors = np.random.default_rng(0).integers(1, 2**63, values.shape[1], np.uint64)
    return (words * (factors | np.uint64(1))).sum(axis=1, dtype=np.uint64)
