"""What a reader of `lhs data import` found in a source, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Item:
    """One image of a source, and how its label map is read.

    Attributes
    ----------
    id
        Unique in the source, with `/` for subfolders and without suffix; its files' name.
    image
        The image file, or a function that gives its content where the source holds it inside.
    read
        Gives the label map, (H, W) int32 of the source's own values: ids as stored, or colours as
        0xRRGGBB. It raises `BadImageError` for a file that can't be read.
    split
        `train`, `val` or `test`; None where the source does not say.
    scene
        Scene name, where the source has one.
    """

    id: str
    image: Path | Callable[[], bytes]
    read: Callable[[], np.ndarray]
    split: str | None = None
    scene: str | None = None


@dataclass(frozen=True)
class Found:
    """A source as its reader sees it.

    Attributes
    ----------
    format
        Name of the format, as for `--format`.
    why
        One sentence: what it was recognised by.
    items
        All images with labels.
    names
        Class names by value, where the source has a table of them; several values may have one name
        (they become one class), values that are missing here must not occur. None where the source
        has no table: then every value that occurs becomes a class, which the user must name.
    void
        Values that stand for "not labelled", as the format or the options say.
    colours
        Whether values are colours.
    notes
        What the user should be told, a line each: ids dropped, images without labels, overlaps.
    """

    format: str
    why: str
    items: tuple[Item, ...]
    names: Mapping[int, str] | None = None
    void: frozenset[int] = frozenset()
    colours: bool = False
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Options:
    """What `lhs data import` was told; each is None or empty where it was not given.

    Attributes
    ----------
    void
        `--void`: values (or 0xRRGGBB) that are not labelled.
    ids_from
        `--ids-from`: the value of the first class.
    classes
        `--classes`: file with a name a line, or a colour table.
    suffix
        `--suffix`: ending of label files' names before their extension, such as `_mask`.
    background
        `--background`: `void` or a class name, for pixels outside all polygons.
    variable
        `--variable`: name of the array in MATLAB files.
    columns
        `--columns IMAGE,MASK`: of a Hugging Face dataset.
    """

    void: tuple[int, ...] = ()
    ids_from: int | None = None
    classes: Path | None = None
    suffix: str | None = None
    background: str | None = None
    variable: str | None = None
    columns: tuple[str, str] | None = None
