"""Values of 16 bits a channel and floats, scaled to 0..255 by a stated rule or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lhs.errors import BadImageError

LEAST_WHITE = 1 << 14
"""Largest value below which a picture of 16 bits a channel has 10, 12 or 14 bits in them."""
MOST_CLIPPED = 0.1
"""Share of an image's values that may lie outside a given range."""


def check_white(path: str | Path, largest: int) -> None:
    """Refuse a picture of fewer bits than its file has: it would be nearly black.

    Parameters
    ----------
    path
        For the message.
    largest
        Its largest value, 0..65535; 0 is a black picture in any range.

    Raises
    ------
    BadImageError
        If it is in 1..`LEAST_WHITE` - 1.
    """
    if 0 < largest < LEAST_WHITE:
        bits = max(largest.bit_length(), 8)
        raise BadImageError(
            f"{path}: 16 bits a channel, of which it uses about {bits} (largest value about "
            f"{largest}): it would be nearly black; say which values are black and white, such as "
            f"data.folder.range=[0,{2**bits - 1}] (a model keeps the range it was trained with)"
        )


def scaled(path: str | Path, values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Scale values to 0..255.

    Parameters
    ----------
    path
        For the message.
    values
        (H, W) or (H, W, 3), of any type of number.
    value_range
        The values that are black and white; up to `MOST_CLIPPED` of the values may lie outside.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8.

    Raises
    ------
    BadImageError
        If more of them lie outside, or one is no number.
    """
    low, high = value_range
    outside = 1 - np.count_nonzero((values >= low) & (values <= high)) / values.size
    if outside > MOST_CLIPPED or not np.isfinite(values).all():
        finite = values[np.isfinite(values)]
        found = f"{finite.min():g} to {finite.max():g}" if finite.size else "none"
        if finite.size < values.size:
            found += f" and {values.size - finite.size} that are no numbers"
        raise BadImageError(
            f"{path}: values {found}, of which {outside:.0%} are outside data.folder.range = "
            f"{low:g} to {high:g}; allowed are {MOST_CLIPPED:.0%}, and no values without a number"
        )
    shares = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    pixels = np.rint(shares * 255).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
