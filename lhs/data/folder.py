"""Reader of a plain folder of images and label pictures, for a user's own scenes."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.images import read_label_picture
from lhs.data.layout import find_files, read_lines
from lhs.data.scenes import SPLITS, FileScene
from lhs.errors import UserError

NEEDED = ("images", "labels", "classes.txt")
_TEST_SHARE = 5


@dataclass(frozen=True, kw_only=True)
class PictureScene(FileScene):
    """A scene whose labels are a PNG of ids from 0, `void_id` where unlabelled."""

    void_id: int

    def read_ids(self) -> np.ndarray:
        """Read the PNG: (H, W) int32, -1 where unlabelled."""
        ids = read_label_picture(self.label_file)
        ids[ids == self.void_id] = -1
        return ids


def open_folder(folder: Path, *, void: int = 255, scenes: str = "none", seed: int = 0) -> Dataset:
    """Open a plain folder.

    Parameters
    ----------
    folder
        It holds `images/` (any image files, in folders or not), `labels/` (PNG files of the same
        path and stem with class ids from 0), `classes.txt` (one class name per line, line 1 is id
        0) and, if wanted, `splits/train.txt` and `splits/test.txt` (one image per line). With one
        list the other split is the rest; without any, a seeded random fifth is the test set.
    void
        The id of unlabelled pixels in the PNG files, not one of the classes'.
    scenes
        Where scene names come from: "none", "folder" (the first folder below `images/`),
        "prefix" (the file name up to the first `_`), or the path of a CSV `image,scene`.
    seed
        Of the random split.

    Returns
    -------
    Dataset
        Ids are paths below `images/` without suffix.

    Raises
    ------
    UserError
        If lists, classes or scene names do not fit the images; the message names the file.
    """
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"data.folder.path {str(folder)!r} has no {', '.join(missing)}; "
            "needed: images/, labels/ and classes.txt"
        )
    classes = read_lines(folder / "classes.txt")
    if not classes:
        raise UserError(f"{folder / 'classes.txt'} is empty; needed: one class name per line")
    if 0 <= void < len(classes):
        raise UserError(
            f"data.folder.void is {void}, the id of class {classes[void]!r} in "
            f"{folder / 'classes.txt'}; allowed: an id that no class has"
        )
    paths = _images(folder / "images")
    if not paths:
        raise UserError(f"{folder / 'images'}: no images in this folder")
    splits = _splits(folder, list(paths), seed)
    names = _scene_names(folder, paths, scenes)
    return Dataset(
        folder.name or "folder",
        classes,
        [
            PictureScene(
                id=id,
                split=split,
                num_classes=len(classes),
                name=names.get(id),
                image_file=str(folder / "images" / paths[id]),
                label_file=str(folder / "labels" / f"{id}.png"),
                void_id=void,
            )
            for id, split in splits.items()
        ],
        folder=folder,
        identity={"void": void},
    )


def _images(folder: Path) -> dict[str, PurePosixPath]:
    paths: dict[str, PurePosixPath] = {}
    for path in find_files(folder):
        other = paths.setdefault(path.with_suffix("").as_posix(), path)
        if other != path:
            raise UserError(f"{folder}: {other} and {path} differ only in their suffix")
    return paths


def _splits(folder: Path, ids: list[str], seed: int) -> dict[str, str]:
    """Give every image that is in a split its split."""
    lists = {
        split: _image_list(folder / "splits" / f"{split}.txt", set(ids))
        for split in SPLITS
        if (folder / "splits" / f"{split}.txt").exists()
    }
    if not lists:
        order = np.random.default_rng(seed).permutation(len(ids))
        lists["test"] = [ids[i] for i in order[: len(ids) // _TEST_SHARE]]
    chosen: dict[str, str] = {}
    for split, entries in lists.items():
        for id in entries:
            if chosen.setdefault(id, split) != split:
                raise UserError(f"{folder / 'splits'}: image {id!r} is in both splits")
    if len(lists) == 1:
        (given,) = lists
        rest = SPLITS[1 - SPLITS.index(given)]
        chosen |= {id: rest for id in ids if id not in chosen}
    return chosen


def _image_list(path: Path, known: set[str]) -> list[str]:
    entries = [_id_of(line, known) for line in read_lines(path)]
    wrong = [entry for entry in entries if entry not in known]
    if wrong:
        some = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
        raise UserError(f"{path}: {len(wrong)} entries are no image below images/: {some}")
    return entries


def _scene_names(folder: Path, paths: dict[str, PurePosixPath], source: str) -> dict[str, str]:
    if source == "none":
        return {}
    if source == "prefix":
        return {id: path.name.split("_")[0] for id, path in paths.items()}
    if source == "folder":
        flat = [str(path) for path in paths.values() if len(path.parts) < 2]
        if flat:
            raise UserError(
                f"data.folder.scenes is 'folder', but images/{flat[0]} lies in no folder"
            )
        return {id: path.parts[0] for id, path in paths.items()}
    table = folder / Path(os.path.expanduser(source))
    if not table.is_file():
        raise UserError(
            f"data.folder.scenes is {source!r}; allowed: none, folder, prefix, or the path of a "
            "CSV file `image,scene`"
        )
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"image", "scene"} <= set(rows.fieldnames or ()):
            raise UserError(
                f"{table}: first line is {rows.fieldnames}; needed: the columns image,scene"
            )
        names = {_id_of(row["image"] or "", set(paths)): (row["scene"] or "") for row in rows}
    without = [id for id in paths if not names.get(id)]
    if without:
        raise UserError(
            f"{table}: {len(without)} images have no scene name, the first is {without[0]!r}"
        )
    return {id: names[id] for id in paths}


def _id_of(entry: str, known: set[str]) -> str:
    """Read a list's entry: an id, or an id with the image's suffix."""
    entry = entry.strip().replace("\\", "/")
    return entry if entry in known else PurePosixPath(entry).with_suffix("").as_posix()
