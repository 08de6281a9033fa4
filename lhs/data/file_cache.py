"""Copies of remote files on a node's disk; the least recently used go first.

fsspec's file caches have no bound on their size, and the one that notices changed files writes its
whole index again for every new one.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from lhs.errors import UserError

GB = 10**9
IN_USE_SECONDS = 60
"""A copy used so recently is not deleted: a reader may be about to open it."""
_LEAST_FREED = 0.1
"""Share of the bound that is freed at a time, so that not every new file looks through all."""
_bound = 50 * GB


def set_bound(gigabytes: float) -> None:
    """Bound the size of this node's copies, as `data.cache_gb` says."""
    global _bound
    _bound = round(gigabytes * GB)


def bound() -> float:
    """The bound in this process, in GB."""
    return _bound / GB


def cache_folder() -> Path:
    """This node's folder of copies, below `LHS_CACHE` or `~/.cache/lhs`; it may be deleted."""
    return Path(os.path.expanduser(os.environ.get("LHS_CACHE", "~/.cache/lhs"))) / "data"


def kept_copy(name: str, size: int, fetch: Callable[[], bytes]) -> Path:
    """Find the copy of a file, or make it.

    Parameters
    ----------
    name
        What tells it, and this version of it, from all others.
    size
        Its bytes.
    fetch
        Gives them.

    Returns
    -------
    pathlib.Path
        Of a whole file; it stays for at least `IN_USE_SECONDS`.

    Raises
    ------
    UserError
        If the disk is full or can't be written.
    """
    folder = cache_folder()
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    place = folder / digest[:2] / digest
    try:
        with suppress(FileNotFoundError):
            if place.stat().st_size == size:
                os.utime(place)
                return place
        place.parent.mkdir(parents=True, exist_ok=True)
        _make_room(folder, size)
        content = fetch()
        half = place.with_name(f"{digest}.{uuid.uuid4().hex[:8]}")
        half.write_bytes(content)
        os.replace(half, place)
    except FileNotFoundError:
        # The remote file's.
        raise
    except OSError as error:
        raise UserError(
            f"{folder}, where files of buckets are kept: {error.strerror or error}; allow less "
            f"than data.cache_gb = {bound():g}, or name another folder with LHS_CACHE"
        ) from None
    return place


def _make_room(folder: Path, size: int) -> None:
    """Count `size` bytes more, after deleting copies if they would exceed the bound."""
    count = folder / "bytes"
    with FileLock(folder / "lock"):
        try:
            used = int(count.read_text())
        except (FileNotFoundError, ValueError):
            used = _reduced(folder, _bound)
        if used + size > _bound:
            used = _reduced(folder, int(_bound * (1 - _LEAST_FREED)) - size)
        count.write_text(str(used + size))


def _reduced(folder: Path, most: int) -> int:
    """Delete copies, those used longest ago first, down to `most` bytes; returns what is left."""
    found = []
    for place in folder.glob("??/*"):
        with suppress(FileNotFoundError):
            state = place.stat()
            found.append((state.st_mtime, state.st_size, place))
    used, recent = sum(size for _, size, _ in found), time.time() - IN_USE_SECONDS
    for last_use, size, place in sorted(found):
        if used <= most or last_use > recent:
            break
        place.unlink(missing_ok=True)
        used -= size
    return used
