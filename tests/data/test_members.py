"""What stands in an archive is checked before it is believed."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.data.archive import unpack
from lhs.data.members import MAX_HEADER, safe_member, tar_members
from lhs.errors import UserError


def _refused(path: Path, match: str, max_bytes: int = 10**9) -> None:
    target = path.parent / "root" / "set"
    with pytest.raises(UserError, match=match):
        unpack(path, target, needed=("images",), max_bytes=max_bytes)
    assert list(target.parent.iterdir()) == []


def _tar(path: Path, kind: bytes, record: bytes, size: int | None = None) -> Path:
    """A tar file of one extending record and the file that it belongs to."""
    header = tarfile.TarInfo("record")
    header.type, header.size = kind, len(record) if size is None else size
    padded = record + bytes(-len(record) % 512)
    with tarfile.open(path, "w:gz") as tar:
        assert tar.fileobj is not None
        tar.fileobj.write(header.tobuf(tarfile.GNU_FORMAT) + padded)
        tar.addfile(tarfile.TarInfo("images/a"), io.BytesIO())
    return path


def _pax(**records: str) -> bytes:
    text = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        text += str(length).encode() + rest
    return text


KINDS = [
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
]


@pytest.mark.parametrize("kind", KINDS)
def test_records_of_any_size_are_not_read(tmp_path: Path, kind: bytes) -> None:
    path = _tar(tmp_path / "d.tar.gz", kind, b"x" * 20_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refused(path, rf"d\.tar\.gz: a member has more than {MAX_HEADER} bytes of names")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_many_small_records_before_one_member_are_refused(tmp_path: Path) -> None:
    record = tarfile.TarInfo("record")
    record.type = tarfile.XGLTYPE
    block = record.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "d.tar"
    path.write_bytes(block * 500 + bytes(1024))
    _refused(path, "more than")


@pytest.mark.parametrize("size", [-512, -10_000])
def test_a_record_of_less_than_nothing_is_refused(tmp_path: Path, size: int) -> None:
    _refused(_tar(tmp_path / "d.tar.gz", tarfile.XHDTYPE, b"", size), "d.tar.gz")


def test_sparse_files_are_refused_before_their_tables_are_read(tmp_path: Path) -> None:
    _refused(_tar(tmp_path / "old.tar.gz", tarfile.GNUTYPE_SPARSE, b""), "special file")
    # The table of the newest form is content: a count, then so many numbers.
    record = _pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"})
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    table = b"9999999\n" + b"0\n" * 10**6
    content = tarfile.TarInfo("images/a")
    content.size = len(table)
    path = tmp_path / "new.tar"
    path.write_bytes(
        header.tobuf(tarfile.GNU_FORMAT)
        + record + bytes(-len(record) % 512)
        + content.tobuf(tarfile.GNU_FORMAT)
        + table + bytes(-len(table) % 512)
        + bytes(1024)
    )  # fmt: skip
    _refused(path, "more than")


def test_long_names_are_still_read(tmp_path: Path) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = f"images/{'a' * 200}/{'b' * 200}"
        with tarfile.open(tmp_path / "d.tar", "w", format=format) as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        with (tmp_path / "d.tar").open("rb") as raw:
            assert [member.name for member in tar_members(raw)] == [name]


@pytest.mark.thorough
def test_members_are_forgotten_as_they_pass(tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    path.write_bytes(tarfile.TarInfo("images/a").tobuf() * 20_000 + bytes(1024))
    code = (
        "import resource, sys; from lhs.data.members import tar_members\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open(sys.argv[1], 'rb') as raw:\n"
        "    members = tar_members(raw); next(members); before = peak()\n"
        "    print(sum(1 for _ in members), peak() - before)"
    )
    run = [sys.executable, "-c", code, str(path)]
    number, grown = subprocess.run(run, check=True, capture_output=True).stdout.split()
    assert int(number) == 19_999
    assert int(grown) < 5_000


def test_left_out_members_count_too(tmp_path: Path) -> None:
    path = tmp_path / "d.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("__MACOSX/a")
        member.size = 2 * 10**6
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    _refused(path, "bomb", max_bytes=10**6)


def _zip(path: Path, name: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        info = zipfile.ZipInfo("x")
        info.filename, info.compress_type = name, method
        zipped.writestr(info, b"0")
    return path


def test_a_zip_member_without_a_name(tmp_path: Path) -> None:
    _refused(_zip(tmp_path / "d.zip", ""), r"d\.zip: a member has an empty name")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compressions_are_refused(tmp_path: Path, method: int) -> None:
    _refused(_zip(tmp_path / "d.zip", "images/a", method), f"by method {method}; allowed are 0")


def test_a_zip_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = _zip(tmp_path / "d.zip", "images/é")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    _refused(path, "damaged")


@pytest.mark.parametrize(
    ("name", "message"),
    [("a" * 5000, "5000 characters; allowed are 1000"), ("a/" * 60 + "b", "61 folders deep")],
)
def test_long_and_deep_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        safe_member(name)
    assert len(str(caught.value)) < 300


names = st.text(alphabet=st.sampled_from("ab./\\:C _\n\0é"), max_size=20) | st.text()


@given(names)
def test_any_member_name_stays_or_is_refused(name: str) -> None:
    try:
        path = safe_member(name)
    except UserError:
        return
    if path is None:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert "\\" not in str(path)
    folder = "/data/root/.partial"
    assert os.path.normpath(f"{folder}/{path}").startswith(folder + "/")
    assert safe_member(str(path)) == path


def test_ordinary_names() -> None:
    assert safe_member("./a//b.jpg") == PurePosixPath("a/b.jpg")
    assert safe_member("a..b/c...jpg") == PurePosixPath("a..b/c...jpg")
    assert safe_member("./") is None
