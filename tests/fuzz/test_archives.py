"""Archives of every kind and damage are unpacked inside their folder, or refused."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.data import archive
from tests.fuzz.guard import edited, edits, ends_well, fuzzed

NEEDED = ("images",)
MEGABYTES = 50

parts = st.sampled_from(
    ["images", "labels", "a", "..", ".", "", "~", "C:", "__MACOSX", "._a", "\\", "x" * 300, "é",
     "\n"]
) | st.text(max_size=8)  # fmt: skip
names = st.lists(parts, max_size=5).map("/".join) | st.sampled_from(
    ["/etc/passwd", "../../../x", "images/../../x", "C:\\x", "\\\\host\\x", "d/" * 60 + "x",
     "y" * 2000]
)  # fmt: skip
content = st.binary(max_size=40) | st.sampled_from([bytes(100_000), b"\x1f\x8b" * 50])
kinds = st.sampled_from(
    [tarfile.REGTYPE] * 6
    + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
       tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z"]
)  # fmt: skip
records = st.dictionaries(
    st.sampled_from(["path", "size", "linkpath", "mtime", "GNU.sparse.major", "GNU.sparse.minor",
                     "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.name", "hdrcharset", "x"]),
    st.sampled_from(["1", "0", "-512", "99999999999", "0,1,2,3", "../x", "1e999", "BINARY",
                     "z" * 40000])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    max_size=3,
)  # fmt: skip
tar_members = st.lists(st.tuples(names, kinds, content, records, st.integers(0, 7)), max_size=6)
zip_members = st.lists(
    st.tuples(names, content, st.sampled_from([0, 8, 8, 8, 12, 14]),
              st.sampled_from([0, 0, 0, 0o120777, 0o40755, 0o10644, 0o100644])),
    max_size=6,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _no_sync():  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.os, "sync", lambda: None)
        yield


def check(place: Path, data: bytes) -> None:
    """Unpack it; everything that is then anywhere lies in the folder, and is a file or folder."""
    path, root = place / "archive", place / "root"
    path.write_bytes(data)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()

    def unpack() -> bool:
        archive.unpack(path, root / "set", needed=NEEDED, max_bytes=10**7)
        return True

    if not ends_well(unpack, MEGABYTES, root):
        assert list(root.iterdir()) == []
        return
    assert [each.name for each in root.iterdir()] == ["set"]
    for each in root.rglob("*"):
        assert not each.is_symlink()
        assert each.is_file() or each.is_dir()


def make_tar(members: list) -> bytes:
    out = io.BytesIO()
    for name, kind, data, pax, flags in [("images/a", tarfile.REGTYPE, b"1", {}, 0), *members]:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, len(data), "../a" if flags & 1 else ""
        if flags & 2:
            info.size = (len(data) * 7919) % 9_000_000
        info.pax_headers = pax if flags & 4 else {}
        style = tarfile.PAX_FORMAT if pax and flags & 4 else tarfile.GNU_FORMAT
        try:
            out.write(info.tobuf(style, errors="surrogateescape"))
        except ValueError:  # a name that tar can't hold
            continue
        out.write(data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def with_checksums(data: bytes) -> bytes:
    """Put in the checksums of what looks like headers, so that damage gets past them."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        block = blocks[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(blocks)


@pytest.mark.thorough
@fuzzed(60)
@given(tar_members, edits, st.booleans(), st.booleans())
def test_tar(place: Path, members: list, changes: list, checked: bool, zipped: bool) -> None:
    data = edited(make_tar(members), changes)
    if checked:
        data = with_checksums(data)
    check(place, gzip.compress(data, 1) if zipped else data)


@fuzzed(30)
@given(tar_members, edits)
def test_damaged_gzip(place: Path, members: list, changes: list) -> None:
    check(place, edited(gzip.compress(make_tar(members), 1), changes))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@fuzzed(60)
@given(zip_members, edits)
def test_zip(place: Path, members: list, changes: list) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, data, method, mode in [("images/a", b"1", 8, 0), *members]:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            info.external_attr = mode << 16
            try:
                zipped.writestr(info, data)
            except (UnicodeEncodeError, IndexError):  # a name that Python won't write
                continue
    check(place, edited(out.getvalue(), changes))


@fuzzed(20)
@given(st.sampled_from([b"", b"PK\5\6", b"PK\3\4", b"\x1f\x8b\x08\0", b"BZh9"]), st.binary())
def test_any_bytes(place: Path, start: bytes, data: bytes) -> None:
    check(place, start + data)
