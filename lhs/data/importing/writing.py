"""The files of a dataset, written to a partial folder that becomes the dataset at the end."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from lhs.data.archive import partial_folder
from lhs.data.images import IMAGE_SUFFIXES, read_image, turned_upright
from lhs.data.importing.classes import Classes
from lhs.data.importing.contact_sheet import IMAGES, contact_sheet
from lhs.data.importing.counting import Counted
from lhs.data.importing.found import Item
from lhs.data.reading import map_scenes
from lhs.data.scenes import label_dtype, void_of
from lhs.errors import BadImageError, UserError


class Output:
    """Writes files below a folder that appears at once and complete, or not at all.

    Parameters
    ----------
    out
        The folder to make; it must be empty or absent.

    Raises
    ------
    UserError
        If it holds anything, or is a file.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        check_empty(out)

    def __enter__(self) -> Output:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._partial = partial_folder(self.out)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                check_empty(self.out)
                os.sync()  # the contents must be on the disk before the name marks them as complete
                self._partial.rename(self.out)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, name: str, content: bytes) -> None:
        """Write a file; `name` is relative, with `/`."""
        self._place(name).write_bytes(content)

    def link(self, name: str, source: Path) -> None:
        """Make a file a hard link of another, or a copy where the disk does not link."""
        place = self._place(name)
        try:
            os.link(source.resolve(), place)
        except OSError:
            shutil.copyfile(source, place)

    def _place(self, name: str) -> Path:
        place = self._partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def check_empty(out: Path) -> None:
    """Refuse a folder that holds anything, and a file or a place below one."""
    there = next(place for place in (out, *out.parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"--out {out}: {there} is a file; name another folder")
    if there == out and any(out.iterdir()):
        raise UserError(f"--out {out} is there and not empty; name another folder, or remove it")


def write_folder(
    target: Path,
    items: Sequence[Item],
    counted: Sequence[Counted],
    classes: Classes,
    splits: Mapping[str, list[str]],
    report: dict[str, object],
) -> list[str]:
    """Write images, labels, lists and what was done; see `import_source`.

    Parameters
    ----------
    target
        The folder to make.
    items, counted
        All images, and what each holds.
    classes
        The class of each value.
    splits
        Ids of each split.
    report
        For `import.json`.

    Returns
    -------
    list of str
        What to tell: images that are not on the contact sheet.
    """
    notes: list[str] = []
    values = np.array(sorted(classes.ids), np.int64)
    ids = np.array([classes.ids[value] for value in values.tolist()], np.int32)
    dtype, void = label_dtype(len(classes.names)), void_of(len(classes.names))

    def class_map(place: int) -> np.ndarray:
        """(H, W) class ids, -1 where void, lying like the upright image."""
        label_map = items[place].read()
        out = np.empty(label_map.shape, np.int32)
        # By rows, as places take eight bytes a pixel.
        for rows, row_ids in zip(label_map, out, strict=True):
            found_at = np.searchsorted(values, rows).clip(max=len(values) - 1)
            if (values[found_at] != rows).any():
                raise UserError(f"the label map of {items[place].id} has changed meanwhile")
            row_ids[:] = ids[found_at]
        return turned_upright(out, counted[place].orientation if counted[place].turn else 1)

    def write(place: int) -> None:
        item, label_map = items[place], class_map(place)
        label_map[label_map < 0] = void
        output.write(f"labels/{item.id}.png", _png(label_map.astype(dtype)))
        name, content = item.opened()
        suffix = Path(name).suffix if content is None else _suffix(content.getvalue())
        if counted[place].orientation != 1 or suffix.lower() not in IMAGE_SUFFIXES:
            pixels = read_image(name, content=content, upright=True)
            output.write(f"images/{item.id}.png", _png(pixels))
        elif content is None:
            output.link(f"images/{item.id}{suffix}", Path(name))
        else:
            output.write(f"images/{item.id}{suffix}", content.getvalue())

    def drawn() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for place in np.unique(np.linspace(0, len(items) - 1, IMAGES).round().astype(int)):
            try:
                name, content = items[place].opened()
                image = read_image(name, content=content, upright=True)
            except BadImageError as error:
                notes.append(f"not on the contact sheet: {error}")
                continue
            yield items[place].id, image, class_map(place)

    with Output(target) as output:
        for _ in map_scenes(write, range(len(items)), task="writing"):
            pass
        for split, names in splits.items():
            output.write(f"splits/{split}.txt", "".join(f"{n}\n" for n in names).encode())
        if all(item.scene for item in items):
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerows([("image", "scene"), *((item.id, item.scene) for item in items)])
            output.write("scenes.csv", text.getvalue().encode())
        output.write("contact_sheet.png", contact_sheet(drawn(), classes.names))
        output.write("import.json", json.dumps(report, indent=1).encode())
        # Last: without it the folder is no dataset.
        output.write("classes.txt", "".join(f"{name}\n" for name in classes.names).encode())
    return notes


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _suffix(content: bytes) -> str:
    """Of an image that is no file; empty where it is to be written as PNG."""
    return {b"\xff\xd8": ".jpg", b"\x89P": ".png"}.get(content[:2], "")
