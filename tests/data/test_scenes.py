"""Scenes and datasets, whatever their layout."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lhs.data import Dataset, Scene, open_dataset, void_of
from lhs.data.colours import class_colours
from lhs.data.folder import open_folder
from lhs.errors import UserError
from lhs.loading import load_config
from tests.data.builders import plain


class _Blank(Scene):
    """A scene of no pixel but one."""

    def image(self) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    def label_map(self) -> np.ndarray:
        return np.zeros((1, 1), np.uint8)


def _scenes(count: int, split: str = "train") -> list[Scene]:
    return [_Blank(id=f"{split}{i:03}", split=split, num_classes=3) for i in range(count)]


def test_void() -> None:
    assert [void_of(n) for n in (1, 33, 255, 256, 1000)] == [255, 255, 255, 65535, 65535]


@pytest.mark.parametrize("count", [1, 8, 33, 255, 400])
def test_colours_differ(count: int) -> None:
    colours = class_colours([f"class {i}" for i in range(count - 1)] + ["sky"])
    assert colours.shape == (count, 3)
    assert colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == count
    assert tuple(colours[-1]) == tuple(class_colours(["tree", "Sky"])[1])


def test_splits_are_sorted_and_ids_unique() -> None:
    dataset = Dataset("d", ("a", "b", "c"), _scenes(3)[::-1] + _scenes(2, "test"))
    assert [scene.id for scene in dataset.split("train")] == ["train000", "train001", "train002"]
    assert len(dataset) == 5
    assert dataset.scene("test001").split == "test"
    assert dataset.scene_names == ()
    with pytest.raises(UserError, match="no image with the id 'x'"):
        dataset.scene("x")
    with pytest.raises(UserError, match=r"split 'val'.*train, test"):
        dataset.split("val")
    with pytest.raises(UserError, match="two images have the id 'train000'"):
        Dataset("d", ("a",), _scenes(1) * 2)
    with pytest.raises(UserError, match="class names occur twice: a"):
        Dataset("d", ("a", "b", "a"), [])


def test_subset_is_a_seeded_choice() -> None:
    dataset = Dataset("d", ("a", "b"), _scenes(50) + _scenes(20, "test"))
    part = dataset.subset(10, 5, seed=3)
    assert (len(part.split("train")), len(part.split("test"))) == (10, 5)
    assert part.fingerprint() == dataset.subset(10, 5, seed=3).fingerprint()
    assert part.fingerprint() != dataset.subset(10, 5, seed=4).fingerprint()
    assert dataset.subset(100, None).fingerprint() == dataset.fingerprint()


def test_held_out_images_are_training_images_and_no_test_image_is_left() -> None:
    dataset = Dataset("d", ("a", "b"), _scenes(50) + _scenes(20, "test"))
    part = dataset.held_out(10, seed=3)
    train, test = ({scene.id for scene in part.split(split)} for split in ("train", "test"))
    assert (len(train), len(test)) == (40, 10)
    assert train | test == {scene.id for scene in dataset.split("train")}
    assert part.fingerprint() == dataset.held_out(10, seed=3).fingerprint()
    assert part.fingerprint() != dataset.held_out(10, seed=4).fingerprint()
    with pytest.raises(UserError, match=r"held_out is 50; allowed for d: 1 to 49, .* its 50"):
        dataset.held_out(50)


def test_a_held_out_synthetic_scene_stays_what_it_is() -> None:
    config = load_config("demo", ["data.held_out=8", "data.max_train=20"]).data
    part, whole = open_dataset(config), open_dataset(load_config("demo").data)
    assert (len(part.split("train")), len(part.split("test"))) == (20, 8)
    for scene in part.split("test"):
        same = whole.scene(scene.id)
        assert same.split == "train"
        np.testing.assert_array_equal(scene.image(), same.image())
        np.testing.assert_array_equal(scene.label_map(), same.label_map())


def test_fingerprint_depends_on_names_sizes_and_settings_not_places(tmp_path: Path) -> None:
    """What the files hold is told by the scenes' stage, which reads them all
    (tests/engine/stages/test_changed_files.py)."""
    first = open_folder(plain(tmp_path / "one" / "set"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = tmp_path / "two" / "set"
    assert open_folder(copy).fingerprint() == first.fingerprint()
    assert open_folder(copy, void=7).fingerprint() != first.fingerprint()
    assert open_folder(copy, scenes="prefix").fingerprint() != first.fingerprint()
    image = copy / "images" / "beach_1.png"
    content = image.read_bytes()
    image.write_bytes(content[:-1] + b"?")
    assert open_folder(copy).fingerprint() == first.fingerprint()
    image.write_bytes(content + b"?")
    assert open_folder(copy).fingerprint() != first.fingerprint()
    image.write_bytes(content)
    assert open_folder(copy).fingerprint() == first.fingerprint()
    (copy / "classes.txt").write_text("a\nb\nc\n")
    assert open_folder(copy).fingerprint() != first.fingerprint()
    (tmp_path / "one/set/labels/beach_1.png").unlink()
    assert open_folder(tmp_path / "one/set").fingerprint() != first.fingerprint()


def test_scenes_are_small_and_picklable(tmp_path: Path) -> None:
    scene = open_folder(plain(tmp_path / "set")).scene("beach_1")
    data = pickle.dumps(scene)
    assert len(data) < 1000
    assert (pickle.loads(data).image() == scene.image()).all()


@dataclass(frozen=True, kw_only=True)
class _Made(Scene):
    def image(self) -> np.ndarray:
        return np.zeros((4, 5, 3), np.uint8)

    def label_map(self) -> np.ndarray:
        return np.zeros((4, 6), np.uint8)


def test_sizes_must_agree() -> None:
    with pytest.raises(UserError, match=r"label map is 6 x 4 .* but its image made is 5 x 4"):
        _Made(id="made", split="train", num_classes=2).load()
