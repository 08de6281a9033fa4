"""Reader of a plain folder of images and label pictures, for a user's own scenes."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.images import (
    IMAGE_SUFFIXES,
    image_orientation,
    image_size,
    read_image,
    read_label_picture,
    read_palette,
    turned_upright,
)
from lhs.data.layout import find_files, read_lines
from lhs.data.scenes import SPLITS, FileScene
from lhs.errors import BadImageError, UserError

NEEDED = ("images", "labels", "classes.txt")
_TEST_SHARE = 5


@dataclass(frozen=True, kw_only=True)
class PictureScene(FileScene):
    """A scene whose labels are a PNG of ids from 0, `void_id` where unlabelled."""

    void_id: int
    labels_follow_exif: bool | None = None
    value_range: tuple[float, float] | None = None

    def image(self) -> np.ndarray:
        """Read the image, turned as its EXIF orientation says: (H, W, 3) uint8 RGB."""
        return read_image(self.image_file, upright=True, value_range=self.value_range)

    def size(self) -> tuple[int, int]:
        """Read (H, W) of the image as it is turned."""
        height, width = image_size(self.image_file)
        return (width, height) if self._orientation() > 4 else (height, width)

    def read_ids(self) -> np.ndarray:
        """Read the PNG: (H, W) int32, -1 where unlabelled, lying like the turned image.

        Raises
        ------
        UserError
            If the image is turned, its label map could lie like the turned image or like its pixels
            as stored, and `labels_follow_exif` does not say which.
        """
        ids = read_label_picture(self.label_file)
        ids[ids == self.void_id] = -1
        orientation = self._orientation()
        if orientation == 1:
            return ids
        stored = image_size(self.image_file)
        upright = stored[::-1] if orientation > 4 else stored
        follows = ids.shape == upright
        if follows and upright == stored:
            if self.labels_follow_exif is None:
                raise UserError(
                    f"{self.label_file}: its image {self.image_file} is turned by its EXIF "
                    f"orientation ({orientation}), and the size of the label map does not tell "
                    "whether it is turned too: set data.folder.labels_follow_exif to true if it "
                    "lies like the image in a viewer, to false if it lies like the stored pixels"
                )
            follows = self.labels_follow_exif
        return turned_upright(ids, orientation) if ids.shape == stored and not follows else ids

    def label_colours(self, label_map: np.ndarray) -> dict[int, int]:
        """Read the colours of the ids in a label map; see `Scene.label_colours`."""
        palette = read_palette(self.label_file)
        if palette is None:
            return {}
        present = np.unique(label_map)
        present = present[present < min(self.num_classes, len(palette))].tolist()
        return {id: int.from_bytes(palette[id].tobytes()) for id in present}

    def _orientation(self) -> int:
        try:
            return image_orientation(self.image_file)
        except BadImageError:
            return 1  # reported where the image is read


def open_folder(
    folder: Path,
    *,
    void: int = 255,
    scenes: str = "none",
    seed: int = 0,
    labels_follow_exif: bool | None = None,
    value_range: tuple[float, float] | None = None,
) -> Dataset:
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
    labels_follow_exif
        Whether label maps lie like images turned by their EXIF orientation, where their size fits
        both these and the stored ones.
    value_range
        The values that are black and white in images of 16 bits a channel and of floats.

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
    for name in ("images", "labels", "splits"):
        if (folder / name).exists() and not (folder / name).is_dir():
            raise UserError(f"{folder / name}: found a file, needed is a folder of this name")
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
        found = "".join(f"; {line}" for line in ignored_files(folder) if "images/" in line)
        raise UserError(f"{folder / 'images'}: no images in this folder{found}")
    splits = _splits(folder, list(paths), seed)
    names = _scene_names(folder, paths, scenes)
    # What is not given is not in the identity: results of earlier versions stay in use.
    reading = {"labels_follow_exif": labels_follow_exif, "range": value_range}
    given = {key: value for key, value in reading.items() if value is not None}
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
                labels_follow_exif=labels_follow_exif,
                value_range=value_range,
            )
            for id, split in splits.items()
        ],
        folder=folder,
        identity={"void": void, **given},
    )


def ignored_files(folder: Path) -> list[str]:
    """Count the files of a plain folder that nothing reads.

    Returns
    -------
    list of str
        A line for each kind, such as "12 .gif in images/ are ignored"; empty where all are read.
    """
    lines = [
        f"{count} {suffix or 'without suffix'} in {name}/ {'are' if count > 1 else 'is'} ignored; "
        f"read are {', '.join(sorted(read))}"
        for name, read in (("images", IMAGE_SUFFIXES), ("labels", {".png"}))
        for suffix, count in sorted(Counter(_other_suffixes(folder / name, read)).items())
    ]
    used = {f"{split}.txt" for split in SPLITS}
    lists = sorted(os.listdir(folder / "splits")) if (folder / "splits").is_dir() else []
    return lines + [
        f"splits/{name} is unused; read are {' and '.join(sorted(used))}"
        for name in lists
        if name not in used and not name.startswith(".")
    ]


def _other_suffixes(folder: Path, read: Iterable[str]) -> Iterator[str]:
    for _, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix not in read:
                yield suffix


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
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if not {"image", "scene"} <= set(rows.fieldnames or ()):
                raise UserError(
                    f"{table}: first line is {rows.fieldnames}; needed: the columns image,scene"
                )
            names = {_id_of(row["image"] or "", set(paths)): (row["scene"] or "") for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not readable as a CSV in UTF-8: {error}") from None
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
