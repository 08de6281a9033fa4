"""What the first stage keeps of a user's own folder, and what it refuses; without Ray."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lhs.config import Config
from lhs.data import open_dataset
from lhs.engine import cache
from lhs.engine.runtime import cluster as ray_cluster
from lhs.engine.stage import StageResult
from lhs.engine.stages import scenes as stage
from lhs.engine.stages.checked_scenes import changed_scenes, checked_scenes
from lhs.engine.stages.scenes import check_batch
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.loading import build_config
from lhs.run import main
from tests.data.builders import plain, save_labels, stripes

TRAIN, TEST = ["a", "b", "c", "d"], ["t"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plain(tmp_path / "own", [*TRAIN, *TEST], splits={"train": TRAIN, "test": TEST})


def settings(root: Path, **more: Any) -> Config:
    data = {"dataset": "folder", "folder": {"path": str(root)}, **more}
    return build_config({"data": data, "storage": str(root.parent / "storage")})


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shown:
        def __enter__(self) -> SimpleNamespace:
            return SimpleNamespace(add=lambda count: None)

        def __exit__(self, *error: object) -> None:
            pass

    def mapped(function: Any, rows: list[Any], tasks: int, **options: Any) -> Any:
        table = function(pa.Table.from_pylist(rows), **options)
        done = SimpleNamespace(to_arrow_refs=lambda: [table])
        return SimpleNamespace(materialize=lambda: done)

    monkeypatch.setattr(stage, "followed", lambda *_: Shown())
    monkeypatch.setattr(stage, "mapped", mapped)
    monkeypatch.setattr(stage.ray, "get", lambda refs: refs)


def made(config: Config) -> StageResult:
    """The stage's result as its builder makes it."""
    storage = Storage(config.storage)
    path = storage.path("made")
    storage.make_folder(path)
    work = SimpleNamespace(config=config, storage=storage)
    facts = stage.build_scenes(work, path)  # type: ignore[arg-type]
    return StageResult("scenes", "key", path, facts, 1.0, reused=False)


def why_again(config: Config, result: StageResult) -> str:
    return changed_scenes(Storage(config.storage), config, result)


def test_masks_of_0_and_255(root: Path) -> None:
    (root / "classes.txt").write_text("ground\nroad\n")
    for name in (*TRAIN, *TEST):
        save_labels(root, name, (stripes(2) == 1) * 255)
    config = settings(root)
    result = made(config)
    with pytest.raises(UserError, match=r"road \(id 1\).*masks of 0 and 255"):
        checked_scenes(config.data, result)
    # It is read again, until it is right or meant.
    assert "read again" in why_again(config, result)
    meant = settings(root, allow_empty_classes=True)
    assert why_again(meant, result) == ""
    assert checked_scenes(meant.data, result).class_pixels.tolist() == [4 * 96, 0]


SWEEP = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="mine", recipe={recipe!r}, trials=[{{"train.seed": 0}}, {{"train.seed": 1}}])
"""


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["run", "hierarchy", "sweep"])
def test_every_command_says_so_before_anything_is_made(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    begun: list[int] = []

    def start() -> None:
        begun.append(len(begun))
        assert begun == [0], "a stage is made after the scenes"

    def init() -> None:
        raise AssertionError("Ray starts")

    monkeypatch.setattr(ray_cluster, "_later", ExitStack())
    monkeypatch.setattr(ray_cluster, "_init", init)
    monkeypatch.setattr(cache, "start", start)
    (root / "classes.txt").write_text("ground\nroad\n")
    for name in (*TRAIN, *TEST):
        save_labels(root, name, (stripes(2) == 1) * 255)
    file = root.parent / "mine.yaml"
    file.write_text(settings(root).yaml())
    if command == "sweep":
        file, recipe = file.with_suffix(".py"), file
        file.write_text(SWEEP.format(recipe=str(recipe)))
    assert main([command, str(file)]) == 2
    assert "Likely cause: masks of 0 and 255" in capsys.readouterr().err
    storage = root.parent / "storage"
    assert [path.name for path in (storage / "stages").iterdir()] == ["scenes"]
    assert not (storage / "sweeps").exists()


@pytest.mark.parametrize("part", [{"max_train": 2}, {"held_out": 2}])
def test_all_training_images_count_where_a_run_takes_a_part(
    root: Path, part: dict[str, int]
) -> None:
    config = settings(root, **part)
    for scene in open_dataset(config.data).split("train"):
        save_labels(root, scene.id, stripes(2))
    result = made(config)
    assert result.facts["labels"]["images"] == 4
    assert checked_scenes(config.data, result).class_pixels[2] == 0
    for name in TRAIN:
        save_labels(root, name, stripes(2))
    with pytest.raises(UserError, match=r"sand \(id 2\)"):
        checked_scenes(config.data, made(config))


def test_a_result_of_an_earlier_version_is_made_again(root: Path) -> None:
    facts = {"problems": {}, "wrong": [], "class_pixels": [1, 1, 1], "void_images": []}
    result = StageResult("scenes", "key", "", facts, 1.0, reused=True)
    assert "earlier version" in why_again(settings(root), result)


def test_differing_palettes_of_a_training_and_a_test_image(root: Path) -> None:
    for number, name in enumerate(("b", "t")):
        path = root / f"labels/{name}.png"
        picture = Image.frombytes("P", (16, 12), np.asarray(Image.open(path)).tobytes())
        picture.putpalette([(n + number) % 256 for n in range(256)] * 3)
        picture.save(path)
    config = settings(root)
    with pytest.raises(UserError, match=r"t\.png: its palette shows id 0 .* that of .*b\.png"):
        checked_scenes(config.data, made(config))


def test_ignored_files_are_in_the_log(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "images/x.gif").write_bytes(b"")
    config = settings(root)
    checked_scenes(config.data, made(config))
    assert "own: 1 .gif in images/ is ignored" in caplog.text


def test_a_batch_may_leave_the_images_unread(root: Path) -> None:
    (root / "images/a.png").write_bytes(b"no image")
    batch, count = pa.Table.from_pylist([{"id": "a"}]), SimpleNamespace(add=lambda n: None)
    config = settings(root).data
    for labels_only in (False, True):
        (row,) = check_batch(batch, config, count, labels_only).to_pylist()  # type: ignore[arg-type]
        assert (row["problem"] is None) is labels_only
