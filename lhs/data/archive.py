"""Verify and unpack a dataset's archive, without trust in its content."""

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

import psutil

from lhs.data.layout import find_base
from lhs.data.members import Member, safe_member, tar_members, zip_members
from lhs.data.progress import MB, Show, shown
from lhs.errors import UserError

MAX_MEMBERS = 2_000_000
# The label files of Stanford Background shrink to a 23rd; a bomb shrinks to a 1000th.
MAX_RATIO = 200
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Compute a file's SHA-256 digest, with its progress.

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
    title = f"verifying {path.name}, MB"
    with (
        file_errors(f"reading {path}"),
        path.open("rb") as file,
        shown(title, path.stat().st_size // MB) as show,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            show(file.tell() // MB)
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
        partial = partial_folder(target)
        try:
            _extract(archive, partial, max_bytes)
            base = find_base(partial, needed)
            if base is None:
                raise UserError(
                    f"{archive} is not the archive of {target.name}: it holds no folder with "
                    f"{', '.join(needed)}"
                )
            os.sync()  # the contents must be on the disk before the name marks them as complete
            base.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def file_errors(task: str) -> Iterator[None]:
    """Turn errors of the file system into `UserError`s.

    Parameters
    ----------
    task
        What was being done, with the names of file and folder.
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


def check_space(what: str, size: int, folder: Path) -> None:
    """Raise a `UserError` if `size` bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{what} needs {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free at {folder}"
        )


def _extract(archive: Path, folder: Path, max_bytes: int) -> None:
    size = archive.stat().st_size
    # A small archive may shrink more: its limit is never below 100 MB.
    most = min(max_bytes, max(MAX_RATIO * size, 10**8))
    task = f"unpacking {archive.name}, MB"
    try:
        # tarfile first would take a zip that holds an uncompressed tar for that tar.
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                total = sum(member.file_size for member in zipped.infolist())
                _check_size(total, most)
                check_space("it", total, folder)
                with shown(task, total // MB) as show:
                    _write_members(zip_members(zipped), folder, most, show)
        else:
            # A tar file has no total size: progress is the position in it.
            with archive.open("rb") as raw, shown(task, size // MB) as show:
                _write_members(tar_members(raw), folder, most, show, place=raw.tell)
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


def _write_members(
    members: Iterator[Member],
    folder: Path,
    most: int,
    show: Show,
    place: Callable[[], int] | None = None,
) -> None:
    """Write members below a folder; together they may take `most` bytes."""
    for number, member in enumerate(members, start=1):
        if number > MAX_MEMBERS:
            raise UserError(f"more than the {MAX_MEMBERS} members allowed")
        # Also of members that are left out: to reach the next, they are unpacked.
        _check_size(member.end, most)
        path = safe_member(member.name)
        if path is not None:
            _write_member(member, folder / path)
        show((place() if place else member.end) // MB)


def _write_member(member: Member, target: Path) -> None:
    if member.content is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = target.open("xb")
    except FileExistsError:
        raise UserError(f"member {member.name!r} occurs twice") from None
    with file:
        shutil.copyfileobj(member.content, file, _CHUNK)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise UserError(
            f"unpacks to more than the {most / 1e9:.1f} GB allowed for it (a decompression bomb?)"
        )


def partial_folder(target: Path) -> Path:
    """Make the folder to unpack into; remove what killed processes of this machine have left."""
    prefix = f".partial-{target.name}-{socket.gethostname()}-"
    for path in target.parent.iterdir():
        pid = path.name.removeprefix(prefix)
        if pid == path.name or not pid.isdigit():
            continue
        if int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
    partial = target.parent / f"{prefix}{os.getpid()}"
    partial.mkdir()
    return partial
