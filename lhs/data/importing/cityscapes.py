"""Cityscapes: `leftImg8bit` and `gtFine`, ids of 34 labels of which 19 are trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lhs.data.images import read_label_picture
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_base, find_files
from lhs.errors import UserError

NEEDED = ("leftImg8bit", "gtFine")
NAMES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
    19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip
"""The 19 labels with a train id below 255, in its order (cityscapesscripts/helpers/labels.py)."""
_LABEL, _IMAGE = "_gtFine_labelIds.png", "_leftImg8bit.png"


def recognise(source: Path, options: Options) -> str | None:
    """See `formats`."""
    base = find_base(source, NEEDED)
    return None if base is None else f"{base} holds leftImg8bit/ and gtFine/"


def read(source: Path, options: Options) -> Found:
    """List the images with `_gtFine_labelIds.png`; see `formats`."""
    base, why = find_base(source, NEEDED), recognise(source, options)
    if base is None or why is None:
        raise UserError(f"{source}: not Cityscapes; needed: leftImg8bit/ and gtFine/ side by side")
    items: list[Item] = []
    without = 0
    for path in find_files(base / "gtFine", {".png"}):
        if not path.name.endswith(_LABEL) or path.parts[0] not in ("train", "val", "test"):
            continue
        name = path.name.removesuffix(_LABEL)
        image = base / "leftImg8bit" / path.with_name(f"{name}{_IMAGE}")
        if not image.is_file():
            without += 1
            continue
        reader = partial(read_label_picture, base / "gtFine" / path)
        id = "/".join([*path.parts[1:-1], name])
        items.append(Item(id, image, reader, path.parts[0]))
    if not items:
        raise UserError(f"{base / 'gtFine'}: no CITY/*{_LABEL} with its image in train/ or val/")
    notes = ["34 ids become the 19 classes that Cityscapes trains on; the other ids are void"]
    if without:
        notes.append(f"{without} label pictures have no image and are left out")
    void = frozenset(range(34)) - NAMES.keys()
    return Found("cityscapes", why, tuple(items), NAMES, void, notes=tuple(notes))
