"""`data check` finds all that is wrong, and `data show` counts right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.data.checking import inspect_dataset
from lhs.data.commands import check, show
from lhs.data.folder import open_folder
from lhs.data.statistics import describe
from lhs.errors import UserError
from tests.data.builders import plain, save_image, save_labels, save_mat, stripes, superparsing


def _config(folder: Path, **settings: object) -> DataConfig:
    return DataConfig.model_validate(
        {"dataset": "folder", "folder": {"path": str(folder)} | settings}
    )


def test_a_sound_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(plain(tmp_path / "set"))
    findings = inspect_dataset(config)
    assert (findings.errors, findings.notes) == ([], [])
    assert check(config) == 0
    assert "nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["images", "labels", "splits"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, name: str) -> None:
    folder = plain(tmp_path / "set")
    if (folder / name).exists():
        shutil.rmtree(folder / name)
    (folder / name).write_text("x")
    (error,) = inspect_dataset(_config(folder)).errors
    assert error == f"{folder / name}: found a file, needed is a folder of this name"


@pytest.mark.parametrize("content", ["image,scene\n".encode("utf-16"), b"image,scene\ni\xff,x\n"])
def test_scene_names_in_another_encoding(tmp_path: Path, content: bytes) -> None:
    folder = plain(tmp_path / "set")
    (folder / "scenes.csv").write_bytes(content)
    (error,) = inspect_dataset(_config(folder, scenes="scenes.csv")).errors
    assert error.startswith(f"{folder / 'scenes.csv'}: not readable as a CSV in UTF-8")


def test_all_that_is_wrong_is_listed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plain(tmp_path, [f"i{n}" for n in range(9)], splits={"test": ["i8"]}, suffix=".jpg")
    (folder / "labels/i0.png").unlink()
    save_labels(folder, "i1", stripes(height=7))
    save_labels(folder, "i2", stripes(4))
    cut = folder / "images/i3.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    (folder / "images/i4.jpg").write_bytes(b"")
    (folder / "labels/i5.png").write_bytes(b"png?")
    save_labels(folder, "i6", np.full((12, 16), 255))
    save_labels(folder, "other", stripes())
    config = _config(folder)
    findings = inspect_dataset(config)
    expected = [
        ("labels/i0.png", "missing"),
        ("labels/i1.png", "label map is 16 x 7"),
        ("labels/i2.png", "label id 3 out of range"),
        ("images/i3.jpg", "Truncated"),
        ("images/i4.jpg", "unreadable"),
        ("labels/i5.png", "unreadable"),
    ]
    assert len(findings.errors) == len(expected)
    for error, (file, text) in zip(findings.errors, expected, strict=True):
        assert str(folder / file) in error
        assert text in error
    assert len(findings.notes) == 2
    assert "i6.png: no pixel is labelled (train image i6)" in findings.notes[0]
    assert "other.png: label file without an image" in findings.notes[1]
    assert check(config) == 1
    assert "6 errors, 2 notes" in capsys.readouterr().out
    assert inspect_dataset(open_dataset(config)).errors == findings.errors


def test_class_without_a_pixel_and_empty_split(tmp_path: Path) -> None:
    folder = plain(tmp_path, classes=("sky", "sea", "sand", "moon"), splits={"train": []})
    errors = inspect_dataset(_config(folder)).errors
    assert any("the train split is empty" in error for error in errors)
    plain(tmp_path, classes=("sky", "sea", "sand", "moon"), splits={"train": ["beach_1"]})
    errors = inspect_dataset(_config(folder)).errors
    assert [e for e in errors if "no train pixel of class moon" in e]


def test_files_that_nothing_reads_are_noted(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    (folder / "images/x.gif").write_bytes(b"")
    findings = inspect_dataset(_config(folder))
    assert findings.errors == []
    assert [note for note in findings.notes if note.startswith("1 .gif in images/ is ignored")]


def test_images_wrongly_declared_make_errors_not_a_crash(tmp_path: Path) -> None:
    assert "has no images" in inspect_dataset(_config(tmp_path)).errors[0]
    missing = DataConfig.model_validate({"dataset": "siftflow", "root": str(tmp_path)})
    assert "lhs data get siftflow" in inspect_dataset(missing).errors[0]


def test_known_datasets_must_have_their_counts(tmp_path: Path) -> None:
    superparsing(tmp_path / "siftflow")
    save_mat(tmp_path / "siftflow/SemanticLabels/all/coast_t1.mat", stripes(), ("a", "b", "c"))
    config = DataConfig.model_validate(
        {"dataset": "siftflow", "root": str(tmp_path), "max_train": 1}
    )
    errors = inspect_dataset(config).errors
    assert "coast_t1.mat: its class names differ" in errors[0]
    assert "3 train images, but SIFTFlow has 2488" in errors[1]
    assert "2 test images, but SIFTFlow has 200" in errors[2]
    assert "3 classes, but SIFTFlow has 33" in errors[3]
    assert len(errors) == 4


def test_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = plain(tmp_path, splits={"test": ["town_1"]})
    ids = stripes()
    ids[:6] = 255
    save_labels(folder, "beach_1", ids)
    save_labels(folder, "beach_2", np.full((12, 16), 255))
    save_image(folder / "images/beach_3.png", np.zeros((6, 8, 3), np.uint8))
    save_labels(folder, "beach_3", np.full((6, 8), 1))
    found = describe(open_folder(folder, scenes="prefix"))
    train = found.splits["train"]
    assert (found.images, train.images, found.splits["test"].images) == (5, 4, 1)
    assert found.sizes == {(12, 16): 4, (6, 8): 1}
    assert train.pixels == 3 * 192 + 48
    assert train.class_pixels == [64, 64 + 32 + 48, 64 + 64]
    assert train.class_images == [1, 3, 2]
    assert train.unlabelled_images == 1
    assert train.labelled_share == pytest.approx(336 / 624)
    assert train.scene_names == {"beach": 3, "town": 1}
    config = _config(folder, scenes="prefix")
    assert show(config, as_json=True) == 0
    text = capsys.readouterr().out
    values = json.loads(text.splitlines()[-1])
    assert values == found.as_dict()
    assert values["splits"]["train"]["labelled_share"] == train.labelled_share
    assert "5 images, 4 / 1 (train / test)" in text
    assert "labelled train pixels: 53.8%" in text
    assert "2 scene names (train / test): beach 3 / 0, town 1 / 1" in text


def test_statistics_stop_at_a_wrong_file(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    save_labels(folder, "beach_1", stripes(5))
    with pytest.raises(UserError, match=r"beach_1\.png"):
        describe(open_folder(folder))
