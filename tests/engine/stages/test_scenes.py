"""Bad files, empty splits, nothing labelled: known before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.config import Config
from lhs.data import open_dataset
from lhs.engine.cache import Stages
from lhs.engine.graph import annotated_scenes
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes, checked_key
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


def masks(root: Path, names: list[str], foreground: int = 255) -> None:
    """Label maps of 0 and another id, and two classes."""
    (root / "classes.txt").write_text("ground\nroad\n")
    for name in names:
        save_labels(root, name, (stripes(2) == 1) * foreground)


def test_masks_of_0_and_255_are_told_before_anything_is_made(runs: Runs, tmp_path: Path) -> None:
    root = plain(tmp_path / "masks", [*TRAIN, *TEST], splits={"train": TRAIN, "test": TEST})
    masks(root, [*TRAIN, *TEST])
    with pytest.raises(UserError, match=r"masks: no train pixel of class road \(id 1\)") as caught:
        runs.check(settings(root))
    assert "255 (data.folder.void: unlabelled) in 12 of 12 label maps" in str(caught.value)
    # Where it is meant, what was read is reused.
    runs.check(settings(root, allow_empty_classes=True))
    masks(root, [*TRAIN, *TEST], foreground=1)
    assert runs.check(settings(root)).class_pixels.tolist() == [12 * 6 * 16] * 2
    assert [result.reused for result in runs.done][:2] == [False, True]


@pytest.mark.parametrize("part", [{"max_train": 2}, {"held_out": 10}])
def test_all_training_images_are_looked_at_where_a_run_takes_a_part(
    runs: Runs, tmp_path: Path, part: dict[str, int]
) -> None:
    root = plain(tmp_path / "rare", [*TRAIN, *TEST], splits={"train": TRAIN, "test": TEST})
    for scene in open_dataset(settings(root, **part).data).split("train"):
        save_labels(root, scene.id, stripes(2))
    # Only images that the run leaves out have the class `sand`.
    assert runs.check(settings(root, **part)).class_pixels[2] == 0
    for name in TRAIN:
        save_labels(root, name, stripes(2))
    with pytest.raises(UserError, match=r"sand \(id 2\)"):
        runs.check(settings(root, **part, seed=1))


def test_palettes_that_differ_stop_a_run(runs: Runs, tmp_path: Path) -> None:
    root = plain(tmp_path / "colours", splits={"test": ["town_2"]})
    for number, name in enumerate(("beach_1", "town_2")):
        picture = Image.open(root / f"labels/{name}.png").convert("P")
        picture.putpalette([(n + number) % 256 for n in range(256)] * 3)
        picture.save(root / f"labels/{name}.png")
    with pytest.raises(UserError, match=r"beach_1\.png.*town_2\.png|town_2\.png.*beach_1\.png"):
        runs.check(settings(root))


def test_ignored_files_are_counted_in_the_log(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = plain(tmp_path / "more", splits={"test": ["town_2"]})
    (root / "images/x.gif").write_bytes(b"")
    runs.check(settings(root))
    assert "more: 1 .gif in images/ is ignored" in caplog.text
