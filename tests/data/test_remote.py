"""Datasets in a bucket, against a real server of S3's protocol; and paths that are URIs."""

from __future__ import annotations

import http.server
import pickle
import shlex
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from lhs.config import DataConfig
from lhs.data import dataset_folder, file_cache, open_dataset, remote
from lhs.data.checking import inspect_dataset
from lhs.data.commands import check, get, show
from lhs.data.contents import contents_digest, file_digests
from lhs.data.dataset import Dataset
from lhs.data.images import read_image
from lhs.data.remote import UNFINISHED, Carried, RemotePath, adopt, located
from lhs.data.upload import check_target, put_folder
from lhs.errors import BadImageError, UnreachableError, UserError
from lhs.loading import load_config
from lhs.run import main
from tests.data.builders import plain, save_image, stanford, superparsing
from tests.data.importing.sources import two_folders
from tests.serving import SECRETS, ObjectStore, free_port, object_store

QUERY = "?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"


@pytest.fixture(autouse=True)
def own_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node that has read nothing, and its secrets."""
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "node"))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    before = file_cache.bound()
    forget()
    yield
    file_cache.set_bound(before)


def forget() -> None:
    """Know as little as a new process."""
    remote._listings.clear()
    remote._adopted.clear()
    remote._lost.clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store") / "log") as store:
        yield store


def folder_config(path: Path | str, **more: object) -> DataConfig:
    return DataConfig.model_validate({"dataset": "folder", "folder": {"path": str(path)}, **more})


def contents(dataset: Dataset) -> str:
    found = file_digests([file for scene in dataset.scenes() for file in scene.files()])
    return contents_digest(
        (scene.id, [found[str(file)] for file in scene.files()]) for scene in dataset.scenes()
    )


# Without a server.


@pytest.mark.parametrize("query", ["", QUERY])
def test_a_uri_is_a_path(query: str) -> None:
    folder = located(f"s3://bucket/a/b{query}")
    file = folder / "images" / PurePosixPath("c d/e#1%.jpg")
    assert isinstance(file, RemotePath)
    assert isinstance(file, Path)
    assert str(file) == f"s3://bucket/a/b/images/c d/e#1%.jpg{query}"
    assert located(str(file)) == file
    assert str(file.with_suffix(".png")) == f"s3://bucket/a/b/images/c d/e#1%.png{query}"
    assert (file.name, file.stem, file.suffix, file.parent.name) == (
        "e#1%.jpg", "e#1%", ".jpg", "c d",
    )  # fmt: skip
    assert file.relative_to(folder).as_posix() == "images/c d/e#1%.jpg"
    assert file.is_relative_to(folder)
    assert not file.is_relative_to(Path("/data"))
    assert not Path("/data/x").is_relative_to(folder)
    assert folder / Path("/data/scenes.csv") == Path("/data/scenes.csv")
    copy = pickle.loads(pickle.dumps(file))
    assert (copy, type(copy), str(copy), hash(copy)) == (file, RemotePath, str(file), hash(file))


def test_other_paths_stay_local() -> None:
    assert type(located("~/data")) is type(Path("~/data"))
    assert located("file:///data/a%20b") == Path("/data/a b")
    assert str(dataset_folder(DataConfig(root="s3://bucket/x"))) == "s3://bucket/x/synthetic"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://", "no address"),
        ("s3:///x", "no address"),
        ("s3://key:secret@bucket/x", "holds a password"),
    ],
)
def test_wrong_uris_are_refused(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        located(uri)
    assert "secret@" not in str(caught.value)


def test_an_unknown_kind_of_uri_names_those_there_are() -> None:
    with pytest.raises(UnreachableError, match=r"(?s)ftp://bucket/x.*allowed are.*s3://"):
        open_dataset(folder_config("ftp://bucket/x"))


# Against the server.


def layouts() -> dict[str, Callable[[Path], Path]]:
    def in_folders(folder: Path) -> Path:
        plain(folder, ("b/1", "b/2 #%", "t/1", "t/2", "t/3"), splits={"test": ["b/1"]})
        (folder / "scenes.csv").write_text(
            "image,scene\n" + "".join(f"{x},s\n" for x in ("b/1", "b/2 #%", "t/1", "t/2", "t/3"))
        )
        return folder

    return {"folder": in_folders, "siftflow": superparsing, "stanford": stanford}


@pytest.mark.thorough
@pytest.mark.parametrize("layout", layouts())
def test_a_copy_in_a_bucket_is_the_same_dataset(
    store: ObjectStore, tmp_path: Path, layout: str
) -> None:
    disk = layouts()[layout](tmp_path / "all" / layout)
    (disk / ".hidden").write_text("")
    put_folder(tmp_path / "all", store.uri(f"same-{layout}"))
    more = {"scenes": "scenes.csv"} if layout == "folder" else {}
    here, there = (
        DataConfig.model_validate(
            {"dataset": layout, "root": root, "folder": {"path": place, **more}}
        )
        for root, place in (
            (str(tmp_path / "all"), str(disk)),
            (store.uri(f"same-{layout}"), store.uri(f"same-{layout}/{layout}")),
        )
    )
    local, bucket = open_dataset(here), open_dataset(there)
    assert bucket.fingerprint() == local.fingerprint()
    assert [scene.id for scene in bucket.scenes()] == [scene.id for scene in local.scenes()]
    for one, other in zip(bucket.scenes(), local.scenes(), strict=True):
        assert (one.split, one.name, one.size()) == (other.split, other.name, other.size())
        np.testing.assert_array_equal(one.image(), other.image())
        np.testing.assert_array_equal(one.label_map(), other.label_map())
    assert contents(bucket) == contents(local)
    ours, theirs = inspect_dataset(here), inspect_dataset(there)
    for found in (ours, theirs):
        found.errors = [error.split(": ", 1)[-1] for error in found.errors]
    assert (len(theirs.errors), len(theirs.notes)) == (len(ours.errors), len(ours.notes))


@pytest.mark.thorough
def test_what_was_read_is_read_from_the_disk_here_and_in_other_processes(
    store: ObjectStore, tmp_path: Path
) -> None:
    put_folder(plain(tmp_path / "set"), store.uri("twice"))
    dataset = open_dataset(folder_config(store.uri("twice"), cache_gb=3))
    first = [scene.load() for scene in dataset.scenes()]
    sent, before = pickle.dumps(dataset.scenes()), store.requests()
    forget()
    file_cache.set_bound(1)
    again = [scene.load() for scene in pickle.loads(sent)]
    assert store.requests() == before
    assert file_cache.bound() == 3
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.thorough
def test_an_import_to_a_bucket_is_that_to_a_folder(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = two_folders(tmp_path / "source")
    source, told = str(made.folder), made.arguments
    assert main(["data", "import", source, "--out", str(tmp_path / "out"), *told]) == 0
    here = capsys.readouterr().out.splitlines()[-1]
    assert main(["data", "import", source, "--out", store.uri("new/out"), *told]) == 0
    there = capsys.readouterr().out.splitlines()[-1]
    assert not list(file_cache.cache_folder().glob("importing-*"))
    local, bucket = (
        open_dataset(load_config("folder", shlex.split(line)[4::2]).data) for line in (here, there)
    )
    assert bucket.fingerprint() == local.fingerprint()
    assert contents(bucket) == contents(local)
    assert main(["data", "import", source, "--out", store.uri("new/out"), *told]) == 2
    assert "files lie there already" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_process_that_was_told_nothing_asks(store: ObjectStore, tmp_path: Path) -> None:
    put_folder(plain(tmp_path / "set"), store.uri("asks"))
    folder = located(store.uri("asks"))
    assert folder.is_dir()
    assert (folder / "classes.txt").is_file()
    assert not (folder / "nothing").exists()
    assert read_image(str(folder / "images" / "town_1.png")).shape == (12, 16, 3)
    with pytest.raises(BadImageError, match="image file is missing"):
        read_image(str(folder / "images" / "town_9.png"))


@pytest.mark.thorough
def test_a_changed_file_is_read_again(store: ObjectStore, tmp_path: Path) -> None:
    disk, config = plain(tmp_path / "set"), folder_config(store.uri("changed"))
    put_folder(disk, store.uri("changed"))
    before, image = contents(open_dataset(config)), open_dataset(config).scenes()[0].image()
    # The store's times have a second.
    time.sleep(1.1)
    save_image(disk / "images" / "beach_1.png", image[::-1].copy())
    put_folder(disk, store.uri("changed"))
    dataset = open_dataset(config)
    np.testing.assert_array_equal(dataset.scenes()[0].image(), image[::-1])
    assert contents(dataset) == contents(open_dataset(folder_config(disk))) != before


@pytest.mark.thorough
def test_missing_labels_name_what_is_there(store: ObjectStore, tmp_path: Path) -> None:
    disk = plain(tmp_path / "set")
    (disk / "labels" / "beach_1.png").rename(disk / "labels" / "beach_1_mask.png")
    (disk / "images" / "notes.gif").write_bytes(b"")
    put_folder(disk, store.uri("missing"))
    findings = inspect_dataset(folder_config(store.uri("missing")))
    assert any("s3://bucket/missing/labels/beach_1.png" in error for error in findings.errors)
    assert any("there is beach_1_mask.png" in error for error in findings.errors)
    assert any(".gif in images/ is ignored" in note for note in findings.notes)


@pytest.mark.thorough
def test_a_copy_that_was_interrupted_is_no_dataset(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, uri = plain(tmp_path / "set"), store.uri("half")
    check_target(uri)
    (disk / "images" / "zebra.png").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"copying .*zebra\.png"):
        put_folder(disk, uri)
    with pytest.raises(UserError, match="interrupted"):
        open_dataset(folder_config(uri))
    check_target(uri)
    (disk / "images" / "zebra.png").unlink()
    put_folder(disk, uri)
    assert not (located(uri) / UNFINISHED).exists()
    open_dataset(folder_config(uri))
    with pytest.raises(UserError, match="files lie there already"):
        check_target(uri)


@pytest.mark.thorough
def test_data_get_check_and_show(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    superparsing(tmp_path / "Barcelona")
    archive = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "Barcelona")
    for _ in range(2):
        assert get("barcelona", archive, store.uri("all")) == 1
        output = capsys.readouterr().out
        assert f"s3://bucket/all/barcelona{store.query}: 3 train images" in output
    assert "already in s3://bucket/all/barcelona" in output
    assert not list((tmp_path / "node").glob("data/getting/*"))
    config = DataConfig(dataset="barcelona", root=store.uri("all"))
    assert check(config) == 1
    assert show(config) == 0
    assert "5 images, 3 / 2" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"SIFTFlow is not in s3://bucket/all/siftflow"):
        open_dataset("siftflow", store.uri("all"))
    with pytest.raises(UserError, match="is not a folder"):
        open_dataset(folder_config(store.uri("nothing")))


@pytest.mark.thorough
def test_a_wrong_bucket(store: ObjectStore, tmp_path: Path) -> None:
    uri = f"s3://wrong/x{store.query}"
    with at_once(), pytest.raises(UnreachableError, match=r"s3://wrong/x.*correct the bucket"):
        open_dataset(folder_config(uri))
    with at_once(), pytest.raises(UnreachableError, match=r"s3://wrong/x.*correct the bucket"):
        put_folder(plain(tmp_path / "set"), uri)


@pytest.mark.thorough
def test_wrong_credentials(tmp_path: Path) -> None:
    # One action, making the bucket, is allowed to all; then this server knows no key.
    with (
        object_store(tmp_path / "log", INITIAL_NO_AUTH_ACTION_COUNT="1") as strict,
        at_once(),
        pytest.raises(UnreachableError, match=r"s3://bucket/x.*AWS_ACCESS_KEY_ID"),
    ):
        open_dataset(folder_config(strict.uri("x")))


@pytest.mark.thorough
def test_missing_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        uri = f"s3://bucket/x?endpoint_override=127.0.0.1:{port}&scheme=http&region=x"
        with at_once(), pytest.raises(UnreachableError, match=r"bucket/x.*AWS_ACCESS_KEY_ID"):
            open_dataset(folder_config(uri))
        server.shutdown()


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers unsigned requests as Amazon does; moto fails at them."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(400 if self.headers["Authorization"] else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.thorough
def test_nobody_there_is_no_bad_image(tmp_path: Path) -> None:
    uri = f"s3://bucket/a.png?endpoint_override=127.0.0.1:{free_port()}&scheme=http&region=x"
    adopt(Carried({uri: remote.Entry(10, 1)}, 1))
    with at_once(), pytest.raises(UnreachableError, match=r"s3://bucket/a\.png.*the network"):
        read_image(uri)


@pytest.mark.thorough
@pytest.mark.parametrize("silent", [False, True])
def test_a_connection_that_breaks_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(remote, "_TIMEOUT_SECONDS", 1.0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        threading.Thread(target=_break, args=(listening, silent), daemon=True).start()
        port = listening.getsockname()[1]
        uri = f"s3://bucket/a.png?endpoint_override=127.0.0.1:{port}&scheme=http&region=x"
        with at_once(), pytest.raises(UnreachableError, match=r"s3://bucket/a\.png.*start again"):
            read_image(uri)
        listening.shutdown(socket.SHUT_RDWR)
    assert not list(file_cache.cache_folder().glob("??/*"))


def _break(listening: socket.socket, silent: bool) -> None:
    """Answer as a store, but send a part of a file alone, and then a reset or nothing."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nETag: x\r\n"
        b"Last-Modified: Fri, 27 Nov 2026 14:46:20 GMT\r\n\r\n"
    )
    kept = []
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            for one in kept:
                one.close()
            return
        kept.append(connection)
        request = connection.recv(1 << 16)
        connection.sendall(head + (b"" if request.startswith(b"HEAD") else b"x" * 5000))
        if request.startswith(b"HEAD"):
            connection.shutdown(socket.SHUT_WR)
        elif not silent:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


class at_once:
    """Fails where the block takes 30 seconds."""

    def __enter__(self) -> None:
        self.started = time.monotonic()

    def __exit__(self, *error: object) -> None:
        assert time.monotonic() - self.started < 30
