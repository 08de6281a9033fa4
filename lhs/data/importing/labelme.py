"""labelme: a JSON file for each image, with shapes that are drawn in their order."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lhs.data.images import MAX_PIXELS, image_size, read_image, read_label_picture
from lhs.data.importing.files import class_name, ends, inside, is_file, some
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_files
from lhs.errors import BadImageError, UserError
from lhs.untrusted import parse_json

NAME = "labelme"
IGNORED = "__ignore__"
"""What labelme's own converters take for unlabelled."""
AREAS = ("polygon", "rectangle", "oriented_rectangle", "circle", "mask")
GROUND, UNLABELLED = 0, 1
FAR = 10
"""Sizes of the image that a point may lie outside."""
Size = tuple[int, int]
"""Height and width."""


def recognise(source: Path, options: Options) -> str | None:
    """Look for a JSON file with shapes and an image."""
    files = _files(source)
    return (
        f"{len(files)} JSON files with shapes and an image, such as {files[0]}" if files else None
    )


def read(source: Path, options: Options) -> Found:
    """List the JSON files, whose shapes are drawn as labelme draws them, later ones on top.

    Raises
    ------
    UserError
        If `--background` is not given, or a file is damaged, has shapes without an area, or an
        image that is neither in it nor in the source; the message names the file.
    """
    files = _files(source)
    if not files:
        raise UserError(f"{source}: no JSON file with shapes and an image")
    if options.background is None:
        raise UserError(
            "labelme labels shapes only: say what all other pixels are, by --background void (not "
            "labelled) or --background NAME (a class)"
        )
    images: list[tuple[Path | Callable[[], bytes], Size]] = []
    labels: set[str] = set()
    for path in files:
        try:
            tree = _parsed(source / path)
            labels |= {class_name(shape["label"]) for shape in tree["shapes"]}
            other = {str(shape.get("shape_type") or AREAS[0]) for shape in tree["shapes"]}
            if other - {*AREAS}:
                raise UserError(
                    f"shapes of type {some(sorted(other - {*AREAS}))!r}; allowed are those with an "
                    f"area, {', '.join(AREAS)}: redraw or delete the others"
                )
            images.append(_image(source, source / path, tree))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source / path}: not as labelme has it: {error!r:.300}") from None
        except BadImageError:
            raise
        except UserError as error:
            raise UserError(f"{source / path}: {error}") from None
    notes = ["where shapes overlap, the later in the file lies on top"]
    if IGNORED in labels:
        notes.append(f"shapes called {IGNORED} are not labelled, as in labelme's converters")
    ground = None if options.background == "void" else class_name(options.background)
    names = dict(enumerate(sorted(labels - {IGNORED, ground}), UNLABELLED + 1))
    if ground is not None:
        names[GROUND] = ground
    ids = {name: id for id, name in names.items()} | {IGNORED: UNLABELLED}
    return Found(
        NAME,
        recognise(source, options) or "",
        tuple(
            Item(
                path.with_suffix("").as_posix(),
                image,
                partial(_label_map, source / path, size, ids),
            )
            for path, (image, size) in zip(files, images, strict=True)
        ),
        names,
        frozenset({UNLABELLED, *options.void, *([GROUND] * (ground is None))}),
        notes=tuple(notes),
    )


def _files(source: Path) -> list[Path]:
    """Relative paths of labelme's files."""
    found = []
    for path in find_files(source, {".json"}):
        content = ends(source / path)
        if b'"shapes"' in content and (b'"imagePath"' in content or b'"imageHeight"' in content):
            found.append(Path(path))
    return found


def _parsed(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadImageError(f"{path}: damaged JSON: {error!s:.300}") from None


def _image(source: Path, path: Path, tree: Any) -> tuple[Path | Callable[[], bytes], Size]:
    """The image, which labelme takes from the file itself if it is there, and its size."""
    image: Path | Callable[[], bytes]
    if tree.get("imageData"):
        image, place, content = partial(_inner_image, path), path, io.BytesIO(_decoded(path, tree))
    else:
        image = place = inside(source, path.parent, tree["imagePath"])
        content = None
        if not is_file(image):
            raise UserError(f"its image {tree['imagePath']!r:.200} is missing, and it holds none")
    stored = image_size(place, content)
    height, width = tree.get("imageHeight"), tree.get("imageWidth")
    if height is None or width is None:
        if content is not None:
            content.seek(0)
        height, width, _ = read_image(place, content=content, upright=True).shape
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        raise UserError(f"an image of {width!r:.30} x {height!r:.30} pixels")
    if height * width > MAX_PIXELS:
        raise UserError(f"an image of {width} x {height} pixels; allowed are {MAX_PIXELS}")
    # Before a canvas of that size is made; labelme turns images as EXIF says.
    if sorted(stored) != sorted((height, width)):
        raise UserError(
            f"imageWidth x imageHeight is {width} x {height}, its image has "
            f"{stored[1]} x {stored[0]} pixels"
        )
    return image, (height, width)


def _inner_image(path: Path) -> bytes:
    return _decoded(path, _parsed(path))


def _decoded(path: Path, tree: Any) -> bytes:
    try:
        return base64.b64decode(tree["imageData"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadImageError(f"{path}: damaged imageData: {error!s:.300}") from None


def _label_map(path: Path, size: Size, ids: dict[str, int]) -> np.ndarray:
    canvas = Image.new("I", size[::-1], GROUND)
    for number, shape in enumerate(_parsed(path)["shapes"], 1):
        try:
            _draw(canvas, path, shape, ids[class_name(shape["label"])])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadImageError(f"{path}: shape {number}: {error!s:.300}") from None
    return np.array(canvas, np.int32)


def _draw(canvas: Image.Image, path: Path, shape: Any, value: int) -> None:
    """Draw a shape as labelme's `shape_to_mask` does, with its border."""
    draw, kind = ImageDraw.Draw(canvas), shape.get("shape_type") or AREAS[0]
    points = np.array(shape["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (abs(points) < FAR * max(canvas.size)).all():
        raise ValueError("its points are no pairs of numbers, or far outside the image")
    needed = {"polygon": 3, "oriented_rectangle": 4}.get(kind, 2)
    if len(points) < needed or (len(points) > needed and kind != "polygon"):
        raise ValueError(f"a {kind} of {len(points)} points; needed are {needed}")
    low, high = points.min(axis=0), points.max(axis=0)
    if kind == "rectangle":
        draw.rectangle([*low.tolist(), *high.tolist()], outline=value, fill=value)
    elif kind == "circle":
        (x, y), (edge_x, edge_y) = points.tolist()
        radius = math.hypot(x - edge_x, y - edge_y)
        box = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(box, outline=value, fill=value)
    elif kind == "mask":
        left, top, right, bottom = points.astype(int).ravel().tolist()
        mask = read_label_picture(path, content=io.BytesIO(base64.b64decode(shape["mask"]))) > 0
        if mask.shape != (bottom - top + 1, right - left + 1) or left < 0 or top < 0:
            raise ValueError(f"a mask of {mask.shape} pixels between {points.tolist()}")
        canvas.paste(value, (left, top), Image.fromarray(mask))
    else:
        draw.polygon([tuple(point) for point in points.tolist()], outline=value, fill=value)
