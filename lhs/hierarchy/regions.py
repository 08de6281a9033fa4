"""Connected regions of a class in a label map, and the random subclass that each draws."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np


def region_numbers(mask: np.ndarray) -> np.ndarray:
    """Number the connected regions of a class, in the order of their first pixels.

    Pixels that touch at a corner are connected: poles, wires and other thin slanted things would
    fall into single pixels otherwise.

    Parameters
    ----------
    mask
        (H, W) bool, the pixels of the class; at least one pixel, of whatever value.

    Returns
    -------
    numbers
        (H, W) int32: 0 in the region whose first pixel comes first row by row, 1 in the next; -1
        outside.

    Examples
    --------
    >>> region_numbers(np.array([[0, 0, 1], [1, 0, 1], [0, 1, 0]], bool))
    array([[-1, -1,  0],
           [ 0, -1,  0],
           [-1,  0, -1]], dtype=int32)
    """
    count, found = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    pixels = found.ravel()
    first = np.zeros(count, np.int64)
    # OpenCV's own order is not documented. The last one written is kept: the first pixel.
    first[pixels[::-1]] = np.arange(pixels.size - 1, -1, -1)
    numbers = np.full(count, -1, np.int32)
    numbers[1 + np.argsort(first[1:])] = np.arange(count - 1)
    return numbers[found]


def draw_subclasses(
    counts: np.ndarray, regions: np.ndarray, *, seed: int, image_id: str, label: int
) -> np.ndarray:
    """Draw the subclass of each region, with probabilities in proportion to counts.

    The draw of a region depends on the arguments and its number alone, not on the other regions.

    Parameters
    ----------
    counts
        (K,) numbers from 0 of which one is larger: the shares of the K subclasses.
    regions
        (N,) region numbers, see `region_numbers`; one number is one draw.
    seed
        Of the hierarchy.
    image_id
        The scene's id.
    label
        The class id.

    Returns
    -------
    drawn
        (N,) int64 in [0, K).
    """
    text = f"subclass\n{seed}\n{image_id}\n{label}"
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    random = np.random.default_rng(int.from_bytes(key, "big"))
    ends = np.cumsum(counts, dtype=np.float64)
    drawn = random.random(int(np.max(regions, initial=-1)) + 1)
    return np.searchsorted(ends / ends[-1], drawn, side="right")[regions]
