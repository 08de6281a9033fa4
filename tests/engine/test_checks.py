"""Settings that do not fit the dataset's lists are told before any file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.engine.checks import check_places
from lhs.engine.tracking import tracker
from lhs.errors import UserError
from lhs.loading import load_config
from tests.serving import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    for below in ("images", "labels", "splits"):
        (folder / below).mkdir(parents=True)
    for name in "abc":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"images/{name}.png")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"labels/{name}.png")
    (folder / "classes.txt").write_text("sky\nground\n")
    (folder / "splits/train.txt").write_text("a\nb\n")
    (folder / "splits/test.txt").write_text("c\n")
    return folder


def check(folder: Path, *settings: str, trained: bool = True) -> None:
    places = [
        f"storage={folder.parent / 'results'}", "data.dataset=folder", f"data.folder.path={folder}"
    ]  # fmt: skip
    check_places([load_config("demo", [*places, *settings])], trained=trained)


def test_a_tracking_server_that_does_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracker.STORE_WAIT <= 20
    monkeypatch.setattr(tracker, "STORE_WAIT", 0.3)
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    check(folder, trained=False)
    with pytest.raises(UserError, match=f"MLFLOW_TRACKING_URI = {uri}: does not answer"):
        check(folder)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_list(folder: Path, split: str) -> None:
    check(folder)
    (folder / f"splits/{split}.txt").write_text("\n")
    with pytest.raises(UserError, match=rf"the {split} split holds no image.*splits/{split}\.txt"):
        check(folder)


def test_too_few_images_for_a_random_fifth(folder: Path) -> None:
    for name in ("train", "test"):
        (folder / f"splits/{name}.txt").unlink()
    with pytest.raises(UserError, match=r"the test split holds no image.*splits/test\.txt"):
        check(folder)


def test_weights_for_another_number_of_classes(folder: Path) -> None:
    check(folder, "train.class_weights=[1, 2]")
    with pytest.raises(UserError, match=r"train\.class_weights: found 3 weights.*allowed are 2"):
        check(folder, "train.class_weights=[1, 2, 3]")


@pytest.mark.parametrize("kind", [["scene_names"], ["random", "hierarchy.like=scene_names"]])
def test_scene_names_that_are_not_there(folder: Path, kind: list[str]) -> None:
    kind[0] = f"hierarchy.kind={kind[0]}"
    check(folder, *kind, "data.folder.scenes=prefix")
    check(folder, *kind, "train.strategy=baseline")
    for changes in ({}, {"trained": False}):
        with pytest.raises(UserError, match=r"no scene names.*data\.folder\.scenes"):
            check(folder, *kind, **changes)


def test_an_encoder_that_timm_does_not_have(folder: Path) -> None:
    with pytest.raises(UserError, match="nonesuch"):
        check(folder, "network.name=timm:nonesuch")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_of_weights_that_cannot_be_read(folder: Path, name: str) -> None:
    path = folder.parent / name
    path.write_text("no weights\n")
    with pytest.raises(UserError) as told:
        check(folder, "network.weights=file", f"network.weights_file={path}")
    assert str(told.value).startswith(f"network.weights_file = {path}: not readable as ")
    assert len(str(told.value)) < 250 + len(str(path))
    assert "weights_only" not in str(told.value)
