"""COCO's JSON of objects: polygons and run lengths of instances, beside folders of images.

A file of COCO has hundreds of megabytes. It is read once, an element at a time; of each object only
its place in the file is kept, and its outline is read again when its image's label map is made.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lhs.data.images import MAX_PIXELS
from lhs.data.importing.files import class_name, ends, inside, is_file, some, split_of
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_files, scene_ids
from lhs.data.progress import shown
from lhs.errors import BadImageError, UserError

NAME = "coco"
KEYS = (b'"images"', b'"annotations"', b'"categories"')
MOST_LISTS = 20_000_000
"""In a file; COCO's own has five million."""
MOST_OUTLINE = 1_000_000
"""Pixels around a polygon; pycocotools takes 80 bytes for each."""
_SPACE = re.compile(r"[ \t\r\n]*")
_EMPTY = re.compile(r"\[\s*\]")
Span = tuple[int, int]
"""Of bytes in the file."""
Row = tuple[Path, Callable[[], np.ndarray], str | None]


class _Image(NamedTuple):
    name: Any
    height: int
    width: int


def recognise(source: Path, options: Options) -> str | None:
    """Look for JSON files that name images, annotations and categories."""
    files = _files(source)
    return f"{some(files)}: JSON with images, annotations and categories" if files else None


def read(source: Path, options: Options) -> Found:
    """List the images of all files, with the objects that lie on each.

    Larger objects come first, so that smaller ones lie on top, and groups (`iscrowd`) before all.

    Raises
    ------
    UserError
        If pycocotools is missing, `--background` is not given, or a file has another form; the
        message names the file.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise UserError('COCO\'s outlines need pycocotools: pip install "lhs[coco]"') from None
    files = _files(source)
    if not files:
        raise UserError(f"{source}: no JSON file with images, annotations and categories")
    if options.background is None:
        raise UserError(
            "COCO labels objects only: say what all other pixels are, by --background void (not "
            "labelled) or --background NAME (a class)"
        )
    read_files = [_File(source, source / path) for path in files]
    categories: dict[int, str] = {}
    for file in read_files:
        for id, name in file.categories.items():
            if categories.setdefault(id, name) != name:
                raise UserError(
                    f"{file.path}: category {id} is {name!r}, and {categories[id]!r} in another "
                    "file; needed: the same categories in all files"
                )
    used = {category for file in read_files for category in file.used}
    names = {id: name for id, name in sorted(categories.items()) if id in used}
    notes = [
        "where objects overlap, the smaller lies on top (groups, iscrowd, lie below all others)"
    ]
    unused = [f"{id} ({name})" for id, name in categories.items() if id not in used]
    if unused:
        notes.append(f"{len(unused)} categories dropped, as no object has them: {some(unused, 20)}")
    void = options.background == "void"
    ground = next((id for id, name in names.items() if name == options.background), None)
    if ground is None:
        ground = next(id for id in range(len(names) + 1) if id not in names)
    if not void:
        names[ground] = class_name(options.background)
    rows = [row for file in read_files for row in file.rows(ground, void, notes)]
    if not rows:
        raise UserError(f"{source}: no image file with objects; {'; '.join(notes)}")
    ids = scene_ids([PurePosixPath(path.relative_to(source)) for path, _, _ in rows])
    if len(set(ids)) < len(ids):
        twice = next(id for id, number in Counter(ids).items() if number > 1)
        raise UserError(
            f"{some(files)}: image {twice!r:.200} is there twice; needed: files of one kind, such "
            "as instances_*.json alone, and image names that differ not only in their suffix"
        )
    return Found(
        NAME,
        recognise(source, options) or "",
        tuple(
            Item(id, path, label, split) for id, (path, label, split) in zip(ids, rows, strict=True)
        ),
        names,
        frozenset({*options.void, *([ground] * void)}),
        notes=tuple(notes),
    )


def elements(text: str) -> Iterator[tuple[str, Span, Any]]:
    """The elements of all lists in a JSON object: the list's key, the place, and the value.

    Raises
    ------
    ValueError
        If it is not such JSON.
    RecursionError
        If it is nested too deep.
    """
    decode = json.JSONDecoder().raw_decode

    def after(place: int, *marks: str) -> tuple[str, int]:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if (mark := text[place : place + 1]) not in marks:
            raise ValueError(f"{mark!r} at character {place}, expected one of {' '.join(marks)}")
        return mark, place + 1

    def value(place: int) -> tuple[Any, Span]:
        start = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        found, end = decode(text, start)
        return found, (start, end)

    mark, place = after(0, "{")
    while mark != "}":
        key, (start, place) = value(place)
        if not isinstance(key, str):
            raise ValueError(f"{key!r:.100} in the place of a key, at character {start}")
        _, place = after(place, ":")
        start = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[start : start + 1] != "[" or _EMPTY.match(text, start):
            _, (_, place) = value(start)
        else:
            inner, place = ",", start + 1
            while inner == ",":
                found, span = value(place)
                yield key, span, found
                inner, place = after(span[1], ",", "]")
        mark, place = after(place, ",", "}")
    after(place, "")


def _files(source: Path) -> list[Path]:
    """Relative paths of COCO's files; of several kinds, those of instances."""
    paths = [
        Path(path)
        for path in find_files(source, {".json"})
        if len(path.parts) <= 3 and sum(key in ends(source / path) for key in KEYS) > 1
    ]
    return [path for path in paths if path.name.startswith("instances_")] or paths


class _File:
    """What one file says, without the outlines.

    Parameters
    ----------
    source
        The whole dataset.
    path
        The file.
    """

    def __init__(self, source: Path, path: Path) -> None:
        self.source, self.path = source, path
        self.categories: dict[int, str] = {}
        self.used: set[int] = set()
        self.images: dict[int | str, _Image] = {}
        self.objects: dict[int | str, list[Span]] = {}
        self.crowds = 0
        content = path.read_bytes()
        try:
            if content.count(b"[") + content.count(b"{") > MOST_LISTS:
                raise ValueError(f"more than {MOST_LISTS} lists and mappings")
            # One byte a character: places are those in the file.
            for key, span, value in elements(content.decode("latin-1")):
                if key in ("images", "categories"):
                    value = json.loads(content[slice(*span)])
                if key in ("images", "categories", "annotations"):
                    self._add(key, value, span)
            self._check()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: damaged, or not as COCO has it: {error!r:.300}") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def _add(self, key: str, value: Any, span: Span) -> None:
        if "segments_info" in value:
            raise UserError("panoptic annotations, whose outlines are in PNGs; needed: instances")
        id = value["image_id" if key == "annotations" else "id"]
        if key == "categories":
            self.categories[_number(id, 2**31 - 1)] = class_name(value["name"])
        elif not isinstance(id, int | str):
            raise UserError(f"an image with the id {id!r:.100}; needed: a number or text")
        elif key == "images":
            height, width = (_number(value[side], MAX_PIXELS) for side in ("height", "width"))
            if not 0 < height * width <= MAX_PIXELS:
                raise UserError(f"image {id!r:.100} of {width} x {height} pixels")
            self.images[id] = _Image(value["file_name"], height, width)
        else:
            self.used.add(_number(value["category_id"], 2**31 - 1))
            self.objects.setdefault(id, []).append(span)
            self.crowds += bool(value.get("iscrowd"))

    def _check(self) -> None:
        images = [id for id in self.objects if id not in self.images]
        categories = sorted(self.used - self.categories.keys())
        if images or categories:
            raise UserError(
                f"annotations of {len(images)} images and {len(categories)} categories that it "
                f"does not list, such as {some([*images[:1], *categories[:1]])!r}"
            )

    def rows(self, ground: int, void: bool, notes: list[str]) -> Iterator[Row]:
        """Image file, label map and split of each image that can be used; what is told of them."""
        overlaps = 0
        with shown(f"objects of {self.path.name}", len(self.objects)) as show:
            for number, (id, spans) in enumerate(self.objects.items(), 1):
                overlaps += _overlap(_outlines(self.path, spans, self.images[id]))
                show(number)
        folder = self.path.stem.removeprefix("instances_")
        split = split_of(folder) or split_of(self.path.parent.name)
        missing, empty = [], 0
        for id, image in self.images.items():
            if void and id not in self.objects:
                empty += 1
            elif (path := self._image_file(image, folder)) is None:
                missing.append(image.name)
            else:
                spans = self.objects.get(id, [])
                yield path, partial(_label_map, self.path, spans, image, ground), split
        notes.append(
            f"{self.path.name}: objects overlap in {overlaps} of {len(self.images)} images; "
            f"{self.crowds} objects are groups (iscrowd), labelled as their class"
        )
        if empty:
            notes.append(f"{self.path.name}: {empty} images without objects are left out")
        if missing:
            notes.append(f"{self.path.name}: {len(missing)} images have no file: {some(missing)!r}")

    def _image_file(self, image: _Image, folder: str) -> Path | None:
        here = self.path.parent
        base = here.parent if here != self.source else here
        for place in (base / folder, base / "images" / folder, base / "images", here, base):
            path = inside(self.source, place, image.name)
            if is_file(path):
                return path
        return None


def _number(value: Any, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise UserError(f"{value!r:.100} in place of a whole number up to {most}")
    return value


def _outlines(path: Path, spans: list[Span], image: _Image) -> list[tuple[int, np.ndarray]]:
    """Category and pixels of each object of an image, in the order of painting.

    Pixels are intervals (N, 2) of places in the image, column after column.

    Raises
    ------
    BadImageError
        If an outline is missing or damaged.
    """
    found = []
    with path.open("rb") as file:
        for start, end in spans:
            file.seek(start)
            try:
                value = json.loads(file.read(end - start))
                edges = np.cumsum(_counts(value["segmentation"], image))
                pixels = np.stack([edges[: len(edges) // 2 * 2 : 2], edges[1::2]], axis=1)
                pixels = pixels[pixels[:, 0] < pixels[:, 1]]
                order = (not value.get("iscrowd"), -int(np.diff(pixels).sum()))
                found.append((order, value["category_id"], pixels))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise BadImageError(
                    f"{path}: the annotation at byte {start}, of {image.name!r:.200}: "
                    f"{error!s:.300}"
                ) from None
    return [each[1:] for each in sorted(found, key=lambda each: each[0])]


def _counts(outline: Any, image: _Image) -> np.ndarray:
    """Run lengths of an outline, by columns, of outside and inside in turn, checked."""
    height, width = image.height, image.width
    if isinstance(outline, dict):
        counts = outline["counts"]
        counts = np.array(_unpacked(counts) if isinstance(counts, str) else counts)
        if outline["size"] != [height, width] or counts.dtype.kind != "i" or counts.ndim != 1:
            raise ValueError(
                f"run lengths of size {outline['size']!r:.50}, the image has {height} x {width}"
            )
        # Each, too: their sum might begin again at 0.
        if not (counts >= 0).all() or counts.max() > MAX_PIXELS or counts.sum() != height * width:
            raise ValueError(
                f"run lengths of {counts.sum()} pixels, the image has {height * width}"
            )
        return counts
    if not isinstance(outline, list) or not outline:
        raise ValueError("no polygon and no run lengths: boxes alone label no pixels")
    # pycocotools trusts what it gets.
    polygons = [np.array(polygon, np.float64) for polygon in outline]
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) % 2:
            raise ValueError(f"a polygon of shape {polygon.shape}; needed: x, y, x, y, ...")
        points = polygon.reshape(-1, 2)
        if not (abs(points / (width, height)) <= 2).all():
            raise ValueError("a polygon with points far outside the image")
        steps = abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=1)
        if steps.sum() > MOST_OUTLINE:
            raise ValueError(f"a polygon with an outline of more than {MOST_OUTLINE} pixels")
    # Of less than three points: no area.
    areas = [polygon.tolist() for polygon in polygons if len(polygon) > 4]
    if not areas:
        return np.array([height * width])
    from pycocotools import mask

    return np.array(
        _unpacked(mask.merge(mask.frPyObjects(areas, height, width))["counts"].decode())
    )


def _unpacked(text: str) -> list[int]:
    """The run lengths in COCO's text: 6 bits a character, the difference to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        if not 48 <= code < 112 or shift > 30:
            raise ValueError(f"a damaged text of run lengths, character {chr(code)!r}")
        code -= 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("a text of run lengths that ends within a number")
    return counts


def _overlap(outlines: list[tuple[int, np.ndarray]]) -> bool:
    pixels = np.concatenate([each for _, each in outlines])
    starts, ends = pixels[pixels[:, 0].argsort()].T
    return bool((starts[1:] < np.maximum.accumulate(ends)[:-1]).any())


def _label_map(path: Path, spans: list[Span], image: _Image, ground: int) -> np.ndarray:
    labels = np.full(image.width * image.height, ground, np.int32)
    for category, pixels in _outlines(path, spans, image):
        for start, end in pixels.tolist():
            labels[start:end] = category
    return np.ascontiguousarray(labels.reshape(image.width, image.height).T)
