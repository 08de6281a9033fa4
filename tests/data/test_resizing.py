"""`data.long_side`: resized scenes against torch's and Pillow's own resizing, and their files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from lhs.config import DataConfig
from lhs.data import Dataset, open_dataset, resizing
from lhs.data.checking import inspect_dataset
from lhs.data.folder import PictureScene
from lhs.data.resizing import resized_image, resized_nearest, resized_shape
from lhs.errors import BadImageError, UserError
from tests.data.builders import noise_image, plain, save_image, save_labels, stripes

HIGH, WIDE = 60, 96
LISTS = {"train": ["beach_1", "beach_2"], "test": ["town_1"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resized"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`beach_1` is large, the others are 12 x 16."""
    root = plain(tmp_path / "photos", ["beach_1", "beach_2", "town_1"], splits=LISTS)
    save_image(root / "images/beach_1.png", noise_image(7, HIGH, WIDE))
    save_labels(root, "beach_1", stripes(3, HIGH, WIDE))
    return root


def opened(root: Path, long_side: int | None = 48, **more: Any) -> Dataset:
    tree = {"dataset": "folder", "folder": {"path": str(root)}, "long_side": long_side, **more}
    return open_dataset(DataConfig.model_validate(tree))


def pictures(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_the_longer_side_is_the_one_given_and_the_shape_stays() -> None:
    assert resized_shape((3000, 4000), 1024) == (768, 1024)
    assert resized_shape((4000, 3000), 1024) == (1024, 768)
    assert resized_shape((1, 4000), 100) == (1, 100)
    for small in (None, 4000, 5000):
        assert resized_shape((3000, 4000), small) == (3000, 4000)


@pytest.mark.parametrize("shape", [(60, 96), (97, 61), (50, 50)])
def test_images_are_resized_as_torch_does_with_antialiasing(shape: tuple[int, int]) -> None:
    image = noise_image(3, *shape)
    found = resized_image(image, 40)
    assert max(found.shape[:2]) == 40
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = interpolate(tensor, found.shape[:2], mode="bilinear", antialias=True)
    difference = found - expected[0].permute(1, 2, 0).numpy()
    # Pillow rounds between the two sides, to eight bits.
    assert np.abs(difference).max() <= 1.01
    assert resized_image(image, 97) is image


@pytest.mark.parametrize(("shape", "other"), [((60, 96), (30, 48)), ((61, 97), (23, 40)),
                                              ((23, 41), (61, 97)), ((7, 5), (7, 9))])  # fmt: skip
def test_the_nearest_pixel_is_torch_s_and_pillow_s(
    shape: tuple[int, int], other: tuple[int, int]
) -> None:
    labels = np.random.default_rng(0).integers(0, 250, shape, dtype=np.uint8)
    found = resized_nearest(labels, other)
    tensor = torch.from_numpy(labels)[None, None].float()
    assert (found == interpolate(tensor, other, mode="nearest-exact")[0, 0].numpy()).all()
    assert (found == np.array(Image.fromarray(labels).resize(other[::-1], 0))).all()
    assert found.dtype == np.uint8
    assert resized_nearest(np.stack([labels, labels]), other).shape == (2, *other)


def test_scenes_of_a_resized_dataset(photos: Path, cache: Path) -> None:
    dataset = opened(photos)
    scene, small = dataset.scene("beach_1"), dataset.scene("beach_2")
    image, label_map = scene.load()
    assert scene.size() == label_map.shape == (30, 48)
    assert (image == resized_image(noise_image(7, HIGH, WIDE), 48)).all()
    assert (label_map == resized_nearest(stripes(3, HIGH, WIDE), (30, 48))).all()
    assert label_map.dtype == np.uint8
    assert len(pictures(cache)) == 2
    # A score is one of the labels as they were drawn.
    seen, truth = scene.load_scored()
    assert (seen == image).all()
    assert (truth == stripes(3, HIGH, WIDE)).all()
    plain_image, plain_labels = small.load()
    assert plain_image.shape == (12, 16, 3) == (*plain_labels.shape, 3)
    assert len(pictures(cache)) == 2
    assert (pickle.loads(pickle.dumps(scene)).image() == image).all()


def test_a_picture_is_resized_once(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(photos).scene("beach_1").load()
    made = [path.stat().st_mtime_ns for path in pictures(cache)]
    with monkeypatch.context() as patch:
        patch.setattr(PictureScene, "image", None)
        patch.setattr(PictureScene, "label_map", None)
        # Also in the other split, as held out.
        again = opened(photos, held_out=1).scene("beach_1").load()
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    assert [path.stat().st_mtime_ns for path in pictures(cache)] == made
    for path in pictures(cache):
        path.write_bytes(path.read_bytes()[:100])
    again = opened(photos).scene("beach_1").load()
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    assert len(pictures(cache)) == 2


def test_other_files_and_other_settings_are_resized_anew(photos: Path) -> None:
    opened(photos).scene("beach_1").load()
    save_image(photos / "images/beach_1.png", noise_image(8, HIGH, WIDE))
    expected = resized_image(noise_image(8, HIGH, WIDE), 48)
    assert (opened(photos).scene("beach_1").image() == expected).all()
    assert opened(photos, 40).scene("beach_1").image().shape == (25, 40, 3)
    (photos / "classes.txt").write_text("a\nb\n")
    folder = {"path": str(photos), "void": 0, "ids_from": 1}
    label_map = opened(photos, folder=folder).scene("beach_1").label_map()
    assert np.unique(label_map).tolist() == [0, 1, 255]


def test_more_than_255_classes_keep_their_ids(photos: Path) -> None:
    (photos / "classes.txt").write_text("".join(f"c{number}\n" for number in range(300)))
    ids = np.full((HIGH, WIDE), 299, np.uint16)
    ids[:20] = 65535
    Image.fromarray(ids).save(photos / "labels/beach_1.png")
    folder = {"path": str(photos), "void": 65535}
    for _ in range(2):
        label_map = opened(photos, folder=folder).scene("beach_1").label_map()
        assert label_map.dtype == np.uint16
        assert (label_map[:10] == 65535).all()
        assert (label_map[10:] == 299).all()


@pytest.mark.parametrize("shape", [(HIGH, WIDE + 2), (30, 48), (12, 16)])
def test_a_label_map_of_another_size_is_told_by_the_sizes_of_the_files(
    photos: Path, shape: tuple[int, int]
) -> None:
    save_labels(photos, "beach_1", stripes(3, *shape))
    scene = opened(photos).scene("beach_1")
    message = rf"label map is {shape[1]} x {shape[0]} .*beach_1\.png is {WIDE} x {HIGH}"
    for read in (scene.load, scene.load_scored, scene.label_map):
        with pytest.raises(BadImageError, match=message):
            read()


def test_a_cache_that_can_t_be_written_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"data\.long_side: .*file/resized.* LHS_CACHE"):
        opened(photos).scene("beach_1").image()
    monkeypatch.setenv("LHS_CACHE", "~/mine")
    assert resizing.cache_folder() == Path(os.path.expanduser("~/mine/resized"))


def test_the_fingerprint_depends_on_it(photos: Path) -> None:
    found = {opened(photos, side).fingerprint() for side in (None, 48, 64)}
    assert len(found) == 3


def test_a_dataset_without_files_is_resized_each_time(cache: Path) -> None:
    tree = {"synthetic": {"train": 1, "test": 1, "height": 48, "width": 96}, "long_side": 64}
    (scene,) = open_dataset(DataConfig.model_validate(tree)).split("test")
    image, label_map = scene.load()
    assert image.shape[:2] == label_map.shape == scene.size() == (32, 64)
    assert scene.load_scored()[1].shape == (48, 96)
    assert pictures(cache) == []


def test_check_reads_the_files_as_they_are(photos: Path, cache: Path) -> None:
    # Class `sand` has one row, which resizing drops.
    ids = stripes(2, HIGH, WIDE)
    ids[0] = 2
    save_labels(photos, "beach_1", ids)
    save_labels(photos, "beach_2", stripes(2))
    tree = {"dataset": "folder", "folder": {"path": str(photos)}, "long_side": 32}
    assert inspect_dataset(DataConfig.model_validate(tree)).errors == []
    assert pictures(cache) == []
