"""`open_dataset`: every name, every way in which a folder is not what it should be."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from lhs.config import DataConfig
from lhs.data import open_dataset, undivided
from lhs.errors import UserError
from tests.data.builders import plain, stanford, superparsing


def test_synthetic_by_name_and_by_settings() -> None:
    config = DataConfig.model_validate(
        {"synthetic": {"train": 3, "test": 2, "height": 48, "width": 64}, "max_train": 2}
    )
    dataset = open_dataset(config)
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (2, 2)
    image, label_map = dataset.split("test")[0].load()
    assert image.shape == (48, 64, 3)
    assert label_map.shape == (48, 64)
    assert len(open_dataset("synthetic").split("train")) > 10


def test_known_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    superparsing(tmp_path / "siftflow")
    stanford(tmp_path / "stanford" / "iccv09Data")
    with caplog.at_level(logging.WARNING):
        assert open_dataset("siftflow", tmp_path).scene_names == ("coast", "street")
        assert open_dataset("stanford", str(tmp_path)).split("test")[0].id == "0000059"
    assert "5 images, where SIFTFlow has 2688" in caplog.text


def test_stanford_settings(tmp_path: Path) -> None:
    stanford(tmp_path / "stanford")
    config = DataConfig.model_validate(
        {"dataset": "stanford", "root": str(tmp_path), "stanford": {"fold": 2}}
    )
    assert open_dataset(config).split("test") == []


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    superparsing(tmp_path / "data" / "siftflow")
    assert len(open_dataset("siftflow", "~/data")) == 5


def test_folder(tmp_path: Path) -> None:
    plain(tmp_path / "mine")
    config = DataConfig.model_validate(
        {"dataset": "folder", "folder": {"path": str(tmp_path / "mine"), "scenes": "prefix"}}
    )
    assert open_dataset(config).scene_names == ("beach", "town")
    with pytest.raises(UserError, match=r"set data\.folder\.path"):
        open_dataset("folder")
    wrong = DataConfig.model_validate({"dataset": "folder", "folder": {"path": "/nowhere"}})
    with pytest.raises(UserError, match="'/nowhere' is not a folder"):
        open_dataset(wrong)


def test_a_validation_list_is_for_folders(tmp_path: Path) -> None:
    lists = {"train": ["beach_1", "beach_2"], "val": ["beach_3"], "test": ["town_1"]}
    folder = {"path": str(plain(tmp_path / "mine", splits=lists))}
    config = DataConfig.model_validate({"dataset": "folder", "folder": folder, "held_out": "val"})
    assert [scene.id for scene in open_dataset(config).split("test")] == ["beach_3"]
    # What a mistake in a list of classes is looked for in: training images of the same split.
    assert [scene.id for scene in open_dataset(undivided(config)).split("train")] == lists["train"]
    with pytest.raises(UserError, match="held_out is 'val': synthetic has no validation list"):
        open_dataset(DataConfig.model_validate({"held_out": "val"}))


def test_what_is_not_there_or_not_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not in .*siftflow; .*`lhs data get siftflow \[--arch"):
        open_dataset("siftflow", tmp_path)
    with pytest.raises(UserError, match="'pascal' is unknown; allowed: siftflow, stanford"):
        open_dataset("pascal")
    stanford(tmp_path / "siftflow")
    with pytest.raises(UserError, match=r"siftflow is not SIFTFlow: it lacks Images, Semantic"):
        open_dataset("siftflow", tmp_path)
    (tmp_path / "barcelona").write_text("a file")
    with pytest.raises(UserError, match="is not Barcelona"):
        open_dataset("barcelona", tmp_path)
    for name in ("images", "labels"):
        (tmp_path / "stanford" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images"):
        open_dataset("stanford", tmp_path)


def test_a_root_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no permission stops: the refusal is put in its place.
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UserError, match="opening the dataset 'siftflow': no permission"):
        open_dataset("siftflow", tmp_path)


def test_import_is_light() -> None:
    script = (
        "import sys, lhs.data\n"
        "print([m for m in ('torch', 'ray', 'scipy.io', 'pandas', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
