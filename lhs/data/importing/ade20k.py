"""The scene parsing release of ADE20K: 150 classes from id 1, 0 for all else, scene names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from lhs.data.images import read_label_picture
from lhs.data.importing.found import Found, Item, Options
from lhs.data.importing.tables import read_table
from lhs.data.layout import find_base, find_files, read_lines
from lhs.errors import UserError

NEEDED = ("images/training", "annotations/training")
_SPLITS = {"training": "train", "validation": "val"}


def recognise(source: Path, options: Options) -> str | None:
    """See `formats`."""
    base = find_base(source, NEEDED)
    if base is None:
        return None
    names = [path.name for path in find_files(base / "annotations" / "training", {".png"})]
    if not names or not all(name.startswith("ADE_") for name in names):
        return None
    return f"{base} holds annotations/training/ADE_*.png"


def read(source: Path, options: Options) -> Found:
    """List the images of training and validation; see `formats`."""
    base, why = find_base(source, NEEDED), recognise(source, options)
    if base is None or why is None:
        raise UserError(f"{source}: not ADE20K; needed: {NEEDED[0]}/ and {NEEDED[1]}/ADE_*.png")
    table = options.classes or base / "objectInfo150.txt"
    if not table.is_file():
        raise UserError(f"{table} is missing; give the class names with `--classes FILE`")
    names = read_table(table).by_id
    if names is None:
        raise UserError(f"{table}: no ids of classes; needed: the columns Idx and Name")
    scenes = _scenes(base / "sceneCategories.txt")
    items: list[Item] = []
    notes: list[str] = []
    without = 0
    for folder, split in _SPLITS.items():
        if not (base / "annotations" / folder).is_dir():
            continue
        images = {path.with_suffix(""): path for path in find_files(base / "images" / folder)}
        labels = find_files(base / "annotations" / folder, {".png"})
        for path in labels:
            image = images.pop(path.with_suffix(""), None)
            if image is None:
                without += 1
                continue
            reader = partial(read_label_picture, base / "annotations" / folder / path)
            place = base / "images" / folder / image
            items.append(Item(path.stem, place, reader, split, scenes.get(path.stem)))
        if images:
            notes.append(f"{len(images)} images of {folder}/ have no label picture")
    if without:
        notes.append(f"{without} label pictures have no image and are left out")
    return Found("ade20k", why, tuple(items), _short(names), frozenset({0}), notes=tuple(notes))


def _short(names: Mapping[int, str]) -> dict[int, str]:
    """The first of the synonyms of each class, where these differ between all classes."""
    short = {id: name.split(",")[0].strip() for id, name in names.items()}
    return short if len(set(short.values())) == len(short) else dict(names)


def _scenes(path: Path) -> dict[str, str]:
    """Scene names by image, from lines such as `ADE_train_00000001 airport_terminal`."""
    if not path.is_file():
        return {}
    scenes: dict[str, str] = {}
    for line in read_lines(path):
        image, _, scene = line.partition(" ")
        if not scene:
            raise UserError(f"{path}: found {line!r}, needed: an image and its scene name a line")
        scenes[image] = scene.strip()
    return scenes
