"""Subclass maps that another program made: one PNG of subclass ids for each training image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lhs.data.images import read_label_picture


def read_subclass_map(folder: str | Path, image_id: str) -> np.ndarray:
    """Read `folder/IMAGE_ID.png`: (H, W) int32 ids as stored.

    Raises
    ------
    lhs.errors.BadImageError
        If it is missing or unreadable.
    """
    return read_label_picture(Path(folder) / f"{image_id}.png")


def subclass_map_problem(
    subclass_map: np.ndarray,
    label_map: np.ndarray,
    parents: np.ndarray,
    *,
    void: int,
    void_subclass: int,
) -> str:
    """Say what is wrong with a subclass map; empty if it fits its label map.

    Parameters
    ----------
    subclass_map
        (H, W) whole numbers.
    label_map
        (H, W) class ids, `void` where unlabelled. What the subclass map has there does not count.
    parents
        (n,) class of each subclass.
    void, void_subclass
        The ids of unlabelled pixels in label maps and in subclass maps.

    Examples
    --------
    >>> label_map = np.array([[0, 1, 255]])
    >>> subclass_map_problem(np.array([[1, 1, 255]]), label_map, np.array([0, 0, 1]),
    ...                      void=255, void_subclass=255)
    'subclass 1, of class 0, at a pixel of class 1 (y 0, x 1), and at 0 pixels more'
    """
    if subclass_map.shape != label_map.shape:
        found, wanted = (" x ".join(map(str, m.shape[::-1])) for m in (subclass_map, label_map))
        return f"it is {found} (width x height), its label map is {wanted}"
    known = np.isin(subclass_map, [*range(len(parents)), void_subclass])
    if not known.all():
        return (
            f"subclass id {subclass_map[~known][0]}; allowed are 0 to {len(parents) - 1}, and "
            f"{void_subclass} for unlabelled pixels"
        )
    table = np.full(max(len(parents), void_subclass + 1), -1)
    table[: len(parents)] = parents
    wrong = (label_map != void) & (table[subclass_map] != label_map)
    if not wrong.any():
        return ""
    y, x = np.argwhere(wrong)[0].tolist()
    there, label = int(subclass_map[y, x]), int(label_map[y, x])
    what = (
        "no subclass" if there == void_subclass else f"subclass {there}, of class {table[there]},"
    )
    more = int(wrong.sum()) - 1
    return f"{what} at a pixel of class {label} (y {y}, x {x}), and at {more} pixels more"
