"""Class colours over an image."""

from __future__ import annotations

import numpy as np

OPACITY = 0.55
"""Of the classes' colours over an image."""


def label_overlay(
    image: np.ndarray, label_map: np.ndarray, colours: np.ndarray, void: int, alpha: float = OPACITY
) -> np.ndarray:
    """Lay the classes' colours over an image.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    label_map
        (H, W) class ids or void.
    colours
        (L, 3) uint8.
    void
        The id of unlabelled pixels: there the image stays as it is.
    alpha
        Weight of the colours in [0, 1]; 1 hides the image.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8.
    """
    labelled = label_map != void
    out = np.array(image, dtype=np.uint8, copy=True)
    tint = np.asarray(colours, dtype=np.float32)[label_map[labelled].astype(np.intp)]
    mixed = (1 - alpha) * out[labelled].astype(np.float32) + alpha * tint
    out[labelled] = np.rint(mixed).astype(np.uint8)
    return out
