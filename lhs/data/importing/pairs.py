"""Images and label pictures of the same name, in one folder or in two."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

from lhs.data.importing.found import Found, Item, Options
from lhs.data.importing.pictures import picture_colours, picture_ids, show_colours
from lhs.data.importing.tables import read_table
from lhs.data.layout import find_files, read_lines
from lhs.errors import UserError

SUFFIXES = (
    "_mask", "_masks", "_label", "_labels", "_labelIds", "_L", "_P", "_gt", "_GT", "_seg",
    "_segmentation", "_annotation", "_lab",
)  # fmt: skip
"""Endings of label files that are tried; others are named with `--suffix`."""
TABLES = ("label_colors.txt", "class_dict.csv", "_classes.csv", "labels.json", "classes.txt",
          "codes.txt")  # fmt: skip
_IMAGE_ENDINGS = ("_image", "_img", "_sat", "_rgb", "_leftImg8bit")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "rgb", "photos"}
_LABELS = {
    "label", "labels", "mask", "masks", "annot", "annotation", "annotations", "gt", "groundtruth",
    "segmentation", "segmentations", "segmentationclass", "seg", "targets",
}  # fmt: skip
_JOINED = re.compile(rf"({'|'.join(_SPLITS)})({'|'.join(sorted(_LABELS | _IMAGES))})")


@dataclass(frozen=True)
class File:
    """A picture of a source: its path, and what its folders say."""

    path: PurePosixPath
    label: bool
    split: str | None
    rest: tuple[str, ...]


@dataclass(frozen=True)
class Pairs:
    """Images with their label files; `suffix` stands after the label files' names."""

    suffix: str
    found: tuple[tuple[File, File], ...]
    images: int
    labels: int


def recognise(source: Path, options: Options) -> str | None:
    """Say how images and labels are paired; see `formats`."""
    pairs = _pairs(source, options)
    if not pairs.found:
        return None
    image, label = pairs.found[0]
    named = f"its name and {pairs.suffix!r}" if pairs.suffix else "its name"
    return (
        f"{len(pairs.found)} images have a label picture of {named}, such as {image.path} and "
        f"{label.path}"
    )


def read(source: Path, options: Options) -> Found:
    """List the pairs of a source; see `formats`.

    Raises
    ------
    UserError
        If there are none, or several ways to pair; the message names the option to give.
    """
    why, pairs = recognise(source, options), _pairs(source, options)
    if why is None:
        raise UserError(none_found(source, options))
    classes = options.classes or own_table(source)
    table = read_table(classes) if classes else None
    labels = [source / label.path for _, label in pairs.found]
    if table and (table.by_id or table.by_colour) and not (table.by_id and table.by_colour):
        colours = table.by_colour is not None
    else:
        colours = show_colours(labels)
    reader = picture_colours if colours else picture_ids
    splits, notes = _splits(source, [image for image, _ in pairs.found])
    items = tuple(
        Item(
            "/".join([*([image.split] if image.split else []), *image.rest, image.path.stem]),
            source / image.path,
            partial(reader, path),
            split,
        )
        for (image, _), path, split in zip(pairs.found, labels, splits, strict=True)
    )
    for count, what in (
        (pairs.images - len(items), "images have no label picture and are left out"),
        (pairs.labels - len(items), "label pictures have no image and are left out"),
    ):
        if count:
            notes.append(f"{count} {what}")
    return Found("pairs", why, items, colours=colours, classes=classes, notes=tuple(notes))


@lru_cache(maxsize=2)
def listing(source: Path) -> tuple[PurePosixPath, ...]:
    """The pictures below a source; once for all readers of a command."""
    return tuple(find_files(source)) if source.is_dir() else ()


def split_lists(
    folder: Path, places: Sequence[str] = ("", "splits", "lists")
) -> dict[str, list[str]]:
    """Read `train.txt`, `val.txt` and `test.txt` of a source.

    Returns
    -------
    dict
        From split to entries, paths without suffix as they are listed; empty where there are none.
    """
    for place in places:
        files = {split: folder / place / f"{split}.txt" for split in ("train", "val", "test")}
        there = {split: file for split, file in files.items() if file.is_file()}
        if there:
            return {split: read_lines(file) for split, file in there.items()}
    return {}


def listed_splits(
    lists: dict[str, list[str]], names: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    """The split of each image by the lists that name it.

    Parameters
    ----------
    lists
        As of `split_lists`. An entry is an image's name or path, with or without suffix; where a
        line has two, as for Caffe, the first counts.
    names
        File names of the images, without suffix.

    Returns
    -------
    splits : list of str or None
        One for each name.
    notes : list of str
        How many entries name no image.

    Raises
    ------
    UserError
        If an image is in two lists.
    """
    known, notes = set(names), []
    chosen: dict[str, str] = {}
    for split, entries in lists.items():
        unknown = 0
        for entry in entries:
            name = next((n for n in _names_in(entry) if n in known), None)
            if name is None:
                unknown += 1
            elif chosen.setdefault(name, split) != split:
                raise UserError(f"image {name!r} is in the lists {chosen[name]} and {split}")
        if unknown:
            notes.append(f"{unknown} of {len(entries)} entries of {split}.txt name no image here")
    return [chosen.get(name) for name in names], notes


def _names_in(entry: str) -> Iterable[str]:
    for text in (entry, entry.split()[0]):
        last = text.replace("\\", "/").rpartition("/")[2]
        yield last
        yield PurePosixPath(last).stem


def _splits(source: Path, images: list[File]) -> tuple[list[str | None], list[str]]:
    if any(image.split for image in images):
        return [image.split for image in images], ["splits are those of the folders' names"]
    lists = split_lists(source)
    if not lists:
        return [None] * len(images), []
    splits, notes = listed_splits(lists, [image.path.stem for image in images])
    return splits, ["splits are those of the lists of the source", *notes]


def own_table(source: Path) -> Path | None:
    """The table of classes that a source ships, at its top or in its folders."""
    if not source.is_dir():
        return None
    folders = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
    there = [folder / name for folder in folders for name in TABLES if (folder / name).is_file()]
    tables = [read_table(path) for path in there]
    for table in tables[1:]:
        if (table.names, table.by_id, table.by_colour) != (
            tables[0].names, tables[0].by_id, tables[0].by_colour
        ):  # fmt: skip
            raise UserError(
                f"{tables[0].path} and {table.path} are different tables of classes; name the "
                "right one with `--classes FILE`"
            )
    return there[0] if there else None


def _file(path: PurePosixPath, labels: PurePosixPath | None) -> File:
    """What the folders of a picture say; `labels` is the folder given with `--labels`."""
    label = labels is not None and path.is_relative_to(labels)
    split: str | None = None
    rest: list[str] = []
    parts = (path.relative_to(labels) if label and labels else path).parent.parts
    for part in parts:
        low = part.lower()
        joined = _JOINED.fullmatch(low)
        words = list(joined.groups()) if joined else re.split(r"[_\-. ]+", low)
        kept = []
        for word in words:
            if word in _SPLITS and split is None:
                split = _SPLITS[word]
            elif word in _LABELS and labels is None:
                label = True
            elif word not in _IMAGES:
                kept.append(word)
        if len(kept) == len(words):
            rest.append(part)
        elif kept:
            rest.append("-".join(kept))
    return File(path, label, split, tuple(rest))


def _pairs(source: Path, options: Options) -> Pairs:
    below = PurePosixPath(options.labels) if options.labels else None
    if below is not None and not (source / below).is_dir():
        raise UserError(f"--labels {below}: no such folder in {source}")
    files = [_file(path, below) for path in listing(source)]
    if options.suffix is not None:
        suffixes: tuple[str, ...] = (options.suffix,)
    else:
        suffixes = ("", *SUFFIXES)
    ways = [pairs for suffix in suffixes if (pairs := _matched(files, suffix)).found]
    if not ways and options.suffix is None and below is None:
        ways = [pairs for pairs in [_same_names(files)] if pairs.found]
    if len(ways) > 1:
        counts = " or ".join(f"{len(way.found)} with `--suffix={way.suffix}`" for way in ways)
        raise UserError(f"{source}: there are several ways to pair images and labels: {counts}")
    return ways[0] if ways else Pairs("", (), 0, 0)


def _matched(files: list[File], suffix: str) -> Pairs:
    def is_label(file: File) -> bool:
        return file.path.stem.endswith(suffix) if suffix else file.label

    labels = [file for file in files if is_label(file)]
    images = [file for file in files if not is_label(file) and not file.label]
    by_name: dict[str, list[File]] = {}
    for image in images:
        stem = image.path.stem
        for name in {stem, *(stem.removesuffix(ending) for ending in _IMAGE_ENDINGS)}:
            by_name.setdefault(name, []).append(image)
    return _pairs_of(suffix, labels, by_name, len(images))


def _same_names(files: list[File]) -> Pairs:
    """PNGs beside images of other kinds with the same names."""
    labels = [file for file in files if file.path.suffix.lower() == ".png"]
    images = [file for file in files if file.path.suffix.lower() != ".png"]
    by_name: dict[str, list[File]] = {}
    for image in images:
        by_name.setdefault(image.path.stem, []).append(image)
    labels = [file for file in labels if file.path.stem in by_name]
    return _pairs_of("", labels, by_name, len(images))


def _pairs_of(
    suffix: str, labels: list[File], by_name: dict[str, list[File]], images: int
) -> Pairs:
    found: dict[PurePosixPath, tuple[File, File]] = {}
    for label in labels:
        stem = label.path.stem
        near = by_name.get(stem[: len(stem) - len(suffix)], [])
        same = [image for image in near if (image.split, image.rest) == (label.split, label.rest)]
        near = same or [image for image in near if None in (image.split, label.split)
                        or image.split == label.split]  # fmt: skip
        if len(near) != 1:
            continue
        image = near[0]
        other = found.setdefault(image.path, (image, label))[1]
        if other != label:
            raise UserError(
                f"{image.path} has two label pictures, {other.path} and {label.path}: name the "
                "folder of the right ones with `--labels FOLDER`"
            )
    return Pairs(suffix, tuple(found[path] for path in sorted(found)), images, len(labels))


def none_found(source: Path, options: Options) -> str:
    """Say that there are no pairs, and which endings of label files there may be."""
    files = listing(source)
    stems = sorted({path.stem for path in files})
    endings = Counter(
        other[len(stem) :] for stem, other in pairwise(stems)
        if other.startswith(stem) and not other[len(stem) :].lstrip("_- .").isdigit()
    )  # fmt: skip
    given = f" with the ending {options.suffix!r}" if options.suffix else ""
    text = f"{source}: no image has a label picture{given} among {len(files)} pictures"
    if endings:
        ending, count = endings.most_common(1)[0]
        text += f"; {count} names are another's and {ending!r}: is it `--suffix={ending}`?"
    return text + (
        "; needed are pictures of the same names in folders such as images/ and labels/, or names "
        f"with an ending, such as {', '.join(SUFFIXES[:4])}: give `--suffix` or `--labels FOLDER`"
    )
