"""Label histograms of the windows around samples and pixels (METHOD section 3, LC)."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from lhs.errors import UserError


class SparseHistograms(NamedTuple):
    """N histograms as the bins that are not zero, row after row (as in a CSR matrix or Arrow list).

    Row i is `bins[offsets[i]:offsets[i + 1]]` with `counts[offsets[i]:offsets[i + 1]]`.
    """

    bins: np.ndarray  # (Z,) uint16 class ids, ascending within a row
    counts: np.ndarray  # (Z,) int32, above zero
    offsets: np.ndarray  # (N + 1,) int64


def check_region(region: float) -> None:
    """Check that a region size R is an odd whole number from 1, or infinite.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.region`.
    """
    if isinstance(region, (int, float, np.integer, np.floating)) and not isinstance(region, bool):
        if region == math.inf:
            return
        if region >= 1 and region % 2 == 1:
            return
    raise UserError(
        f"hierarchy.region: found {region!r}, allowed are odd whole numbers from 1, and inf"
    )


def label_histograms(
    label_map: np.ndarray, centres: np.ndarray, region: float, num_classes: int, void: int
) -> np.ndarray:
    """Count the labels in the region x region window around each centre.

    The window is clipped at the border and void is not counted. All windows are counted with one
    summed-area table per class that is present, so the cost hardly depends on the region's size.

    Parameters
    ----------
    label_map
        (H, W) class ids from 0 to `num_classes` - 1, `void` where unlabelled.
    centres
        (N, 2) whole numbers (y, x) inside the label map.
    region
        R of the paper: an odd whole number, or `math.inf` for the whole label map.
    num_classes
        L, the number of bins.
    void
        The value of unlabelled pixels.

    Returns
    -------
    histograms
        (N, L) int32 counts.

    Raises
    ------
    lhs.errors.UserError
        If `region` is even or below 1, or the label map holds an id that is no class.
    ValueError
        If a centre lies outside the label map.

    Examples
    --------
    >>> label_map = np.array([[0, 0, 1], [0, 255, 1]], np.uint8)
    >>> label_histograms(label_map, np.array([[0, 1], [1, 2]]), 3, 2, 255)
    array([[3, 2],
           [1, 2]], dtype=int32)
    """
    check_region(region)
    label_map = np.asarray(label_map)
    centres = np.asarray(centres).reshape(-1, 2)
    height, width = label_map.shape
    y, x = centres[:, 0].astype(np.int64), centres[:, 1].astype(np.int64)
    if len(centres) and (min(y.min(), x.min()) < 0 or y.max() >= height or x.max() >= width):
        raise ValueError(f"a centre lies outside the {height} x {width} label map")
    totals = class_counts(label_map, num_classes, void)
    histograms = np.zeros((len(centres), num_classes), np.int32)
    if not len(centres):
        return histograms
    reach = _reach(region, height, width)
    if reach >= max(height, width) - 1:
        histograms[:] = totals
        return histograms
    stride = width + 1
    top, bottom = np.maximum(y - reach, 0) * stride, np.minimum(y + reach + 1, height) * stride
    left, right = np.maximum(x - reach, 0), np.minimum(x + reach + 1, width)
    inside, above = bottom + right, top + right
    beside, outside = bottom + left, top + left
    for label in np.flatnonzero(totals):
        area = cv2.integral((label_map == label).view(np.uint8)).ravel()
        histograms[:, label] = area[inside] - area[above] - area[beside] + area[outside]
    return histograms


def pixel_histograms(
    label_map: np.ndarray, region: float, num_classes: int, void: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the labels in the window around every pixel, for the classes that are present.

    Parameters
    ----------
    label_map, region, num_classes, void
        As for `label_histograms`.

    Returns
    -------
    classes_present
        (P,) ids of the classes with at least one pixel, ascending.
    counts
        (H, W, P) int32; `counts[y, x, p]` is the count of `classes_present[p]` around (y, x).

    Raises
    ------
    lhs.errors.UserError
        As for `label_histograms`.
    """
    check_region(region)
    label_map = np.asarray(label_map)
    height, width = label_map.shape
    totals = class_counts(label_map, num_classes, void)
    present = np.flatnonzero(totals)
    if not len(present):
        return present, np.zeros((height, width, 0), np.int32)
    reach = _reach(region, height, width)
    if reach >= max(height, width) - 1:
        whole = totals[present].astype(np.int32)
        return present, np.broadcast_to(whole, (height, width, len(present)))
    rows, columns = np.arange(height), np.arange(width)
    top, bottom = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, height)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
    counts = np.empty((height, width, len(present)), np.int32)
    for place, label in enumerate(present):
        area = cv2.integral((label_map == label).view(np.uint8))
        bands = area[bottom] - area[top]
        np.subtract(bands[:, right], bands[:, left], out=counts[:, :, place])
    return present, counts


def normalise(counts: np.ndarray) -> np.ndarray:
    """Divide every histogram by its Euclidean norm.

    This makes windows that the border clips comparable (paper, section 3.1.2).

    Parameters
    ----------
    counts
        (..., L) counts.

    Returns
    -------
    histograms
        (..., L) float32 of Euclidean norm 1; a histogram of zeros stays zero.
    """
    values = np.asarray(counts, np.float64)
    norms = np.sqrt(np.einsum("...l,...l->...", values, values))[..., None]
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 0).astype(np.float32)


def class_counts(label_map: np.ndarray, num_classes: int, void: int) -> np.ndarray:
    """Count the pixels of each class.

    Parameters
    ----------
    label_map, num_classes, void
        As for `label_histograms`.

    Returns
    -------
    counts
        (L,) int64.

    Raises
    ------
    lhs.errors.UserError
        If the label map holds an id that is no class.
    ValueError
        If it is not an (H, W) array of whole numbers.
    """
    if label_map.dtype.kind not in "ui" or label_map.ndim != 2:
        raise ValueError(
            f"a label map is (H, W) whole numbers, found {label_map.shape} {label_map.dtype}"
        )
    if label_map.dtype.kind == "i" and label_map.size and label_map.min() < 0:
        raise UserError(f"label map: found id {label_map.min()}, allowed are ids from 0")
    counts = np.bincount(label_map.ravel(), minlength=num_classes)
    found = np.flatnonzero(counts[num_classes:]) + num_classes
    strange = found[found != void]
    if len(strange):
        raise UserError(
            f"label map: found id {strange[0]}, allowed are 0 to {num_classes - 1} "
            f"and {void} for unlabelled pixels"
        )
    counts = counts[:num_classes].copy()
    if 0 <= void < num_classes:
        counts[void] = 0
    return counts


def to_sparse(counts: np.ndarray) -> SparseHistograms:
    """Keep only the bins that are not zero: about five of LM+Sun's 232.

    Parameters
    ----------
    counts
        (N, L) whole numbers, L at most 65536.

    Returns
    -------
    SparseHistograms
    """
    counts = np.asarray(counts)
    rows, bins = np.nonzero(counts)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(counts)), out=offsets[1:])
    return SparseHistograms(bins.astype(np.uint16), counts[rows, bins].astype(np.int32), offsets)


def from_sparse(sparse: SparseHistograms) -> tuple[np.ndarray, np.ndarray]:
    """Make sparse histograms dense, with only the bins that occur in any of them.

    Parameters
    ----------
    sparse
        N histograms.

    Returns
    -------
    bins
        (P,) class ids of the columns, ascending.
    counts
        (N, P) int32.
    """
    bins, columns = occurring_bins(sparse)
    lengths = np.diff(sparse.offsets)
    dense = np.zeros((len(lengths), len(bins)), np.int32)
    dense[np.repeat(np.arange(len(lengths)), lengths), columns] = sparse.counts
    return bins, dense


def occurring_bins(sparse: SparseHistograms) -> tuple[np.ndarray, np.ndarray]:
    """The bins that occur in any histogram.

    Parameters
    ----------
    sparse
        N histograms of Z bins in all.

    Returns
    -------
    bins
        (P,) class ids, ascending.
    columns
        (Z,) place in `bins` of each of `sparse.bins`.
    """
    ids = np.asarray(sparse.bins, np.int64)
    occurs = np.bincount(ids) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[ids]


def _reach(region: float, height: int, width: int) -> int:
    """Pixels from a window's centre to its edge; beyond the image's size nothing changes."""
    longest = max(height, width)
    return longest if region >= 2 * longest else int(region) // 2
