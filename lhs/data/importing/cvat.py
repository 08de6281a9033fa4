"""CVAT's export "Segmentation mask": Pascal VOC's folders with colours named in labelmap.txt."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from lhs.data.images import read_image
from lhs.data.importing.files import some, split_of
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_base, find_files, read_lines
from lhs.errors import UserError

NAME = "cvat"
NEEDED = ("labelmap.txt", "SegmentationClass")
_LINE = re.compile(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?")
BLACK = 0


def recognise(source: Path, options: Options) -> str | None:
    """Look for labelmap.txt beside SegmentationClass."""
    base = find_base(source, NEEDED)
    return f"labelmap.txt and SegmentationClass in {base}" if base else None


def read(source: Path, options: Options) -> Found:
    """List the masks with their images, in the splits of ImageSets/Segmentation.

    Raises
    ------
    UserError
        If folders or images are missing, or labelmap.txt has another form.
    """
    base = find_base(source, NEEDED)
    if base is None:
        raise UserError(f"{source}: no folder with {' and '.join(NEEDED)}; needed: both")
    names, notes = _names(base / "labelmap.txt"), []
    void = options.background == "void"
    if BLACK in names or options.background:
        names[BLACK] = options.background or names[BLACK]
        does = "are not labelled" if void else f"are the class {names[BLACK]!r}"
        if void:
            del names[BLACK]
        notes.append(
            f"pixels outside all objects (black) {does}; --background void or --background NAME "
            "says otherwise"
        )
    images, masks = base / "JPEGImages", base / "SegmentationClass"
    if not images.is_dir():
        raise UserError(
            f'{base}: no JPEGImages; export from CVAT with "Save images", or put the images there'
        )
    files = {path.with_suffix("").as_posix(): path for path in find_files(images)}
    labelled = {path.with_suffix("").as_posix(): path for path in find_files(masks, {".png"})}
    splits: dict[str, str | None] = {}
    for path in sorted((base / "ImageSets" / "Segmentation").glob("*.txt")):
        for id in read_lines(path):
            if splits.setdefault(id, split_of(path.stem)) != split_of(path.stem):
                raise UserError(f"{path}: {id!r:.200} is in another list too; allowed is one")
    for what, ids in (
        ("masks in no list of ImageSets/Segmentation, left out", labelled.keys() - splits.keys()),
        ("listed images without a mask", splits.keys() - labelled.keys()),
        ("masks without an image", labelled.keys() - files.keys()),
    ):
        if ids and splits:
            notes.append(f"{len(ids)} {what}: {some(sorted(ids))}")
    items = tuple(
        Item(id, images / files[id], partial(_colours, masks / labelled[id]), splits.get(id))
        for id in sorted((splits.keys() or labelled.keys()) & labelled.keys() & files.keys())
    )
    if not items:
        raise UserError(
            f"{base}: no mask in SegmentationClass has an image and a list; " + "; ".join(notes)
        )
    return Found(
        NAME,
        recognise(source, options) or "",
        items,
        names,
        frozenset({*options.void, *([BLACK] * void)}),
        colours=True,
        notes=tuple(notes),
    )


def _names(path: Path) -> dict[int, str]:
    """Class names by colour."""
    names: dict[int, str] = {}
    for line in read_lines(path):
        if line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or max(map(int, found.group(2, 3, 4))) > 255:
            raise UserError(
                f"{path}: line {line!r:.100}; needed: name:red,green,blue:parts:actions"
            )
        red, green, blue = map(int, found.group(2, 3, 4))
        colour = red << 16 | green << 8 | blue
        if names.setdefault(colour, found[1]) != found[1]:
            raise UserError(
                f"{path}: {names[colour]!r} and {found[1]!r} have one colour, {red},{green},{blue}"
            )
    if not names:
        raise UserError(f"{path}: no line name:red,green,blue:parts:actions")
    return names


def _colours(path: Path) -> np.ndarray:
    """Read a picture: (H, W) int32, 0xRRGGBB."""
    red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
    return red << 16 | green << 8 | blue
