"""No archive leaves its folder, and an interrupted unpack never looks like a finished one."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from lhs.data import archive as archive_module
from lhs.data.archive import file_errors, sha256_of, unpack
from lhs.errors import UserError

NEEDED = ("images", "labels")
GOOD = {"top/images/a.jpg": b"picture", "top/labels/a.txt": b"0 1"}
BAD_NAMES = [
    "../outside.txt",
    "top/../../outside.txt",
    "top/images/../../../outside.txt",
    "/tmp/lhs-outside.txt",
    "..\\outside.txt",
    "top\\..\\..\\outside.txt",
    "C:\\outside.txt",
    "C:outside.txt",
    "\\\\host\\outside.txt",
]


def _tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in others:
            tar.addfile(member)
    return path


def _zip(path: Path, files: dict[str, bytes], *others: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            # The constructor would cut or change a bad name: set it afterwards.
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            zipped.writestr(info, data)
        for info in others:
            zipped.writestr(info, b"/etc/passwd")
    return path


MAKERS: dict[str, Callable[..., Path]] = {"d.tar.gz": _tar, "d.zip": _zip}
both_kinds = pytest.mark.parametrize("name", list(MAKERS))


def _unpack(path: Path, target: Path, max_bytes: int = 10**9) -> None:
    unpack(path, target, needed=NEEDED, max_bytes=max_bytes)


def _nothing_but(root: Path, *names: str) -> None:
    assert sorted(path.name for path in root.iterdir()) == sorted(names)


@both_kinds
def test_top_folder_becomes_the_target(tmp_path: Path, name: str) -> None:
    extra = {"__MACOSX/top/._a": b"", "top/images/._a.jpg": b"", "./top/note": b""}
    path = MAKERS[name](tmp_path / name, GOOD | extra)
    _unpack(path, tmp_path / "root" / "set")
    found = {
        file.relative_to(tmp_path / "root").as_posix(): file.read_bytes()
        for file in (tmp_path / "root").rglob("*")
        if file.is_file()
    }
    assert found == {
        "set/images/a.jpg": b"picture",
        "set/labels/a.txt": b"0 1",
        "set/note": b"",
    }


def test_backslashes_in_a_zip_from_windows(tmp_path: Path) -> None:
    path = _zip(tmp_path / "d.zip", {k.replace("/", "\\"): v for k, v in GOOD.items()})
    _unpack(path, tmp_path / "set")
    assert (tmp_path / "set/images/a.jpg").read_bytes() == b"picture"


@both_kinds
@pytest.mark.parametrize("member", BAD_NAMES)
def test_members_that_would_leave(tmp_path: Path, name: str, member: str) -> None:
    path = MAKERS[name](tmp_path / name, GOOD | {member: b"evil"})
    root = tmp_path / "deep" / "root"
    with pytest.raises(UserError, match=f"{name}: member .*(absolute|leaves)"):
        _unpack(path, root / "set")
    _nothing_but(root)
    _nothing_but(tmp_path, "deep", name)
    assert not Path("/tmp/lhs-outside.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_special_files_in_tar(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("top/images/link")
    member.type, member.linkname = kind, "top/images/a.jpg"
    with pytest.raises(UserError, match=r"top/images/link.*link or a special file"):
        _unpack(_tar(tmp_path / "d.tar.gz", GOOD, member), tmp_path / "root/set")
    _nothing_but(tmp_path / "root")


def test_links_in_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/images/link")
    info.external_attr = 0o120777 << 16
    with pytest.raises(UserError, match=r"top/images/link.*link or a special file"):
        _unpack(_zip(tmp_path / "d.zip", GOOD, info), tmp_path / "root/set")
    _nothing_but(tmp_path / "root")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@both_kinds
def test_a_member_twice(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, GOOD | {"top//images/a.jpg": b"other"})
    with pytest.raises(UserError, match="occurs twice"):
        _unpack(path, tmp_path / "root/set")


@both_kinds
def test_bombs(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, GOOD | {"top/zeros": bytes(3 * 10**6)})
    with pytest.raises(UserError, match="bomb"):
        _unpack(path, tmp_path / "root/set", max_bytes=10**6)
    _nothing_but(tmp_path / "root")


def test_a_bomb_by_its_ratio(tmp_path: Path) -> None:
    path = _zip(tmp_path / "d.zip", GOOD | {"top/zeros": bytes(120 * 10**6)})
    with pytest.raises(UserError, match="bomb"):
        _unpack(path, tmp_path / "root/set", max_bytes=10**12)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 1)
    with pytest.raises(UserError, match="more than the 1 members"):
        _unpack(_tar(tmp_path / "d.tar.gz", GOOD), tmp_path / "set")


@both_kinds
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_archives(tmp_path: Path, name: str, share: float) -> None:
    path = MAKERS[name](tmp_path / name, GOOD | {"top/x": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        _unpack(path, tmp_path / "root/set")
    _nothing_but(tmp_path / "root")


def test_what_is_no_archive_or_another_one(tmp_path: Path) -> None:
    (tmp_path / "d.zip").write_bytes(b"not an archive")
    with pytest.raises(UserError, match="damaged, incomplete, encrypted or not an archive"):
        _unpack(tmp_path / "d.zip", tmp_path / "set")
    other = _tar(tmp_path / "other.tar.gz", {"top/pictures/a": b""})
    with pytest.raises(UserError, match=r"not the archive of set.*images, labels"):
        _unpack(other, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="No such file"):
        _unpack(tmp_path / "gone.zip", tmp_path / "set")


def test_an_existing_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match="already there"):
        _unpack(_tar(tmp_path / "d.tar.gz", GOOD), tmp_path / "set")


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A full disk can't be had in a test: the file system's answer is put in its place.
    def full(member: object, target: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    path = _tar(tmp_path / "d.tar.gz", GOOD)
    monkeypatch.setattr(archive_module, "_write_member", full)
    with pytest.raises(UserError, match=r"unpacking .*d\.tar\.gz.*no space left on the disk"):
        _unpack(path, tmp_path / "root/set")
    _nothing_but(tmp_path / "root")


def test_no_space_is_seen_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 5

    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match="GB are free"):
        _unpack(_zip(tmp_path / "d.zip", GOOD), tmp_path / "root/set")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(UserError, match=r"unpacking .*root"):
        _unpack(_tar(tmp_path / "d.tar.gz", GOOD), tmp_path / "root/set")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_permission(number: int) -> None:
    # The tests may run as root, whom no permission stops: only the message is tested.
    with (
        pytest.raises(UserError, match=r"writing: no permission \(/x\)"),
        file_errors("writing"),
    ):
        raise OSError(number, "refused", "/x")


def test_killed_runs_leave_nothing_that_counts(tmp_path: Path) -> None:
    path = _tar(tmp_path / "d.tar.gz", GOOD)
    target = tmp_path / "root" / "set"
    script = (
        "import os, sys; from pathlib import Path; from lhs.data import archive\n"
        "archive.os.sync = lambda: os._exit(9)\n"
        "archive.unpack(Path(sys.argv[1]), Path(sys.argv[2]), needed=('images',), max_bytes=10**9)"
    )
    done = subprocess.run([sys.executable, "-c", script, path, target], check=False)
    assert done.returncode == 9
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".partial-set-")
    _unpack(path, target)
    _nothing_but(target.parent, "set")


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(UserError, match="reading"):
        sha256_of(tmp_path / "b")
