"""Normalised label histograms in sparse form: dense, millions of samples do not fit memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from lhs.context.histograms import SparseHistograms, occurring_bins


class SparseRows:
    """N normalised histograms, (N, P) float32, made dense only for the rows asked for.

    Parameters
    ----------
    sparse
        Counts. Divided by their Euclidean norm they equal `normalise`'s to the last bit if the
        squares of a row add up to less than 2**53: on images of up to 94 megapixels.

    Attributes
    ----------
    bins
        (P,) class ids of the columns, ascending: those that occur in any row.
    """

    def __init__(self, sparse: SparseHistograms) -> None:
        self.bins, self._columns = occurring_bins(sparse)
        self._offsets = np.asarray(sparse.offsets, np.int64)
        rows = np.repeat(np.arange(len(self)), np.diff(self._offsets))
        values = np.asarray(sparse.counts, np.float64)
        norms = np.sqrt(np.bincount(rows, weights=values**2, minlength=len(self)))
        self._values = (values / norms[rows]).astype(np.float32)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """N and P."""
        return len(self), len(self.bins)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some rows, dense: of a slice without steps, or by their numbers."""
        if isinstance(rows, np.ndarray):
            return self.select(rows)[:]
        first, last, _ = rows.indices(len(self))
        offsets = self._offsets[first : last + 1]
        here = slice(offsets[0], offsets[-1])
        dense = np.zeros((len(offsets) - 1, len(self.bins)), np.float32)
        places = np.repeat(np.arange(len(dense)), np.diff(offsets))
        dense[places, self._columns[here]] = self._values[here]
        return dense

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(np.float32 if dtype is None else dtype, copy=False)

    def select(self, rows: np.ndarray) -> SparseRows:
        """The rows of these numbers, sparse as before and with the same columns."""
        lengths = np.diff(self._offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self._offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        chosen = object.__new__(SparseRows)
        chosen.bins, chosen._offsets = self.bins, offsets
        chosen._columns, chosen._values = self._columns[places], self._values[places]
        return chosen


Values = np.ndarray | SparseRows
"""(N, P) rows, dense or not."""


def select(values: Values, rows: np.ndarray) -> Values:
    """Some rows by their numbers, dense or sparse as `values` is."""
    return values.select(rows) if isinstance(values, SparseRows) else values[rows]
