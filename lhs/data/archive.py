"""Verifying and unpacking a dataset's archive, without trusting what is in it."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from lhs.data.layout import find_base
from lhs.data.members import Member, safe_member, tar_members, zip_members
from lhs.data.progress import Progress
from lhs.errors import UserError

MAX_MEMBERS = 2_000_000
# The label files of Stanford Background shrink to a 23rd; a bomb shrinks to a 1000th.
MAX_RATIO = 200
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Digest a file, telling progress on stderr.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UserError
        If the file can't be read.
    """
    digest = hashlib.sha256()
    with file_errors(f"reading {path}"), path.open("rb") as file:
        progress = Progress(f"verifying {path.name}", path.stat().st_size)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress.add(len(chunk))
        progress.end()
    return digest.hexdigest()


def unpack(archive: Path, target: Path, *, needed: tuple[str, ...], max_bytes: int) -> None:
    """Unpack a `.tar.gz` or `.zip` so that `target` appears at once and complete, or not at all.

    Parameters
    ----------
    archive
        A tar file (compressed by gzip or not) or a zip file; recognised by content.
    target
        The folder to make. It gets what the archive's own top folder holds.
    needed
        Names that must be in the archive side by side; their folder becomes `target`.
    max_bytes
        The most that the unpacked files may take together.

    Raises
    ------
    UserError
        If the archive is damaged, holds a member that would leave the folder, a link or a special
        file, is too large, or is not what it should be; if there is no space or no permission; if
        `target` exists.
    """
    if target.exists():
        raise UserError(f"{target} is already there; remove it to unpack {archive.name} again")
    with file_errors(f"unpacking {archive} to {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        partial = _partial(target)
        partial.mkdir()
        try:
            _extract(archive, partial, max_bytes)
            base = find_base(partial, needed)
            if base is None:
                raise UserError(
                    f"{archive} is not the archive of {target.name}: it holds no folder with "
                    f"{', '.join(needed)}"
                )
            os.sync()  # contents must be on the disk before the name says that they are complete
            base.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def file_errors(task: str) -> Iterator[None]:
    """Tell the file system's refusals as the user's to mend.

    Parameters
    ----------
    task
        What was being done, naming file and folder.
    """
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{task}: no space left on the disk{place}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{task}: no permission{place}") from error
        raise UserError(f"{task}: {error.strerror or error}{place}") from error


def _extract(archive: Path, folder: Path, max_bytes: int) -> None:
    try:
        # tarfile first would take a zip that holds an uncompressed tar for that tar.
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                total = sum(member.file_size for member in zipped.infolist())
                writer = _Writer(archive, folder, max_bytes, total)
                writer.announce(total)
                writer.write_all(zip_members(zipped))
        else:
            with archive.open("rb") as raw:
                # A tar file does not say how much it holds: progress is the place in it.
                size = archive.stat().st_size
                writer = _Writer(archive, folder, max_bytes, size, place=raw.tell)
                writer.write_all(tar_members(raw))
    except UserError as error:
        raise UserError(f"{archive}: {error}; nothing was unpacked") from None
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        # Damaged archives make the readers raise nearly anything.
        raise UserError(
            f"{archive} is damaged, incomplete, encrypted or not an archive "
            f"(allowed: .tar, .tar.gz, .zip): {str(error)[:200] or repr(error)}"
        ) from error


class _Writer:
    """Writes members below one folder and keeps count of what they take."""

    def __init__(
        self,
        archive: Path,
        folder: Path,
        max_bytes: int,
        total: int,
        place: Callable[[], int] | None = None,
    ) -> None:
        self._folder = folder
        # A small archive may shrink more: its limit is never below 100 MB.
        self._most = min(max_bytes, max(MAX_RATIO * archive.stat().st_size, 10**8))
        self._bytes = 0
        self._members = 0
        self._progress = Progress(f"unpacking {archive.name}", total)
        self._place = place

    def announce(self, total: int) -> None:
        """Refuse what says beforehand that it will not fit."""
        self._check(total)
        free = shutil.disk_usage(self._folder).free
        if total > free:
            raise UserError(
                f"needs {total / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free at "
                f"{self._folder.parent}"
            )

    def write_all(self, members: Iterator[Member]) -> None:
        """Write what comes, in its order."""
        for member in members:
            self._count()
            # Also of members that are left out: to reach the next, they are unpacked.
            self._check(member.end)
            if member.content is None:
                self._make_folder(member.name)
            else:
                self._file(member.name, member.content)
        self._progress.end()

    def _make_folder(self, name: str) -> None:
        path = safe_member(name)
        if path is not None:
            (self._folder / path).mkdir(parents=True, exist_ok=True)

    def _file(self, name: str, source: IO[bytes]) -> None:
        path = safe_member(name)
        if path is None:
            return
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = target.open("xb")
        except FileExistsError:
            raise UserError(f"member {name!r} occurs twice") from None
        with file:
            while chunk := source.read(_CHUNK):
                self._bytes += len(chunk)
                self._check(self._bytes)
                file.write(chunk)
                self._progress.reach(self._place() if self._place else self._bytes)

    def _count(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise UserError(f"more than the {MAX_MEMBERS} members allowed")

    def _check(self, size: int) -> None:
        if size > self._most:
            raise UserError(
                f"unpacks to more than the {self._most / 1e9:.1f} GB allowed for it "
                "(a decompression bomb?)"
            )


def _partial(target: Path) -> Path:
    return target.parent / f".partial-{target.name}-{socket.gethostname()}-{os.getpid()}"


def _remove_stale(target: Path) -> None:
    """Remove what killed runs of this machine have left; those of live processes stay."""
    prefix = f".partial-{target.name}-{socket.gethostname()}-"
    for path in target.parent.iterdir():
        pid = path.name.removeprefix(prefix)
        if pid != path.name and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
