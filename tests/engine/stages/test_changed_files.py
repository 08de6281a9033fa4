"""Files that change between two runs; the scenes' stage in this process, without Ray."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from lhs.data import contents
from lhs.data.stanford import open_stanford
from lhs.data.superparsing import open_superparsing
from lhs.engine import file_index, graph
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.stage import StageResult
from lhs.engine.stages import scenes
from lhs.engine.stages.checked_scenes import checked_key
from lhs.engine.storage import Storage
from lhs.loading import build_config
from tests.data.builders import noise_image, plain, stanford, stripes, superparsing

Check = Callable[[Path], StageResult]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of pictures whose sizes do not depend on their pixels."""
    root = plain(tmp_path / "photos", splits={"test": ["town_1"]})
    for number, path in enumerate(sorted((root / "images").iterdir())):
        Image.fromarray(noise_image(number)).save(path, compress_level=0)
        relabel(root, path.stem)
    return root


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """The stage of a new run on one storage."""

    def mapped(function: Any, rows: list[dict[str, Any]], tasks: int, **settings: Any) -> Any:
        table = function(pa.Table.from_pylist(rows), **settings)
        return SimpleNamespace(materialize=lambda: SimpleNamespace(to_arrow_refs=lambda: [table]))

    progress = SimpleNamespace(add=lambda count: None)
    monkeypatch.setattr(scenes, "followed", lambda *_: nullcontext(progress))
    monkeypatch.setattr(scenes, "mapped", mapped)
    monkeypatch.setattr(scenes, "ray", SimpleNamespace(get=lambda refs: refs))
    # The files of a test are written just before they are read.
    monkeypatch.setattr(contents, "SETTLED", 0)
    storage = Storage(str(tmp_path / "storage"))

    def run(root: Path) -> StageResult:
        config = build_config({"data": {"dataset": "folder", "folder": {"path": str(root)}}})
        return Stages(storage).make(graph.SCENES, config)

    return run


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read only to see whether they changed."""
    names: list[str] = []
    real = file_index.file_digests

    def noted(paths: list[Path]) -> dict[str, str]:
        names.extend(path.name for path in paths)
        return real(paths)

    monkeypatch.setattr(file_index, "file_digests", noted)
    return names


def relabel(root: Path, image: str, shift: int = 0) -> Path:
    """Write an image's labels, shifted by a number of classes, in a file of always one size."""
    path = root / "labels" / f"{image}.png"
    ids = ((stripes() + shift) % 3).astype("uint8")
    Image.fromarray(ids).save(path, compress_level=0)
    return path


def test_labels_rewritten_with_the_same_size_are_read_again(
    root: Path, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = check(root)
    assert check(root).reused
    size = (root / "labels" / "beach_1.png").stat().st_size
    assert relabel(root, "beach_1", 1).stat().st_size == size
    second = check(root)
    assert not second.reused
    assert "the files of 1 images, such as beach_1, have changed: all are read again" in caplog.text
    assert second.key == first.key
    assert checked_key(second) != checked_key(first)
    assert check(root).reused
    relabel(root, "beach_1")
    # What was made of the first labels is found again.
    assert checked_key(check(root)) == checked_key(first)


@pytest.mark.parametrize("layout", ["stanford", "superparsing"])
def test_labels_of_other_kinds_are_digested_too(tmp_path: Path, layout: str) -> None:
    """Text and .mat files, and images, rewritten with the same size."""
    storage, folder = Storage(str(tmp_path / "storage")), tmp_path / layout

    def digest() -> str:
        dataset = (
            open_stanford(folder)
            if layout == "stanford"
            else open_superparsing(layout, folder, scene_names=False)
        )
        return contents.contents_digest(file_index.current_digests(storage, dataset).items())

    if layout == "stanford":
        stanford(folder)
        files = ("labels/0000051.regions.txt", "images/0000051.jpg")
    else:
        superparsing(folder)
        files = ("SemanticLabels/all/coast_a1.mat", "Images/all/coast_a1.jpg")
    seen = [digest()]
    for name in files:
        content = bytearray((folder / name).read_bytes())
        content[-2] ^= 1
        (folder / name).write_bytes(content)
        seen.append(digest())
    assert len(set(seen)) == 3


def test_a_change_is_seen_although_the_modification_time_is_the_old_one(
    root: Path, check: Check
) -> None:
    first = check(root)
    before = (root / "labels" / "beach_1.png").stat()
    path = relabel(root, "beach_1", 1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert checked_key(check(root)) != checked_key(first)


def test_only_what_changed_is_digested(root: Path, check: Check, digested: list[str]) -> None:
    first = check(root)
    check(root)
    assert digested == []
    for name in ("town_1", "beach_2"):
        relabel(root, name)
    again = check(root)
    assert again.reused
    assert checked_key(again) == checked_key(first)
    assert sorted(digested) == ["beach_2.png", "town_1.png"]
    check(root)
    assert len(digested) == 2


def test_files_written_just_now_are_digested_once_more(
    root: Path, check: Check, digested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED", 3600 * 10**9)
    check(root)
    assert check(root).reused
    assert len(digested) == 10


def test_a_copy_in_another_place_has_the_same_keys(
    root: Path, check: Check, digested: list[str], tmp_path: Path
) -> None:
    first = check(root)
    copy = Path(shutil.copytree(root, tmp_path / "elsewhere" / "photos"))
    for _ in range(2):
        found = check(copy)
        assert found.reused
        assert checked_key(found) == checked_key(first)
        # Once per place.
        assert len(digested) == 10
    assert check(root).reused
    assert len(digested) == 10


def test_a_damaged_index_costs_only_time(
    root: Path, check: Check, digested: list[str], tmp_path: Path
) -> None:
    check(root)
    (index,) = (tmp_path / "storage" / "files").iterdir()
    index.write_bytes(index.read_bytes()[:100])
    assert check(root).reused
    assert len(digested) == 10
    check(root)
    assert len(digested) == 10


def as_before_digests(result: StageResult, made: float) -> None:
    """Make a result one of an earlier version."""
    path = Path(result.path) / SUCCESS
    tree = json.loads(path.read_text())
    del tree["facts"]["contents"]
    path.write_text(json.dumps(tree))
    os.utime(path, (made, made))


def test_results_of_an_earlier_version_stay_in_use_until_a_file_changes(
    root: Path, check: Check
) -> None:
    newest = max(path.stat().st_mtime for path in root.rglob("*.png"))
    first = check(root)
    as_before_digests(first, newest + 1)
    for _ in range(2):
        old = check(root)
        assert old.reused
        # What was made of them is under the key that it had.
        assert checked_key(old) == old.key
    relabel(root, "beach_1", 1)
    changed = check(root)
    assert not changed.reused
    assert checked_key(changed) not in (old.key, checked_key(first))


def test_files_newer_than_a_result_of_an_earlier_version_are_read_again(
    root: Path, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = check(root)
    as_before_digests(first, 1e9)
    again = check(root)
    assert not again.reused
    assert checked_key(again) == checked_key(first) != first.key
    assert "10 files were written after an earlier version read them" in caplog.text
