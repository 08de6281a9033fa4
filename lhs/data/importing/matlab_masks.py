"""Folders of `.mat` files, each with the label map of the image of its name."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePath

import numpy as np

from lhs.data.images import image_size
from lhs.data.importing.files import partners, some, split_of
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_files
from lhs.data.matlab import list_arrays, read_variable
from lhs.errors import BadImageError, UserError

NAME = "matlab"


def recognise(source: Path, options: Options) -> str | None:
    """Look for `.mat` files with images of the same names."""
    files = find_files(source, {".mat"})
    found = partners(source, files, find_files(source))
    if not found:
        return None
    return f"{len(found)} .mat files have an image of their name, such as {next(iter(found))}"


def read(source: Path, options: Options) -> Found:
    """List the files that have an image.

    Raises
    ------
    UserError
        If no file has one, or several arrays of the first have the size of its image and
        `--variable` does not say which.
    """
    files, images = find_files(source, {".mat"}), find_files(source)
    found = partners(source, files, images)
    if not found:
        raise UserError(f"{source}: no .mat file with an image of the same name")
    variable = options.variable or _variable(source, *next(iter(found.items())))
    lone = [path for path in files if path not in found]
    notes = [f"label maps are the variable {variable!r} of each file"]
    if lone:
        notes.append(f"{len(lone)} .mat files without an image: {some(lone)}")
    if without := len(set(images) - set(found.values())):
        notes.append(f"{without} images without a .mat file")
    return Found(
        NAME,
        recognise(source, options) or "",
        tuple(
            Item(
                path.with_suffix("").as_posix(),
                source / image,
                partial(_label_map, source / path, variable),
                next(filter(None, map(split_of, reversed(path.parts[:-1]))), None),
            )
            for path, image in found.items()
        ),
        void=frozenset(options.void),
        notes=tuple(notes),
    )


def _variable(source: Path, path: PurePath, image: PurePath) -> str:
    """The only array that has the size of the image."""
    size, arrays = image_size(source / image), list_arrays(source / path)
    fit = [name for name, shape in arrays.items() if shape == size]
    if len(fit) == 1:
        return fit[0]
    there = some([f"{name} {shape}" for name, shape in arrays.items()], 10) or "nothing"
    raise UserError(
        f"{source / path}: {len(fit)} arrays have the size {size} of {image}; say which holds the "
        f"label map, by --variable NAME; there is {there!r}"
    )


def _label_map(path: Path, variable: str) -> np.ndarray:
    array = read_variable(path, variable)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise BadImageError(
            f"{path}: {variable} is {array.dtype} of shape {array.shape}; needed: (H, W) numbers"
        )
    ids = array.astype(np.int32) if abs(array.astype(np.float64)).max() < 2**31 else None
    if ids is None or not (ids == array).all():
        raise BadImageError(f"{path}: {variable} has values that are no ids, such as {array.max()}")
    return ids
