"""Storage: local and remote, and what it says when it can't be written."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.storage import Storage, explained, opened_storage
from lhs.engine.tracking.tracker import tracking_uri
from lhs.errors import UserError
from tests.engine.conftest import declared


class Refusing:
    """A filesystem of which every write fails; tests run as root, to whom no folder is closed."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(self.number, os.strerror(self.number))

        return refuse


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
    ],
)
def test_what_a_full_or_closed_storage_says(tmp_path: Path, number: int, reason: str) -> None:
    storage = Storage(str(tmp_path))
    storage.filesystem = Refusing(number)
    (tmp_path / "made").mkdir()
    calls = [
        lambda: storage.make_folder(storage.path("a")),
        lambda: storage.write(storage.path("a"), b""),
        lambda: storage.write_json(storage.path("a"), {}),
        lambda: storage.move(storage.path("a"), storage.path("b")),
        lambda: storage.delete(storage.path("made")),
    ]
    for call in calls:
        with pytest.raises(UserError, match=rf"^storage = {tmp_path}: {reason}.*--set storage="):
            call()


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    storage = Storage(str(tmp_path))
    path = storage.path("runs", "mine", "facts.json")
    storage.make_folder(storage.path("runs", "mine"))
    storage.write(path, content)
    with pytest.raises(UserError, match=rf"^{path}: damaged \(.*folder {tmp_path}/runs/mine"):
        storage.read_json(path)
    with pytest.raises(ValueError, match="damaged"):
        storage.read_json(path)
    with pytest.raises(FileNotFoundError):
        storage.read_json(storage.path("none.json"))


def test_a_full_storage_found_by_a_worker() -> None:
    from ray.exceptions import RayTaskError

    error = RayTaskError("write", "Traceback ...", OSError(errno.ENOSPC, "No space left"))
    with pytest.raises(UserError, match="storage = x: no space left") as caught, explained("x"):
        raise error.as_instanceof_cause()
    assert "Traceback" not in str(caught.value)


def test_another_error_stays_itself(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.filesystem = Refusing(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        storage.make_folder(storage.path("a"))


def test_a_file_where_the_storage_should_be(tmp_path: Path) -> None:
    place = tmp_path / "results"
    place.write_text("not a folder")
    for below in (place, place / "deeper"):
        storage = Storage(str(below))
        with pytest.raises(UserError, match=f"storage = {below}.*not a folder"):
            Stages(storage).make(declared(lambda path: {}), Config())
        with pytest.raises(UserError, match=f"storage = {below}.*not a folder"):
            tracking_uri(storage)


def test_a_storage_that_an_option_names(tmp_path: Path) -> None:
    place = tmp_path / "results"
    place.write_text("not a folder")
    storage = Storage(str(place), "--out")
    message = rf"^--out {place}: a part .* choose another folder with --out$"
    with pytest.raises(UserError, match=message):
        storage.make_folder(storage.path("a"))
    with pytest.raises(UserError, match=r"^--storage ftp://there/x: .*s3://"):
        Storage("ftp://there/x", "--storage")


def test_unknown_scheme() -> None:
    with pytest.raises(UserError, match=r"storage = ftp://there.*s3://"):
        Storage("ftp://there/x")


@pytest.mark.parametrize("uri", ["s3:/bucket/x", "file:/tmp/x", "gs:/bucket"])
def test_a_uri_with_one_slash_is_no_folder(uri: str) -> None:
    with pytest.raises(UserError, match=rf"storage = {uri}: found .*:/, a URI begins with"):
        Storage(uri)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = Storage("~/results")
    assert storage.path("a", "b") == f"{tmp_path}/results/a/b"
    assert storage.local
    assert storage.address(storage.path("a")) == f"{tmp_path}/results/a"


def test_remote_round_trip(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_bytes(b"a")
    (tmp_path / "in" / "sub" / "b.txt").write_bytes(b"b")
    # Arrow's own filesystem in memory stands for a remote one.
    storage = Storage("mock:///bucket/results")
    assert not storage.local
    target = storage.path("stages", "x")
    storage.make_folder(target)
    storage.put_folder(tmp_path / "in", target)
    assert storage.list(target) == ["a.txt", "sub"]
    with storage.as_local(target) as folder:
        assert (folder / "a.txt").read_bytes() == b"a"
        assert (folder / "sub" / "b.txt").read_bytes() == b"b"
    assert not folder.exists()
    assert storage.address(target).startswith("mock://")
    storage.delete(target)
    assert not storage.exists(target)
    assert storage.list(target) == []


def test_remote_stage_is_built_and_reused() -> None:
    storage = Storage("mock:///bucket/results")

    def build(path: str) -> dict[str, Any]:
        storage.write(f"{path}/part", b"rows")
        return {"rows": 1}

    made = Stages(storage).make(declared(build), Config())
    found = Stages(storage).make(declared(build), Config())
    assert (made.reused, found.reused) == (False, True)
    assert found.facts == {"rows": 1}


def test_local_folder_is_itself(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with storage.as_local(storage.path()) as folder:
        assert folder == tmp_path
    assert tmp_path.is_dir()


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    storage, order = Storage(str(tmp_path)), []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with storage.locked("some", ".lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with storage.locked("some", ".lock"):
        inside.set()
        time.sleep(0.3)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]


@pytest.mark.thorough
def test_who_waits_for_a_lock_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lhs.engine.storage.TOLD_AFTER", 0.05)
    caplog.set_level("INFO", logger="lhs")
    storage = Storage(str(tmp_path))
    with storage.locked("some", ".lock"):
        assert not caplog.messages
        thread = threading.Thread(target=lambda: storage.locked("some", ".lock").__enter__())
        thread.start()
        time.sleep(0.5)
        assert [text.partition(",")[0] for text in caplog.messages] == [
            "waiting for another command"
        ]
    thread.join(timeout=10)


@pytest.mark.parametrize("name", ["a" * 300, "/proc/none"])
def test_a_storage_whose_folder_cannot_be_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"storage = .* cannot be made .*LHS_STORAGE"):
        opened_storage(str(tmp_path / name))


def test_the_storage_of_results_is_made_or_refused(tmp_path: Path) -> None:
    for name in ("plain", "with space", "new/below"):
        assert opened_storage(str(tmp_path / name)).root == str(tmp_path / name)
        assert (tmp_path / name).is_dir()
    for name, found in (("a?b", r"\?"), ("a%20b", "%"), ("a#b%", "% and #")):
        with pytest.raises(UserError, match=f"found {found} in its path"):
            opened_storage(str(tmp_path / name))
        assert not (tmp_path / name).exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file, not a folder"):
        opened_storage(str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="storage = "):
        opened_storage(str(tmp_path / "file"))
