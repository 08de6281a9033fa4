"""Label pictures of ids or of colours, read exactly or refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lhs.data.images import read_image, read_label_picture
from lhs.errors import BadImageError

_LOOKED_AT = 100


def picture_ids(path: Path) -> np.ndarray:
    """Read a picture of ids: one channel, or three that are equal.

    Returns
    -------
    numpy.ndarray
        (H, W) int32; of a palette the indices.

    Raises
    ------
    BadImageError
        If it can't be read, or shows colours.
    """
    try:
        return read_label_picture(path)
    except BadImageError as error:
        try:
            pixels = read_image(path)
        except BadImageError:
            raise error from None
    if (pixels != pixels[:, :, :1]).any():
        raise BadImageError(
            f"{path}: colours, where ids are expected; give the colour of each class with "
            "`--classes FILE`"
        )
    return pixels[:, :, 0].astype(np.int32)


def picture_colours(path: Path) -> np.ndarray:
    """Read a picture of colours, palettes resolved: (H, W) int32, 0xRRGGBB.

    Raises
    ------
    BadImageError
        If it can't be read.
    """
    pixels = read_image(path)
    out = pixels[:, :, 0].astype(np.int32)
    for channel in (1, 2):
        out <<= 8
        out |= pixels[:, :, channel]
    return out


def show_colours(paths: Iterable[Path]) -> bool:
    """Whether label pictures show colours: the first one that is not all grey decides."""
    for number, path in enumerate(paths):
        try:
            read_label_picture(path)
            return False
        except BadImageError:
            pixels = read_image(path)
        if (pixels != pixels[:, :, :1]).any():
            return True
        if number >= _LOOKED_AT:
            break
    return False
