"""SLIC superpixels of a set mean size (METHOD section 2)."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lhs.errors import UserError

SMALLEST_MEAN_SIZE = 4
# Weight of space against colour in OpenCV's 8-bit Lab, where L is 0..255: about the same as
# scikit-image's default of 10 in true Lab.
_COMPACTNESS = 20.0
_ITERATIONS = 10
# Fragments below this percentage of a superpixel are merged into a neighbour, in steps, until the
# mean size is reached. From about 68 on OpenCV merges whole superpixels.
_ABSORB_STEPS = range(8, 65, 8)
_TOO_FEW = 0.93


def segment(image: np.ndarray, mean_size: int = 300) -> np.ndarray:
    """Divide an image into connected superpixels of about `mean_size` pixels each.

    SLIC on the Lab image (OpenCV's `ximgproc`) with a grid of step `sqrt(mean_size)`. The number
    of fragments depends on the texture of the image, so small ones are merged into neighbours only
    until the mean size in this image is closest to `mean_size`.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB image, of any size from 1 x 1.
    mean_size
        Mean superpixel size in pixels, at least 4. From about 25 pixels on, the mean over a dataset
        is within a few per cent of it.

    Returns
    -------
    superpixels
        (H, W) int32 ids from 0 without gaps. The same image always gives the same ids.

    Raises
    ------
    lhs.errors.UserError
        If `mean_size` is below 4.
    ValueError
        If `image` is not an (H, W, 3) uint8 array with at least one pixel.

    References
    ----------
    Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", 2012.

    Examples
    --------
    >>> int(segment(np.zeros((60, 60, 3), np.uint8), mean_size=900).max()) + 1
    4
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be (H, W, 3) uint8, found {image.shape} {image.dtype}")
    if not mean_size >= SMALLEST_MEAN_SIZE:
        raise UserError(
            f"context.superpixel_size: found {mean_size}, "
            f"allowed are {SMALLEST_MEAN_SIZE} pixels and more"
        )
    height, width = image.shape[:2]
    wanted = height * width / mean_size
    # Rounded up early: cells of few pixels leave few fragments to merge and would stay too small.
    step = math.floor(math.sqrt(mean_size) + 0.65)
    if min(height, width) < step or wanted < 2:
        return _strips(height, width, max(1, round(wanted)))

    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB)
    superpixels, count = _slic(lab, step, wanted)
    if count < _TOO_FEW * wanted and step > 2:
        # A few images leave so few fragments that a finer grid is needed.
        finer = min(step - 1, round(step * math.sqrt(count / wanted)))
        again, number = _slic(lab, max(finer, 2), wanted)
        if abs(number - wanted) < abs(count - wanted):
            superpixels = again
    return _without_gaps(superpixels)


def _slic(lab: np.ndarray, step: int, wanted: float) -> tuple[np.ndarray, int]:
    """Superpixels from a grid of this step, merged until about `wanted` are left."""
    slic = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, step, _COMPACTNESS)
    slic.iterate(_ITERATIONS)
    superpixels: np.ndarray = np.zeros(lab.shape[:2], np.int32)
    count = 0
    for percent in _ABSORB_STEPS:
        slic.enforceLabelConnectivity(percent)
        number = slic.getNumberOfSuperpixels()
        if count > 0 and count - wanted <= wanted - number:
            break
        superpixels, count = np.asarray(slic.getLabels(), np.int32), number
        if count <= wanted:
            break
    return superpixels, count


def _strips(height: int, width: int, count: int) -> np.ndarray:
    """Cut an image too small or too thin for a grid of superpixels along its longer side."""
    count = min(count, max(height, width))
    if width >= height:
        row = (np.arange(width, dtype=np.int64) * count // width).astype(np.int32)
        return np.tile(row, (height, 1))
    return np.ascontiguousarray(_strips(width, height, count).T)


def _without_gaps(superpixels: np.ndarray) -> np.ndarray:
    present = np.bincount(superpixels.ravel()) > 0
    if present.all():
        return superpixels
    ids = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return ids[superpixels]
