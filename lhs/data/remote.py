"""Datasets in object stores: paths whose text is a URI, read through copies on the node's disk.

Readers use them as any `Path`. Where one is opened, `os.fspath` gives the copy. Names, sizes and
times come from one listing for each opened dataset.
"""

from __future__ import annotations

import errno
import functools
import math
import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path, PosixPath, PurePath, PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from lhs.data.file_cache import bound, kept_copy, set_bound
from lhs.errors import UnreachableError, UserError

Result = TypeVar("Result")

_URI = re.compile(r"([a-z][a-z0-9+]*)://([^/?]+)/*(.*?)(\?[^/?=]+=[^/?]*)?", re.DOTALL)
_TIMEOUT_SECONDS = 8.0
"""A server is silent for so long, and curl notices up to six seconds later. It is not asked a third
time then, so that an error is told within half a minute."""
_WAITS = (0.5, 1.0, 2.0, 0.0)
"""Seconds after each attempt."""
_PASSING = r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|UNAVAILABLE|\b50[0-9]\b"
"""Errors that may not come again."""
_LOST_SECONDS = 5.0
"""So long after an error a bucket is not asked again: other threads would wait once more."""
_MOST_LISTINGS = 4
UNFINISHED = ".unfinished"
"""Lies in a folder while files are copied into it."""
_CREDENTIALS = (
    "give this node credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, or a role of its own"
)
_ADVICE = (
    (r"NO_SUCH_BUCKET|[Bb]ucket '[^']*' not found", "correct the bucket's name"),
    (r"DENIED|INVALID_|SIGNATURE|\b40[13]\b|[Cc]redential|OAuth|UNAUTH", _CREDENTIALS),
    (r"NETWORK_CONNECTION|UNAVAILABLE|curl|CURL", "check the network, and start again: what was "
     "read is kept"),
    (r"Unrecognized filesystem", "allowed are a folder, s3://, gs://, abfs:// and hdfs://"),
)  # fmt: skip


class Entry(NamedTuple):
    """What a listing says of a file: bytes, and the nanoseconds when it was written."""

    size: int
    modified: int
    folder: bool = False


class _Listing(NamedTuple):
    """What lies below a folder, by path relative to it, and the names in each folder."""

    entries: dict[str, Entry]
    names: dict[str, list[str]]


_listings: dict[RemotePath, _Listing] = {}
_adopted: dict[str, Entry] = {}
_lost: dict[tuple[str, ...], tuple[float, str]] = {}
"""When a bucket could not be reached, and the error."""


class RemotePath(PosixPath):
    """A file or folder of an object store, made by `located`.

    Its parts are the scheme with the URI's query, the bucket, folders and the name, so that all of
    pathlib's arithmetic holds. `str` gives the URI, `os.fspath` a copy on this node's disk.
    """

    def __str__(self) -> str:
        head, *rest = self.parts
        scheme, mark, query = head.partition("?")
        return f"{scheme}//{'/'.join(rest)}{mark}{query}"

    def __fspath__(self) -> str:
        """The path of a copy, fetched if this node has none.

        Raises
        ------
        FileNotFoundError
            If the file is not there.
        UnreachableError
            If the store can't be reached, or the file is not as it was listed.
        """
        entry = self._found()
        version = f"{self} {entry.size} {entry.modified}"
        return str(kept_copy(version, entry.size, lambda: self._content(entry.size)))

    def __truediv__(self, key: Any) -> Any:
        # As pathlib: an absolute path replaces what is before it.
        absolute = isinstance(key, Path) and key.is_absolute()
        return key if absolute else super().__truediv__(key)

    def relative_to(self, *other: Any, **options: Any) -> Any:
        """The part below another path of the store, a `PurePosixPath`."""
        return PurePosixPath(*self.parts).relative_to(
            *(PurePosixPath(*one.parts) if isinstance(one, PurePath) else one for one in other)
        )

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time, from the listing if it was listed."""
        entry = self._found()
        mode = stat.S_IFDIR if entry.folder else stat.S_IFREG
        times = {"st_mtime_ns": entry.modified, "st_ctime_ns": entry.modified}
        return os.stat_result((mode, 0, 0, 1, 0, 0, entry.size, 0, 0, 0), times)

    def exists(self, **options: Any) -> bool:
        """Whether it is there."""
        return _entry(self) is not None

    def is_dir(self, **options: Any) -> bool:
        """Whether it is a folder: whether files lie below it."""
        entry = _entry(self)
        return entry is not None and entry.folder

    def is_file(self, **options: Any) -> bool:
        """Whether it is a file."""
        entry = _entry(self)
        return entry is not None and not entry.folder

    def iterdir(self) -> Generator[RemotePath, None, None]:
        """Files and folders in a folder."""
        listing, inside = self._listed()
        yield from (self / name for name in listing.names.get(inside, ()))

    def files_below(self) -> Iterator[PurePosixPath]:
        """All files below a folder, relative to it."""
        listing, inside = self._listed()
        start = f"{inside}/" if inside else ""
        for path, entry in listing.entries.items():
            if not entry.folder and path.startswith(start):
                yield PurePosixPath(path[len(start) :])

    def refresh(self) -> None:
        """List all below this folder anew.

        Raises
        ------
        UnreachableError
            If the store can't be reached or refuses; not if nothing lies there.
        """
        from pyarrow.fs import FileSelector, FileType

        def find() -> tuple[Any, str]:
            filesystem, place = self.place()
            return filesystem.get_file_info(FileSelector(place, recursive=True)), place

        try:
            found, place = asked(self, find)
        except FileNotFoundError:
            found, place = [], ""
        entries: dict[str, Entry] = {}
        names: dict[str, list[str]] = defaultdict(list)

        def add(path: str, entry: Entry) -> None:
            if path not in entries:
                entries[path] = entry
                if path:
                    folder, _, name = path.rpartition("/")
                    names[folder].append(name)
                    add(folder, Entry(0, 0, folder=True))

        for info in found:
            path = info.path[len(place) :].strip("/")
            if info.type == FileType.File:
                add(path, Entry(info.size, info.mtime_ns))
            else:
                add(path, Entry(0, 0, folder=True))
        _listings.pop(self, None)
        while len(_listings) >= _MOST_LISTINGS:
            del _listings[next(iter(_listings))]
        _listings[self] = _Listing(entries, dict(names))

    def place(self) -> tuple[Any, str]:
        """The `pyarrow.fs.FileSystem`, and the path as it wants it; to be called while `asked`."""
        head, bucket, *rest = self.parts
        filesystem, base = _filesystem(head, bucket)
        return filesystem, "/".join([base.rstrip("/"), *rest])

    def _listed(self) -> tuple[_Listing, str]:
        """The listing that it is in, made if there is none, and its own path there."""
        root = _root(self)
        if root is None:
            self.refresh()
            root = self
        return _listings[root], _relative(root, self)

    def _found(self) -> Entry:
        entry = _entry(self)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return entry

    def _content(self, size: int) -> bytes:
        def read() -> bytes:
            filesystem, place = self.place()
            with filesystem.open_input_stream(place) as stream:
                return bytes(stream.read())

        content = asked(self, read)
        if len(content) != size:
            raise UnreachableError(
                f"{self}: {len(content)} bytes, but {size} when the folder was listed: it was "
                "changed meanwhile; start again"
            )
        return content


def located(path: str | Path) -> Path:
    """A path, of this machine or, for a URI or the text of a `RemotePath`, of an object store.

    Raises
    ------
    UserError
        If a URI has no bucket, or holds a password, which reports would show.
    """
    if isinstance(path, Path):
        return path
    if "://" not in path:
        return Path(path)
    if path.startswith("file://"):
        return Path(unquote(urlsplit(path).path))
    match = _URI.fullmatch(path)
    if match is None:
        raise UserError(f"{path}: no address of a folder; allowed are such as s3://BUCKET/FOLDER")
    scheme, bucket, rest, query = match.groups()
    user, _, _ = bucket.rpartition("@")
    if ":" in user:
        raise UserError(
            f"{scheme}://...@{bucket.rpartition('@')[2]}: the URI holds a password, which reports "
            f"would show; {_CREDENTIALS}"
        )
    return RemotePath(f"{scheme}:{query or ''}", bucket, rest)


def local_copy(path: str | Path) -> str | Path:
    """The path to open: itself, or a copy on this node's disk for a URI. See `RemotePath`."""
    return os.fspath(located(path)) if "://" in str(path) else path


def asked(path: RemotePath, request: Callable[[], Result]) -> Result:
    """The result of a request to a store, which is repeated where that may help.

    Raises
    ------
    FileNotFoundError
        If pyarrow raises it.
    UnreachableError
        For all else that its filesystems raise; it says what to do.
    """
    from pyarrow import ArrowException

    bucket, started = path.parts[:2], time.monotonic()
    when, message = _lost.get(bucket, (-math.inf, ""))
    if started - when < _LOST_SECONDS:
        raise UnreachableError(message)
    for wait in _WAITS:
        try:
            return request()
        except FileNotFoundError:
            raise
        except (ArrowException, OSError, ValueError) as error:
            text = " ".join(str(error).split())
        if not re.search(_PASSING, text) or time.monotonic() - started > _TIMEOUT_SECONDS + 1:
            break
        time.sleep(wait)
    advice = [advice for pattern, advice in _ADVICE if re.search(pattern, text)]
    message = f"{path}: can't be reached: {text[:300]}; {[*advice, 'start again'][0]}"
    _lost[bucket] = time.monotonic(), message
    raise UnreachableError(message)


@dataclass(frozen=True)
class Carried:
    """What a process knows of files, for another one that is to read them in the same way."""

    files: dict[str, Entry]
    bound: float


def carried(*paths: str) -> Carried | None:
    """What is known of files; None for those of a disk."""
    if not any("://" in path for path in paths):
        return None
    found = {path: _known(located(path)) for path in paths}
    return Carried({path: entry for path, entry in found.items() if entry is not None}, bound())


def adopt(known: Carried | None) -> None:
    """Take over what another process knew of files."""
    if known is None:
        return
    set_bound(known.bound)
    for path, entry in known.files.items():
        place = located(path)
        assert isinstance(place, RemotePath)
        root = _root(place)
        if root is None:
            _adopted[path] = entry
        else:
            _listings[root].entries[_relative(root, place)] = entry


def _root(path: RemotePath) -> RemotePath | None:
    """The listed folder that a path lies in."""
    parts = path.parts
    return next((root for root in _listings if parts[: len(root.parts)] == root.parts), None)


def _relative(root: RemotePath, path: RemotePath) -> str:
    return "/".join(path.parts[len(root.parts) :])


def _known(path: Path) -> Entry | None:
    """An entry without asking the store."""
    if not isinstance(path, RemotePath):
        return None
    root = _root(path)
    if root is None:
        return _adopted.get(str(path))
    return _listings[root].entries.get(_relative(root, path))


def _entry(path: RemotePath) -> Entry | None:
    """A file or folder; None where nothing is. The store is asked about what was not listed."""
    from pyarrow.fs import FileType

    known = _known(path)
    if known is not None or _root(path) is not None:
        return known

    def find() -> Any:
        filesystem, place = path.place()
        return filesystem.get_file_info(place)

    info = asked(path, find)
    if info.type == FileType.NotFound:
        return None
    if info.type == FileType.Directory:
        return Entry(0, 0, folder=True)
    return Entry(info.size, info.mtime_ns)


@functools.lru_cache
def _filesystem(head: str, bucket: str) -> tuple[Any, str]:
    """The filesystem of a bucket, and the start of its paths."""
    from pyarrow import fs

    scheme, _, query = head.partition("?")
    if scheme in ("gs:", "gcs:") and "retry_limit_seconds" not in query:
        # Its own limit is a quarter of an hour.
        query = f"{query}&retry_limit_seconds=5".lstrip("&")
    query = f"?{query}" if query else ""
    filesystem, base = fs.FileSystem.from_uri(f"{scheme}//{bucket}/{query}")
    if scheme == "s3:":
        # A URI can't say them, and by itself a silent server is an error after 99 seconds.
        _, (options,) = filesystem.__reduce__()
        options |= {
            "connect_timeout": _TIMEOUT_SECONDS,
            "request_timeout": _TIMEOUT_SECONDS,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=1),
        }
        filesystem = fs.S3FileSystem(**options)
    return filesystem, base
