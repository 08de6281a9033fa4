"""Square patches around pixels, cut where they are used (METHOD section 2)."""

from __future__ import annotations

import numpy as np


def cut_patch(image: np.ndarray, centre: tuple[int, int], size: int) -> np.ndarray:
    """The square around a pixel; beyond the border stands the image's own mean colour.

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
    mean = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    patch = np.broadcast_to(mean, (size, size, 3)).copy()
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    patch[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return patch
