"""Where results are stored: a folder or any URI that pyarrow's filesystems know."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from lhs.errors import UserError

logger = logging.getLogger("lhs")

Read = TypeVar("Read")

TOLD_AFTER = 2.0
"""Seconds of waiting for another process after which it is told."""


class DamagedError(UserError, ValueError):
    """A stored file that is truncated or otherwise unreadable."""


class Storage:
    """Files below one root, local or remote; small enough to travel to every worker.

    Parameters
    ----------
    uri
        A path (`~` allowed) or a URI such as `s3://bucket/folder`.
    option
        What errors call it: `storage`, the setting, or a command's option such as `--out`.

    Raises
    ------
    UserError
        If no filesystem knows the URI, or it begins with `s3:/`, which would be a folder.
    """

    def __init__(self, uri: str, option: str = "storage") -> None:
        self.uri, self.option = uri, option
        if one_slash := re.match(r"([a-z][a-z0-9+.]+):/(?!/)", uri):
            raise UserError(
                f"{_named(uri, option)}: found {one_slash[0]}, a URI begins with "
                f"{one_slash[1]}://; allowed is a folder, s3:// or gs://"
            )
        self.local = "://" not in uri or uri.startswith("file://")
        try:
            place = str(Path(os.path.expanduser(uri)).absolute()) if "://" not in uri else uri
            self.filesystem, self.root = arrow_fs.FileSystem.from_uri(place)
        except (ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{_named(uri, option)}: {error}; allowed is a folder, s3:// or gs://"
            ) from None

    def path(self, *parts: str) -> str:
        """A path below the root, as the filesystem wants it."""
        return "/".join([self.root.rstrip("/"), *parts])

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self.filesystem.get_file_info(path).type != arrow_fs.FileType.NotFound

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none where there is no folder."""
        selector = arrow_fs.FileSelector(folder, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def make_folder(self, path: str) -> None:
        """Create a folder and those above it."""
        with explained(self.uri, self.option):
            self.filesystem.create_dir(path, recursive=True)

    def write(self, path: str, content: bytes) -> None:
        """Write a whole file."""
        with explained(self.uri, self.option), self.filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def replace(self, path: str, content: bytes) -> None:
        """Write a whole file so that it is there whole or not at all."""
        if not self.local:
            # Object stores show a file when it is closed.
            self.write(path, content)
            return
        folder, _, name = path.rpartition("/")
        half = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}"
        self.write(half, content)
        with explained(self.uri, self.option):
            os.replace(half, path)

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        with self.filesystem.open_input_stream(path) as stream:
            return stream.read()

    def write_json(self, path: str, tree: Any) -> None:
        """Write a JSON file so that it is there whole or not at all."""
        self.replace(path, (json.dumps(tree, indent=2) + "\n").encode())

    def read_json(self, path: str) -> Any:
        """Read a JSON file."""
        return self.parsed(path, json.loads)

    def parsed(self, path: str, parse: Callable[[bytes], Read]) -> Read:
        """Read a whole file and return what `parse` makes of it.

        Raises
        ------
        DamagedError
            If `parse` can't read it.
        """
        content = self.read(path)
        try:
            return parse(content)
        except (ValueError, EOFError, OSError) as error:
            file, folder = self.address(path), self.address(path.rpartition("/")[0])
            raise DamagedError(
                f"{file}: damaged ({error}); delete the folder {folder}: the command that made it "
                "makes it again"
            ) from None

    def read_array(self, path: str) -> np.ndarray:
        """Read a file of NumPy's `.npy` format."""
        return self.parsed(path, lambda content: np.load(io.BytesIO(content), allow_pickle=False))

    def read_table(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some columns of it."""
        return self.parsed(
            path, lambda content: pq.read_table(pa.BufferReader(content), columns=columns)
        )

    def move(self, source: str, target: str) -> None:
        """Move a file or folder; in one step, except folders of object stores: file by file."""
        with explained(self.uri, self.option):
            if self.local or self.filesystem.get_file_info(source).is_file:
                self.filesystem.move(source, target)
                return
            self.filesystem.create_dir(target, recursive=True)
            arrow_fs.copy_files(source, target, self.filesystem, self.filesystem)
            self.filesystem.delete_dir(source)

    def delete(self, folder: str) -> None:
        """Delete a folder and all in it, where it is there."""
        with explained(self.uri, self.option):
            if self.exists(folder):
                self.filesystem.delete_dir(folder)

    @contextmanager
    def locked(self, *parts: str) -> Iterator[None]:
        """Hold a lock of that name while the block runs; it ends with the process that holds it.

        Object stores have no locks: there two runs may do the same work, and the first result is
        kept.
        """
        if not self.local:
            yield
            return
        path = self.path(*parts)
        self.make_folder(path.rpartition("/")[0])
        with explained(self.uri, self.option), _told(FileLock(path)):
            yield

    def put_folder(self, source: Path, target: str) -> None:
        """Copy a local folder's content in."""
        with explained(self.uri, self.option):
            arrow_fs.copy_files(str(source), target, arrow_fs.LocalFileSystem(), self.filesystem)

    @contextmanager
    def as_local(self, folder: str) -> Iterator[Path]:
        """A stored folder as a local one: itself, or a copy that goes with the block."""
        if self.local:
            yield Path(folder)
            return
        with tempfile.TemporaryDirectory() as copy:
            arrow_fs.copy_files(folder, copy, self.filesystem, arrow_fs.LocalFileSystem())
            yield Path(copy)

    def address(self, path: str) -> str:
        """A path as people write it: with the URI's scheme where it is remote."""
        return path if self.local else f"{self.uri.split('://')[0]}://{path}"


@contextmanager
def _told(lock: FileLock) -> Iterator[None]:
    """Hold a lock; say that it is waited for if another process has it."""
    try:
        lock.acquire(timeout=TOLD_AFTER)
    except Timeout:
        logger.info(
            f"waiting for another command, which makes the same result (lock {lock.lock_file})"
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


UNFIT = "?%#"
"""Characters that SQLite's addresses in MLflow give another meaning."""


def opened_storage(uri: str) -> Storage:
    """The storage of results; its folder is made where it is not there.

    Raises
    ------
    UserError
        If it can't be made or written, or its name does not fit into MLflow's addresses.
    """
    storage = Storage(uri)
    if not storage.local:
        return storage
    unfit = [character for character in UNFIT if character in storage.root]
    if unfit:
        raise UserError(
            f"storage = {uri}: found {' and '.join(unfit)} in its path, which MLflow's addresses "
            "cannot hold; choose another folder with --set storage=... or LHS_STORAGE"
        )
    try:
        storage.make_folder(storage.root)
    except OSError as error:
        raise UserError(
            f"storage = {uri}: this folder cannot be made ({error}); choose another one with --set "
            "storage=... or LHS_STORAGE"
        ) from None
    if not os.path.isdir(storage.root) or not os.access(storage.root, os.W_OK | os.X_OK):
        raise UserError(
            f"storage = {uri}: no folder that can be written; choose another one with --set "
            "storage=... or LHS_STORAGE"
        )
    return storage


REASONS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "quota exceeded",
    errno.EACCES: "no permission to write",
    errno.EPERM: "no permission to write",
    errno.EROFS: "read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}
"""What an error's number means for a place to write to."""


def _named(uri: str, option: str) -> str:
    return f"storage = {uri}" if option == "storage" else f"{option} {uri}"


def is_storage_error(text: str, uri: str) -> bool:
    """Whether a user error's text, perhaps from another process, is one of `explained`."""
    return f"storage = {uri}: " in text


@contextmanager
def explained(uri: str, option: str = "storage") -> Iterator[None]:
    """Report a full, closed or read-only storage as a `UserError`; `option` as of `Storage`."""
    try:
        yield
    except OSError as error:
        # An error of a Ray task keeps its number in what caused it, and its text is a traceback.
        cause = getattr(error, "cause", None)
        found = cause if isinstance(cause, OSError) else error
        reason = REASONS.get(found.errno or 0)
        if reason is None:
            raise
        advice = "--set storage=..." if option == "storage" else option
        raise UserError(
            f"{_named(uri, option)}: {reason} ({found}); nothing finished is lost: "
            f"fix it and start again, or choose another folder with {advice}"
        ) from None
