"""The members of a tar or zip file, one after another, each checked before its content is read.

tarfile's `data` filter allows links inside the folder and backslashes in names, and it runs after
tarfile has read a member's names, of any size, into memory. So these checks are our own.
"""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from lhs.errors import UserError

# Bytes before a member's content in a tar file: long names and other records of any size, which
# Python reads whole. An ordinary member has 512 bytes, one with a long name 2 kB.
MAX_HEADER = 1 << 15
MAX_NAME = 1000
MAX_DEPTH = 50


class Member(NamedTuple):
    """A file or folder in an archive.

    Attributes
    ----------
    name
        As in the archive.
    content
        Of a file, to be read before the next member; None for a folder.
    end
        Unpacked bytes of the archive up to the end of this member, as the archive declares them;
        `content` gives no more.
    """

    name: str
    content: IO[bytes] | None
    end: int


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
        If the name is absolute, has a drive, `..` or a control character, or is too long or deep.
    """
    if len(name) > MAX_NAME:
        raise UserError(
            f"member {name[:40]!r}... has a name of {len(name)} characters; allowed are {MAX_NAME}"
        )
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise UserError(f"member {name!r} has an absolute path")
    if any(ord(character) < 32 for character in path):
        raise UserError(f"member {name!r} has a control character in its name")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UserError(f"member {name!r} leaves the folder")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"member {name!r} lies {len(parts)} folders deep; allowed are {MAX_DEPTH}")
    if not parts or "__MACOSX" in parts or parts[-1].startswith("._"):
        return None
    return PurePosixPath(*parts)


def zip_members(zipped: zipfile.ZipFile) -> Iterator[Member]:
    """Iterate over the members of a zip file.

    Raises
    ------
    UserError
        At a link, a special file, an empty name or an unusual compression.
    """
    end = 0
    for info in zipped.infolist():
        if not info.filename:
            raise UserError("a member has an empty name")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"member {info.filename!r} is a link or a special file")
        # The other methods may need any amount of memory.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"member {info.filename!r} is compressed by method {info.compress_type}; "
                "allowed are 0 (stored) and 8 (deflated)"
            )
        end += info.file_size
        if info.is_dir():
            yield Member(info.filename, None, end)
        else:
            with zipped.open(info) as content:
                yield Member(info.filename, content, end)


def tar_members(raw: IO[bytes]) -> Iterator[Member]:
    """Iterate over the members of a tar file, compressed by gzip or not.

    Raises
    ------
    UserError
        At a link, a special or sparse file, or one with more than `MAX_HEADER` before its content.
    """
    compressed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    headers = _HeaderReader(gzip.GzipFile(fileobj=raw) if compressed else raw)
    with tarfile.TarFile(fileobj=headers) as tar:  # type: ignore[arg-type]
        while True:
            headers.left = MAX_HEADER
            member = tar.next()
            headers.left = None
            if member is None:
                return
            # Otherwise kept to the end, with the global records, which apply to all members.
            tar.members, tar.pax_headers = [], {}  # type: ignore[attr-defined]
            end = member.offset_data + member.size
            if member.isdir():
                yield Member(member.name, None, end)
                continue
            if not member.isreg() or member.issparse() or member.size < 0:
                raise UserError(f"member {member.name!r} is a link or a special file")
            content = tar.extractfile(member)
            assert content is not None
            with content:
                yield Member(member.name, content, end)


class _HeaderReader:
    """A file of which `tarfile` may read no more than `left` bytes; None: any number.

    The archive itself declares the sizes of its records and the lengths of its tables.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.left: int | None = MAX_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            if not 0 <= size <= self.left:
                raise UserError(
                    f"a member has more than {MAX_HEADER} bytes of names and other records"
                )
            self.left -= size
        return self._file.read(size)
