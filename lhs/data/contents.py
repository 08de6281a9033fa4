"""Whether files have changed: sizes and times first, digests of those that differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from lhs.data.progress import shown
from lhs.data.remote import local_copy

Result = TypeVar("Result")

THREADS = 16
"""Files at a time: over a network most of the time is waiting."""
BLOCK = 50
"""Files that a thread takes at a time."""
SETTLED = 2 * 10**9
"""Nanoseconds after which a change of a file shows in its times, on every filesystem."""


class FileState(NamedTuple):
    """What says without reading a file that it is as it was; times in nanoseconds.

    `changed` (ctime) also tells of a file that got the modification time of the one it replaced,
    as from archives.
    """

    size: int
    modified: int
    changed: int

    def settled(self, now: int) -> bool:
        """Whether it was last written so long before `now` that a later change would show."""
        return max(self.modified, self.changed) < now - SETTLED


MISSING = FileState(-1, 0, 0)


def file_states(paths: Sequence[Path]) -> dict[str, FileState]:
    """Look at files, many at a time; `MISSING` for those that are not there."""
    return dict(zip(map(str, paths), _in_threads(_state, paths), strict=True))


def file_digest(path: str | Path) -> str:
    """Digest a file's content: its sha256, hexadecimal; empty where it can't be read."""
    try:
        with open(local_copy(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def file_digests(paths: Sequence[Path]) -> dict[str, str]:
    """Digest the content of files, many at a time, and show the progress."""
    with shown("changed files compared", len(paths)) as show:
        return dict(zip(map(str, paths), _in_threads(file_digest, paths, show), strict=True))


def contents_digest(digests: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Digest the content of a dataset: the same wherever it lies.

    Parameters
    ----------
    digests
        Of each scene, its id and the digests of its files.

    Returns
    -------
    str
        sha256, hexadecimal; empty if no scene has a file.
    """
    rows = sorted((id, list(found)) for id, found in digests)
    if not any(found for _, found in rows):
        return ""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _state(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:
        return MISSING
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _in_threads(
    function: Callable[[Path], Result],
    paths: Sequence[Path],
    show: Callable[[int], None] = lambda finished: None,
) -> list[Result]:
    """The function's results, in the order of the paths."""
    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    found: list[Result] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(lambda block: [function(path) for path in block], blocks):
            found += part
            show(len(found))
    return found
