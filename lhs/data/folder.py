"""Reader of a plain folder of images and label pictures, for a user's own scenes."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

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
from lhs.data.layout import files_below, find_files, read_lines
from lhs.data.scenes import SPLITS, FileScene, some_ids
from lhs.errors import BadImageError, UserError

NEEDED = ("images", "labels", "classes.txt")
_TEST_SHARE = 5
_VALIDATION = "val.txt"


@dataclass(frozen=True, kw_only=True)
class PictureScene(FileScene):
    """A scene whose labels are a PNG of ids from `first_id`, one of `void_ids` where unlabelled."""

    void_ids: tuple[int, ...]
    first_id: int = 0
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
            If an id is neither a class's nor void; or if the image is turned, its label map could
            lie like the turned image or like its pixels as stored, and `labels_follow_exif` does
            not say which.
        """
        ids = self._class_ids(read_label_picture(self.label_file))
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

    def _class_ids(self, stored: np.ndarray) -> np.ndarray:
        void, first = np.isin(stored, self.void_ids), self.first_id
        wrong = stored[~void & ((stored < first) | (stored >= first + self.num_classes))]
        if wrong.size:
            hint = ""
            if first == 0 and wrong.max() == self.num_classes:
                hint = "; if line 1 of classes.txt is id 1, set data.folder.ids_from=1"
            raise UserError(
                f"{self.label_file}: label id {some_ids(np.unique(wrong))} out of range: the "
                f"dataset has {self.num_classes} classes, ids {first}.."
                f"{first + self.num_classes - 1}, and data.folder.void is "
                f"{listed_ids(self.void_ids)}{hint}"
            )
        return np.where(void, -1, stored - first)

    def label_colours(self, label_map: np.ndarray) -> dict[int, int]:
        """Read the colours of the file's ids in a label map; see `Scene.label_colours`."""
        palette = read_palette(self.label_file)
        if palette is None:
            return {}
        present = np.unique(label_map).astype(int)
        present = present[present < self.num_classes] + self.first_id
        present = present[present < len(palette)].tolist()
        return {id: int.from_bytes(palette[id].tobytes()) for id in present}

    def _orientation(self) -> int:
        try:
            return image_orientation(self.image_file)
        except BadImageError:
            return 1  # reported where the image is read


def open_folder(
    folder: Path,
    *,
    void: int | tuple[int, ...] = 255,
    ids_from: int = 0,
    held_out: Literal["test", "val"] = "test",
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
        path and stem with class ids), `classes.txt` (one class name per line) and, if wanted,
        `splits/train.txt` and `splits/test.txt` (one image per line). With one list the other split
        is the rest; without any, a seeded random fifth is the test set.
    void
        The id or ids of unlabelled pixels in the PNG files, none of the classes'.
    ids_from
        The id of the first class in the PNG files; the others count on from it.
    held_out
        "val": the images of `splits/val.txt` are the test split, and not trained on; the test
        images are left out.
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
    void_ids = (void,) if isinstance(void, int) else void
    for id in void_ids:
        if 0 <= id - ids_from < len(classes):
            raise UserError(
                f"data.folder.void is {id}, the id of class {classes[id - ids_from]!r} in "
                f"{folder / 'classes.txt'}, which counts from {ids_from} (data.folder.ids_from); "
                "allowed: ids that no class has"
            )
    paths = _images(folder / "images")
    if not paths:
        found = "".join(f"; {line}" for line in ignored_files(folder) if "images/" in line)
        raise UserError(f"{folder / 'images'}: no images in this folder{found}")
    splits = _splits(folder, list(paths), seed)
    if held_out == "val":
        splits = _validation_splits(folder, set(paths), splits)
    names = _scene_names(folder, paths, scenes)
    # What is not given is not in the identity: results of earlier versions stay in use.
    reading: dict[str, object] = {"labels_follow_exif": labels_follow_exif, "range": value_range}
    given = {key: value for key, value in reading.items() if value is not None}
    if ids_from:
        given["ids_from"] = ids_from
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
                void_ids=void_ids,
                first_id=ids_from,
                labels_follow_exif=labels_follow_exif,
                value_range=value_range,
            )
            for id, split in splits.items()
        ],
        folder=folder,
        identity={"void": void_ids[0] if len(void_ids) == 1 else void_ids, **given},
    )


def listed_ids(ids: Iterable[int]) -> str:
    """Ids as a message lists them."""
    return ", ".join(map(str, ids))


def ignored_files(folder: Path, held_out: Literal["test", "val"] = "test") -> list[str]:
    """Count the files of a plain folder that nothing reads; `held_out` as in `open_folder`.

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
    used = {f"{split}.txt" for split in (*SPLITS, held_out)}
    splits = folder / "splits"
    lists = sorted(path.name for path in splits.iterdir()) if splits.is_dir() else []
    return lines + [
        f"splits/{name} is unused; read are {', '.join(sorted(used))}"
        + " (to test on it: data.held_out=val)" * (name == _VALIDATION)
        for name in lists
        if name not in used and not name.startswith(".")
    ]


def _other_suffixes(folder: Path, read: Iterable[str]) -> Iterator[str]:
    suffixes = (path.suffix.lower() for path in files_below(folder))
    return (suffix for suffix in suffixes if suffix not in read)


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


def _validation_splits(folder: Path, known: set[str], splits: dict[str, str]) -> dict[str, str]:
    """Test on the images of the validation list; the training images are those that are not there.

    Raises
    ------
    UserError
        If there is no such list, or it shares images with the list of training images.
    """
    path, train = folder / "splits" / _VALIDATION, folder / "splits" / "train.txt"
    if not path.exists():
        raise UserError(
            f"data.held_out is 'val', and {path} is not there; needed: a list with one image per "
            "line, or data.held_out=N, a number of training images"
        )
    held_out = _image_list(path, known)
    both = [id for id in held_out if splits.get(id) == "train"] if train.exists() else []
    if both:
        raise UserError(
            f"{path}: image {both[0]!r} is in {train.name} too"
            + (f", and so are {len(both) - 1} more" if len(both) > 1 else "")
        )
    left = {id: split for id, split in splits.items() if split == "train"}
    return left | dict.fromkeys(held_out, "test")


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
