"""Pascal VOC: palette PNGs of 21 classes with a border of 255, and lists of images."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from lhs.data.images import read_label_picture
from lhs.data.importing.found import Found, Item, Options
from lhs.data.importing.pairs import listed_splits, split_lists
from lhs.data.layout import find_base, find_files
from lhs.errors import UserError

NEEDED = ("JPEGImages", "SegmentationClass")
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
# Others use this layout too, for other classes; the images of VOC have these names.
_NAME = re.compile(r"(\d{4}_)?\d{6}")


def recognise(source: Path, options: Options) -> str | None:
    """See `formats`."""
    base = find_base(source, NEEDED)
    if base is None or (base / "labelmap.txt").exists() or (base / "class_names.txt").exists():
        return None
    names = [path.stem for path in find_files(base / "SegmentationClass", {".png"})]
    if not names or not all(map(_NAME.fullmatch, names)):
        return None
    return f"{base} holds JPEGImages/ and SegmentationClass/, with names of VOC as {names[0]}"


def read(source: Path, options: Options) -> Found:
    """List the images with a PNG in `SegmentationClass`; see `formats`."""
    base = find_base(source, NEEDED)
    if base is None:
        raise UserError(f"{source}: not Pascal VOC; needed: {' and '.join(NEEDED)} side by side")
    images = {path.stem: path for path in find_files(base / "JPEGImages")}
    labels = find_files(base / "SegmentationClass", {".png"})
    there = [path for path in labels if path.stem in images]
    if not there:
        raise UserError(f"{base / 'SegmentationClass'}: no PNG with the name of an image")
    lists = split_lists(base, ("ImageSets/Segmentation",))
    splits, notes = listed_splits(lists, [path.stem for path in there])
    if len(there) < len(labels):
        notes.append(f"{len(labels) - len(there)} label pictures have no image and are left out")
    if len(there) < len(images):
        notes.append(f"{len(images) - len(there)} images have no label picture and are left out")
    items = tuple(
        Item(
            path.stem,
            base / "JPEGImages" / images[path.stem],
            partial(read_label_picture, base / "SegmentationClass" / path),
            split,
        )
        for path, split in zip(there, splits, strict=True)
    )
    why = recognise(source, options) or f"{base} holds {' and '.join(NEEDED)}"
    return Found("voc", why, items, dict(enumerate(NAMES)), frozenset({255}), notes=tuple(notes))
