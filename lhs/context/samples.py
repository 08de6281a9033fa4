"""Samples of a label map: one per superpixel (METHOD section 2)."""

from __future__ import annotations

import numpy as np


def superpixel_samples(
    label_map: np.ndarray, superpixels: np.ndarray, void: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take one sample per superpixel: its pixel nearest its centroid, and the class there.

    Parameters
    ----------
    label_map
        (H, W) class ids, `void` where unlabelled.
    superpixels
        (H, W) superpixel ids from 0.
    void
        The value of unlabelled pixels.

    Returns
    -------
    centres
        (N, 2) int32 (y, x), ordered by superpixel id. Of pixels equally near the centroid the one
        with the lowest (y, x) is taken. Centres on void are left out.
    classes
        (N,) class ids at the centres, in the dtype of `label_map`.

    Raises
    ------
    ValueError
        If the two maps differ in shape.
    """
    label_map, superpixels = np.asarray(label_map), np.asarray(superpixels)
    if label_map.shape != superpixels.shape or label_map.ndim != 2:
        raise ValueError(f"label map {label_map.shape} and superpixels {superpixels.shape} differ")
    width = label_map.shape[1]
    pixels = centre_pixels(superpixels)
    classes = label_map.ravel()[pixels]
    labelled = classes != void
    pixels = pixels[labelled]
    centres = np.stack([pixels // width, pixels % width], axis=1).astype(np.int32)
    return centres, classes[labelled]


def centre_pixels(superpixels: np.ndarray) -> np.ndarray:
    """Flat index of the pixel nearest the centroid, for every superpixel that has a pixel."""
    height, width = superpixels.shape
    ids = superpixels.ravel()
    y = np.repeat(np.arange(height, dtype=np.int64), width)
    x = np.tile(np.arange(width, dtype=np.int64), height)
    size = np.bincount(ids)
    sum_y = np.bincount(ids, weights=y).astype(np.int64)
    sum_x = np.bincount(ids, weights=x).astype(np.int64)
    # size * |p - centroid|^2 without its constant part: whole numbers, so ties are exact.
    distance = size[ids] * (y * y + x * x) - 2 * (y * sum_y[ids] + x * sum_x[ids])
    nearest = np.full(len(size), np.iinfo(np.int64).max)
    np.minimum.at(nearest, ids, distance)
    candidates = np.flatnonzero(distance == nearest[ids])[::-1]
    centre = np.zeros(len(size), np.int64)
    centre[ids[candidates]] = candidates  # the last one written is kept: the lowest index
    return centre[size > 0]
