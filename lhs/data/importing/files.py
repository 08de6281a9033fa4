"""What the readers share about files: names that stay inside, ends of files, partners, splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lhs.data.members import MAX_NAME
from lhs.errors import UserError

_END = 65_536
_SPLIT = re.compile(r"(train|val|test)(ing|id|idation|-dev)?(_?\d{2,4})?", re.IGNORECASE)


def inside(source: Path, folder: Path, name: object) -> Path:
    """The file that a dataset's own file names, which must lie inside the source.

    Parameters
    ----------
    source
        The whole dataset.
    folder
        Inside it; what the name is relative to.
    name
        As it stands there, with `/` or `\\`; `..` may lead out of `folder`, not of `source`.

    Raises
    ------
    UserError
        If the name is no text, is absolute or leaves the source.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise UserError(f"a file is named {name!r:.100}; needed: a path inside {source}")
    path = name.replace("\\", "/")
    if re.match(r"/|[A-Za-z]:", path):
        raise UserError(f"file name {name!r:.200} is absolute; needed: a path inside {source}")
    parts = list(folder.relative_to(source).parts)
    for part in path.split("/"):
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise UserError(f"file name {name!r:.200} leaves the folder {source}")
    return source.joinpath(*parts)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def class_name(name: object) -> str:
    """A class name without outer spaces.

    Raises
    ------
    UserError
        If it is no text of one line.
    """
    if not isinstance(name, str) or not name.strip() or not name.strip().isprintable():
        raise UserError(f"a class is named {name!r:.100}; needed: text of one line")
    return name.strip()


def ends(path: Path) -> bytes:
    """The first and the last 64 kB of a file, to recognise it without reading it."""
    with path.open("rb") as file:
        start = file.read(_END)
        file.seek(max(_END, path.stat().st_size - _END))
        return start + file.read(_END)


def split_of(name: str) -> str | None:
    """`train`, `val` or `test`, if a folder or list is called so, such as `train2017`."""
    found = _SPLIT.fullmatch(name)
    return found[1].lower() if found else None


def partners(
    folder: Path, files: Sequence[PurePosixPath], images: Sequence[PurePosixPath]
) -> dict[PurePosixPath, PurePosixPath]:
    """The image of each label file: that of the same name, in a folder of the same name if several.

    Raises
    ------
    UserError
        If two images fit one label file.
    """
    named: dict[str, list[PurePosixPath]] = {}
    for image in images:
        named.setdefault(image.stem, []).append(image)
    found = {}
    for file in files:
        fit = named.get(file.stem, [])
        if len(fit) > 1:
            fit = [image for image in fit if image.parent.name == file.parent.name] or fit
        if len(fit) > 1:
            raise UserError(
                f"{folder / file}: both {fit[0]} and {fit[1]} may be its image; needed: one image "
                "of that name, or images in folders that are called as those of the label files"
            )
        if fit:
            found[file] = fit[0]
    return found


def some(names: Sequence[object], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name)[:200] for name in names[:most]) + more
