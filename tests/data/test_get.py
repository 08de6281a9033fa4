"""`data get`: from a file or from an address, with every way in which that can fail."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lhs.data import catalogue, download
from lhs.data.commands import get
from lhs.errors import UserError
from tests.data.builders import stanford, superparsing

BODY = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves one body; can break off, know no ranges, or change the file."""

    body = BODY
    tag = '"one"'
    ranges = True
    break_after = 0
    requests: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if self.path != "/set.zip":
            self.send_error(404)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            last = len(server.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.body)}")
        self.send_header("Content-Length", str(len(server.body) - start))
        self.send_header("ETag", server.tag)
        self.end_headers()
        end = start + server.break_after if server.break_after else len(server.body)
        self.wfile.write(server.body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _address(server: Server, path: str = "set.zip") -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_download(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "set.zip"
    download.download(_address(server), target)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["set.zip"]


def test_download_goes_on_after_a_break(server: Server, tmp_path: Path) -> None:
    server.break_after = 110_000
    download.download(_address(server), tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert server.requests == [None, "bytes=110000-", "bytes=220000-"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.break_after = 10_000
    with pytest.raises(UserError, match=r"broke off .*--archive FILE"):
        download.download(_address(server), tmp_path / "set.zip")
    assert not (tmp_path / "set.zip").exists()
    assert (tmp_path / "set.zip.part").stat().st_size == 40_000
    server.break_after, server.requests = 0, []
    download.download(_address(server), tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert server.requests == ["bytes=40000-"]


@pytest.mark.parametrize("change", ["file", "ranges"])
def test_a_changed_file_or_a_server_without_ranges(
    server: Server, tmp_path: Path, change: str
) -> None:
    server.break_after = 10_000
    with pytest.raises(UserError):
        download.download(_address(server), tmp_path / "set.zip")
    server.break_after = 0
    if change == "file":
        server.body, server.tag = BODY[::-1], '"two"'
    else:
        server.ranges = False
    download.download(_address(server), tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == server.body


def test_a_part_that_is_complete(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(BODY)
    notes = f'{{"address": "{_address(server)}", "validator": "\\"one\\""}}'
    (tmp_path / "set.zip.part.json").write_text(notes)
    download.download(_address(server), tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert server.requests == [f"bytes={len(BODY)}-"]


def test_offline_and_refusals(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="answers 404"):
        download.download(_address(server, "gone.zip"), tmp_path / "a")
    with pytest.raises(UserError, match=r"can't be reached.*--archive FILE"):
        download.download("http://127.0.0.1:9/set.zip", tmp_path / "a")
    with pytest.raises(UserError, match="allowed: http and https"):
        download.download("file:///etc/passwd", tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="downloading"):
        download.download(_address(server), tmp_path / "file" / "a")


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make tiny archives of both layouts and a catalogue that takes them for the real ones."""
    folder = tmp_path / "archives"
    stanford(folder / "iccv09Data", ("0000051", "0000059"))
    superparsing(folder / "SiftFlowDataset")
    with tarfile.open(folder / "stanford.tar.gz", "w:gz") as tar:
        tar.add(folder / "iccv09Data", "iccv09Data")
    with zipfile.ZipFile(folder / "siftflow.zip", "w") as zipped:
        for path in (folder / "SiftFlowDataset").rglob("*"):
            zipped.write(path, path.relative_to(folder))
    digest = hashlib.sha256((folder / "stanford.tar.gz").read_bytes()).hexdigest()
    changes = {
        "stanford": {"train": 1, "test": 1, "sha256": (digest,)},
        "siftflow": {"train": 3, "test": 2, "num_classes": 3},
    }
    for name, values in changes.items():
        known = dataclasses.replace(catalogue.KNOWN[name], **values)
        monkeypatch.setitem(catalogue.KNOWN, name, known)
    return folder


def test_get_from_a_file(
    archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert get("stanford", archives / "stanford.tar.gz", root) == 0
    assert (root / "stanford/images/0000051.jpg").is_file()
    assert "warning" not in capsys.readouterr().err
    assert get("siftflow", str(archives / "siftflow.zip"), root) == 0
    assert (root / "siftflow/TestSet1.txt").is_file()
    captured = capsys.readouterr()
    assert "sha256" in captured.err
    assert "not one this program knows for SIFTFlow" in captured.err
    assert "cite Liu" in captured.out
    assert sorted(path.name for path in root.iterdir()) == ["siftflow", "stanford"]
    assert get("siftflow", None, root) == 0
    assert "already in" in capsys.readouterr().out


def test_get_of_a_wrong_file(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(UserError, match=r"siftflow\.zip is not the archive of Stanford.*sha256"):
        get("stanford", archives / "siftflow.zip", root)
    with pytest.raises(UserError, match=r"not the archive of siftflow: it holds no folder"):
        get("siftflow", archives / "stanford.tar.gz", root)
    with pytest.raises(UserError, match=r"'.*gone' is not a file"):
        get("siftflow", archives / "gone", root)
    assert not root.exists() or not list(root.iterdir())


def test_get_reports_what_is_wrong_in_it(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    get("stanford", archives / "stanford.tar.gz", root)
    (root / "stanford/labels/0000051.regions.txt").unlink()
    assert get("stanford", archives / "stanford.tar.gz", root) == 1


def test_get_from_its_home(
    archives: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    home = dataclasses.replace(catalogue.KNOWN["stanford"], address=_address(server))
    monkeypatch.setitem(catalogue.KNOWN, "stanford", home)
    with pytest.raises(UserError, match="is not the archive of Stanford"):
        get("stanford", None, root)
    assert not list((root / ".downloads").iterdir())
    server.body = (archives / "stanford.tar.gz").read_bytes()
    assert get("stanford", None, root) == 0
    assert not list((root / ".downloads").iterdir())
