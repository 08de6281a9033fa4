"""Bad files, empty splits, nothing labelled: known before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import annotated_scenes
from lhs.engine.stage import StageResult
from lhs.engine.stages.scenes import CheckedScenes, checked_key
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.loading import build_config
from tests.data.builders import plain, save_labels, stripes

pytestmark = pytest.mark.ray

TRAIN = [f"beach_{number}" for number in range(6)] + [f"town_{number}" for number in range(6)]
TEST = ["beach_t", "town_t"]
BAD = ("beach_1", "beach_2", "town_t", "town_3")


def broken(folder: Path) -> Path:
    """A plain folder with a truncated JPEG, a missing label and two wrong sizes."""
    root = plain(folder, [*TRAIN, *TEST, "beach_u"], suffix=".jpg",
                 splits={"train": TRAIN, "test": [*TEST, "beach_u"]})  # fmt: skip
    image = root / "images" / "beach_1.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    (root / "labels" / "beach_2.png").unlink()
    for name in BAD[2:]:
        save_labels(root, name, stripes(height=13))
    return root


def settings(root: Path, **more: object) -> Config:
    tree = {"dataset": "folder", "folder": {"path": str(root), "scenes": "prefix"}, **more}
    return build_config({"data": tree})


class Runs:
    """Runs on one storage, one after the other."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.done: list[StageResult] = []

    def check(self, config: Config) -> CheckedScenes:
        """The scenes of a new run."""
        stages = Stages(self.storage)
        try:
            return annotated_scenes(stages, config)
        finally:
            self.done += stages.done


@pytest.fixture
def runs(cluster: None, tmp_path: Path) -> Runs:
    return Runs(Storage(str(tmp_path / "storage")))


def test_bad_files_are_all_named_or_left_out(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = broken(tmp_path / "mixed")
    with pytest.raises(UserError) as caught:
        runs.check(settings(root))
    text = str(caught.value)
    assert "mixed: 4 bad images" in text
    assert str(root / "images" / "beach_1.jpg") in text
    assert all(str(root / "labels" / f"{name}.png") in text for name in BAD[1:])
    assert "data.on_bad_image=skip" in text

    checked = runs.check(settings(root, on_bad_image="skip"))
    # What was read once is not read again.
    assert [result.reused for result in runs.done] == [False, True]
    assert set(checked.skipped) == set(BAD)
    assert [scene.id for scene in checked.split("test")] == ["beach_t", "beach_u"]
    assert len(checked.split("train")) == len(TRAIN) - 3
    assert checked.class_pixels.tolist() == [(len(TRAIN) - 3) * 4 * 16] * 3
    assert "4 bad images" in caplog.text
    assert "beach_1.jpg" in caplog.text


def test_an_image_repaired_to_its_old_size_is_no_longer_bad(runs: Runs, tmp_path: Path) -> None:
    root = plain(tmp_path / "repaired", [*TRAIN, *TEST], suffix=".jpg",
                 splits={"train": TRAIN, "test": TEST})  # fmt: skip
    image = root / "images" / "beach_1.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(UserError, match=r"beach_1\.jpg"):
        runs.check(settings(root))
    runs.check(settings(root, on_bad_image="skip"))
    image.write_bytes(whole)
    checked = runs.check(settings(root))
    assert not checked.skipped
    assert len(checked.split("train")) == len(TRAIN)
    runs.check(settings(root))
    assert [result.reused for result in runs.done] == [False, True, False, True]
    bad, left_out, repaired, again = runs.done
    # Results without the image are not reused for those with it.
    assert checked_key(left_out) != checked_key(repaired)
    # As if it had never been bad.
    assert checked_key(repaired) == checked_key(again)
    fresh = Stages(Storage(str(tmp_path / "fresh")))
    annotated_scenes(fresh, settings(root))
    assert checked_key(fresh.done[0]) == checked_key(again)
    assert bad.key == again.key


def test_a_label_out_of_range_stops_even_where_bad_images_are_skipped(
    runs: Runs, tmp_path: Path
) -> None:
    root = plain(tmp_path / "wrong", splits={"test": ["town_2"]})
    save_labels(root, "beach_2", stripes() + 5)
    for skip in ("fail", "skip"):
        with pytest.raises(UserError, match=r"beach_2\.png: label id .* out of range"):
            runs.check(settings(root, on_bad_image=skip))


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_split(runs: Runs, tmp_path: Path, split: str) -> None:
    other = {"train": "test", "test": "train"}[split]
    root = plain(tmp_path / "empty", ["a", "b"], splits={split: [], other: ["a", "b"]})
    with pytest.raises(UserError, match=f"empty: the {split} split holds no readable image"):
        runs.check(settings(root))


def test_nothing_labelled(runs: Runs, tmp_path: Path) -> None:
    root = plain(tmp_path / "void", ["a", "b", "c"], splits={"test": ["c"]})
    for name in "ab":
        save_labels(root, name, np.full((12, 16), 255))
    with pytest.raises(UserError, match="no pixel of the training images carries a label"):
        runs.check(settings(root))


def test_nothing_labelled_in_the_test_split(runs: Runs, tmp_path: Path) -> None:
    root = plain(tmp_path / "void", ["a", "b", "c", "d"], splits={"test": ["c", "d"]})
    for name in "cd":
        save_labels(root, name, np.full((12, 16), 255))
    with pytest.raises(UserError, match="no pixel of the 2 test images carries a label"):
        runs.check(settings(root))
