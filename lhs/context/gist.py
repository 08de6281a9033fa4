"""GIST: a descriptor of a whole image, oriented energy on a coarse grid (METHOD section 3)."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from scipy import fft

SIDE = 256
"""Side of the square that every image becomes first."""
SCALES, ORIENTATIONS, BLOCKS = 4, 8, 4
LENGTH = SCALES * ORIENTATIONS * BLOCKS**2

# Values of the authors' own program that the paper does not give.
_CUT_OFF = 4.0  # of the prefilter, in cycles an image
_PREFILTER_BORDER, _BORDER = 5, 32
_FINEST, _STEP = 0.3, 1.85  # cycles a pixel; factor between two scales
_RADIAL_WIDTH, _ANGULAR_WIDTH = 3.5, np.pi * ORIENTATIONS**2 / 32


def gist(image: np.ndarray) -> np.ndarray:
    """Describe an image by its GIST.

    The whole image is resized to a square, made grey and scaled to 0..255. Its logarithm is
    high-pass filtered and divided by the local contrast, then filtered by Gabor filters of 4 scales
    and 8 orientations (paper below, section 3.1). The mean magnitude of each filter's response in
    each of 4 x 4 blocks is one number of the descriptor.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB image, of any size from 1 x 1.

    Returns
    -------
    descriptor
        (512,) float32, at least 0, ordered by scale from the finest, then orientation, then blocks
        column by column, as in the authors' program. All 0 if every pixel has one grey value.

    Raises
    ------
    ValueError
        If `image` is not an (H, W, 3) uint8 array with at least one pixel.

    References
    ----------
    Oliva and Torralba, "Modeling the shape of the scene: a holistic representation of the spatial
    envelope", 2001.

    Examples
    --------
    >>> gist(np.zeros((48, 64, 3), np.uint8)).shape
    (512,)
    """
    grey = squared(image).mean(axis=2, dtype=np.float64)
    grey -= grey.min()
    brightest = grey.max()
    if brightest == 0:
        return np.zeros(LENGTH, np.float32)
    local = _prefiltered(np.log1p(grey * (255 / brightest)))
    padded = np.pad(local.astype(np.float32), _BORDER, mode="symmetric")
    responses = fft.ifft2(fft.fft2(padded) * _gabor_filters(len(padded)), overwrite_x=True)
    energy = np.abs(responses[:, _BORDER:-_BORDER, _BORDER:-_BORDER])
    block = SIDE // BLOCKS
    means = energy.reshape(-1, BLOCKS, block, BLOCKS, block).mean(axis=(2, 4), dtype=np.float64)
    return means.transpose(0, 2, 1).ravel().astype(np.float32)


def squared(image: np.ndarray) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to (256, 256, 3) uint8, without keeping its proportions.

    Raises
    ------
    ValueError
        If `image` is not an (H, W, 3) uint8 array with at least one pixel.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image is (H, W, 3) uint8, found {image.shape} {image.dtype}")
    height, width = (min(length, SIDE) for length in image.shape[:2])
    # Area interpolation for sides that shrink, against aliasing.
    smaller = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(smaller, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _prefiltered(grey: np.ndarray) -> np.ndarray:
    """High-pass filter (S, S), then divide by the local contrast."""
    border = _PREFILTER_BORDER
    padded = np.pad(grey, border, mode="symmetric")
    cycles = fft.fftfreq(len(padded), 1 / len(padded))
    low = np.exp(-np.log(2) / _CUT_OFF**2 * (cycles[:, None] ** 2 + cycles**2))
    high = padded - fft.ifft2(fft.fft2(padded) * low).real
    contrast = np.sqrt(np.abs(fft.ifft2(fft.fft2(high**2) * low)))
    return (high / (0.2 + contrast))[border:-border, border:-border]


@cache
def _gabor_filters(side: int) -> np.ndarray:
    """Transfer functions (32, side, side) float32, each on one side of the origin only: responses
    are complex, and their magnitude is the local amplitude."""
    cycles = fft.fftfreq(side)
    radius = np.hypot(cycles[:, None], cycles)
    angle = np.arctan2(cycles[:, None], cycles)
    filters = []
    for scale in range(SCALES):
        radial = _RADIAL_WIDTH * (radius * _STEP**scale / _FINEST - 1) ** 2
        for orientation in range(ORIENTATIONS):
            turned = (angle + np.pi * orientation / ORIENTATIONS + np.pi) % (2 * np.pi) - np.pi
            filters.append(np.exp(-radial - _ANGULAR_WIDTH * turned**2))
    return np.stack(filters).astype(np.float32)
