"""Find a dataset's files in its folder, also below one or two more folders."""

from __future__ import annotations

import bisect
import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from lhs.data.images import IMAGE_SUFFIXES
from lhs.data.remote import RemotePath, located
from lhs.errors import UserError


def find_base(folder: Path, needed: Iterable[str]) -> Path | None:
    """Find the folder that holds what a dataset consists of.

    Parameters
    ----------
    folder
        Where to begin.
    needed
        Names that one folder must have, such as ("images", "labels").

    Returns
    -------
    pathlib.Path or None
        `folder` itself or a folder at most two levels below it; None where nothing fits.
    """
    needed = tuple(needed)
    level = [folder]
    for _ in range(3):
        for candidate in level:
            if all((candidate / name).exists() for name in needed):
                return candidate
        level = [child for parent in level for child in _folders(parent)]
    return None


def find_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[PurePosixPath]:
    """List the files below a folder with one of these (lower-case) suffixes.

    Returns
    -------
    list of pathlib.PurePosixPath
        Relative to `folder`, sorted; hidden files are left out.
    """
    suffixes = frozenset(suffixes)
    return sorted(path for path in files_below(folder, _refuse) if path.suffix.lower() in suffixes)


def files_below(
    folder: Path, onerror: Callable[[OSError], None] | None = None
) -> Iterator[PurePosixPath]:
    """Iterate over the files below a folder, relative to it, without hidden ones; `onerror` as of
    `os.walk`."""
    if isinstance(folder, RemotePath):
        below = folder.files_below()
        yield from (path for path in below if not any(part[0] == "." for part in path.parts))
        return
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=onerror):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = PurePosixPath(os.path.relpath(parent, folder).replace(os.sep, "/"))
        yield from (relative / name for name in files if not name.startswith("."))


def scene_ids(files: list[PurePosixPath]) -> list[str]:
    """Make ids from image paths: without suffix and without the folders that all have in common.

    Examples
    --------
    >>> scene_ids([PurePosixPath("all/a.jpg"), PurePosixPath("all/b.jpg")])
    ['a', 'b']
    >>> scene_ids([PurePosixPath("x/a.jpg"), PurePosixPath("y/a.jpg")])
    ['x/a', 'y/a']
    """
    if not files:
        return []
    common = os.path.commonpath([str(path.parent) for path in files])
    return [path.relative_to(common).with_suffix("").as_posix() for path in files]


def read_lines(path: Path) -> list[str]:
    """Read a list of one entry per line, UTF-8 or UTF-16, without blank lines and outer spaces.

    Raises
    ------
    UserError
        If it is in another encoding.
    """
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start + 1} is not UTF-8; save the file in this encoding"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def found_instead(missing: Path) -> str:
    """Name files that lie where one is missing and have its name with something after it.

    Returns
    -------
    str
        The rest of a message, such as "; there is a_mask.png"; empty where there is none.
    """
    stem = missing.stem
    try:
        names = _names(str(missing.parent), missing.parent.stat().st_mtime_ns)
    except OSError:
        return ""
    there = []
    for name in names[bisect.bisect_left(names, stem) :]:
        rest = name[len(stem) :]
        if not name.startswith(stem):
            break
        # `beach_1.png` is not meant for the image `beach`, `beach_mask.png` is.
        if rest[:1] in (".", "_", "-", " ") and not rest[1:2].isdigit():
            there.append(name)
    if not there:
        return ""
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    return f"; there is {', '.join(there[:3])}{more}, where {missing.name} is looked for"


@lru_cache(maxsize=4)
def _names(folder: str, changed: int) -> list[str]:
    """The names in a folder, sorted; once for thousands of missing files."""
    return sorted(child.name for child in located(folder).iterdir())


def _refuse(error: OSError) -> None:
    """Raise what `os.walk` would leave out in silence."""
    raise error


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
