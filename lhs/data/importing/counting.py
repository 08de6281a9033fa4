"""What the label maps of a source hold, and how they lie to their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhs.data.images import image_orientation, image_size
from lhs.data.importing.found import Item
from lhs.errors import BadImageError, UserError

MOST_VALUES = 100_000
"""Different values in all label maps; photographs have more."""
_PIECE = 2**20


@dataclass(frozen=True)
class Counted:
    """What one image and its label map hold.

    Attributes
    ----------
    values, pixels
        The values of the label map, (K,) each, and how many pixels each has.
    size
        (H, W) of the image as it lies upright.
    orientation
        Of its EXIF, 1..8.
    turn
        Whether its label map lies like the stored pixels of an image that is turned.
    """

    values: np.ndarray
    pixels: np.ndarray
    size: tuple[int, int]
    orientation: int
    turn: bool


def check_ids(items: Sequence[Item]) -> None:
    """Refuse ids that are no relative paths, and two images with one."""
    for item in items:
        parts = item.id.split("/")
        if (
            any(not part or part.startswith(".") or part != part.strip() for part in parts)
            or "\\" in item.id
            or not item.id.isprintable()
        ):
            raise UserError(
                f"the name {item.id!r} can't be one of an image: no part may be "
                "empty, begin with a dot, or hold outer spaces, backslashes or line ends"
            )
    twice = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        files = ", ".join(
            str(item.image)
            for item in items
            if item.id == twice[0] and isinstance(item.image, Path)
        )
        raise UserError(
            f"{len(twice)} names are those of two images, such as {twice[0]!r}: {files}"
        )


def count_values(item: Item, follows: bool | None) -> Counted:
    """Read an image's label map and count its values.

    Parameters
    ----------
    item
        The image.
    follows
        Whether label maps lie like turned images where both sizes fit; None where it is not known.

    Raises
    ------
    BadImageError
        If a file can't be read or the sizes differ.
    UserError
        If it must be known how the label map lies.
    """
    label_map = item.read()
    name, content = item.opened()
    stored = image_size(name, content)
    if content is not None:
        content.seek(0)
    orientation = image_orientation(name, content)
    upright = stored[::-1] if orientation > 4 else stored
    if label_map.shape not in (stored, upright):
        raise BadImageError(
            f"{name}: the image is {stored[1]} x {stored[0]} (width x height), its label map "
            f"{' x '.join(map(str, label_map.shape[::-1]))}"
        )
    turn = orientation != 1 and label_map.shape != upright
    if orientation != 1 and stored == upright:
        if follows is None:
            raise UserError(
                f"{name}: its EXIF turns it (orientation {orientation}), and the size of its "
                "label map does not tell whether it lies so too: give `--labels-follow-exif yes` "
                "if it lies like the image in a viewer, or `no`"
            )
        turn = not follows
    counts: Counter[int] = Counter()
    flat = label_map.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        values, pixels = np.unique(flat[start : start + _PIECE], return_counts=True)
        counts.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
        if len(counts) > MOST_VALUES:
            raise BadImageError(
                f"the label map of {name} has more than {MOST_VALUES} different values: is "
                "it a photograph? Name the label files with `--suffix` or `--labels`"
            )
    ordered = sorted(counts.items())
    return Counted(
        np.array([value for value, _ in ordered], np.int64),
        np.array([pixels for _, pixels in ordered], np.int64),
        upright, orientation, turn,
    )  # fmt: skip


def sum_counts(counted: Sequence[Counted]) -> Counter[int]:
    """Pixels of each value in all label maps.

    Raises
    ------
    UserError
        If these have more than `MOST_VALUES` values.
    """
    counts: Counter[int] = Counter()
    for one in counted:
        counts.update(dict(zip(one.values.tolist(), one.pixels.tolist(), strict=True)))
        if len(counts) > MOST_VALUES:
            raise UserError(
                f"the label maps have more than {MOST_VALUES} different values: are they "
                "photographs? Name the label files with `--suffix` or `--labels`"
            )
    return counts
