"""Verifying and unpacking a dataset's archive, without trusting what is in it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import os
import re
import shutil
import socket
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from lhs.data.layout import find_base
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
        A tar file (compressed or not) or a zip file; recognised by content.
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


def safe_member(name: str) -> PurePosixPath | None:
    """Turn the name of an archive's member into a path that stays in its folder.

    Parameters
    ----------
    name
        As in the archive, with `/` or `\\`.

    Returns
    -------
    pathlib.PurePosixPath or None
        Relative, without `..`; None for members to leave out (what macOS adds).

    Raises
    ------
    UserError
        If the name is absolute, has a drive, `..` or a control character.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise UserError(f"member {name!r} has an absolute path")
    if any(ord(character) < 32 for character in path):
        raise UserError(f"member {name!r} has a control character in its name")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UserError(f"member {name!r} leaves the folder")
    if not parts or "__MACOSX" in parts or parts[-1].startswith("._"):
        return None
    return PurePosixPath(*parts)


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
                _extract_zip(zipped, archive, folder, max_bytes)
        else:
            with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
                _extract_tar(tar, raw, archive, folder, max_bytes)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UserError(
            f"{archive} is damaged, incomplete, encrypted or not an archive "
            f"(allowed: .tar.gz, .zip): {error}"
        ) from error
    except UserError as error:
        raise UserError(f"{archive}: {error}; nothing was unpacked") from None


def _extract_zip(zipped: zipfile.ZipFile, archive: Path, folder: Path, max_bytes: int) -> None:
    members = zipped.infolist()
    total = sum(member.file_size for member in members)
    writer = _Writer(archive, folder, max_bytes, total)
    writer.announce(total)
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"member {member.filename!r} is a link or a special file")
        if member.is_dir():
            writer.folder(member.filename)
        else:
            with zipped.open(member) as source:
                writer.file(member.filename, source)
    writer.end()


def _extract_tar(
    tar: tarfile.TarFile, raw: IO[bytes], archive: Path, folder: Path, max_bytes: int
) -> None:
    # A tar file does not say how much it holds: progress is the place in the compressed file.
    writer = _Writer(archive, folder, max_bytes, archive.stat().st_size, place=raw.tell)
    for member in tar:
        if member.isdir():
            writer.folder(member.name)
            continue
        if not member.isreg() or member.issparse():
            raise UserError(f"member {member.name!r} is a link or a special file")
        source = tar.extractfile(member)
        if source is None:
            raise UserError(f"member {member.name!r} can't be read")
        with source:
            writer.file(member.name, source)
    writer.end()


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

    def folder(self, name: str) -> None:
        self._count()
        path = safe_member(name)
        if path is not None:
            (self._folder / path).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes]) -> None:
        self._count()
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

    def end(self) -> None:
        self._progress.end()

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
