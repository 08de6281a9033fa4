"""Square patches around pixels, cut where they are used (METHOD section 2)."""

from __future__ import annotations

import cv2
import numpy as np


def mean_colour(image: np.ndarray) -> np.ndarray:
    """Mean of an (H, W, 3) uint8 image, rounded: (3,) uint8."""
    # OpenCV's sum of whole numbers is exact, as numpy's mean is, and 20 times faster.
    total = np.array(cv2.sumElems(image)[:3])
    return np.rint(total / (image.shape[0] * image.shape[1])).astype(np.uint8)


def cut_patch(image: np.ndarray, centre: tuple[int, int], size: int) -> np.ndarray:
    """The square around a pixel; pixels beyond the border have the image's mean colour.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    centre
        (y, x) of a pixel of the image.
    size
        Side in pixels, odd.

    Returns
    -------
    (size, size, 3) uint8
    """
    height, width = image.shape[:2]
    reach = size // 2
    top, left = centre[0] - reach, centre[1] - reach
    patch = np.broadcast_to(mean_colour(image), (size, size, 3)).copy()
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    patch[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return patch
