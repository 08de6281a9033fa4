"""COCO-Stuff's maps: ids, names, splits and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhs.data.importing import coco_stuff
from lhs.data.importing.found import Options
from lhs.errors import BadImageError, UserError
from tests.data.importing.pictures import NOTHING, by_id, save

MAP = np.array([[0, 14, 181], [255, 105, 156]], np.uint8)
SCENES = {"train2017": ["000000000009", "000000000025"], "val2017": ["000000000139"]}


def make(source: Path, images: str = "images", maps: str = "annotations") -> Path:
    for split, ids in SCENES.items():
        for id in ids:
            save(source / images / split / f"{id}.jpg")
            save(source / maps / split / f"{id}.png", MAP)
    # What others put beside them.
    save(source / maps / "val2017" / "000000000139_labelTrainIds.png", MAP)
    return source


@pytest.mark.parametrize(("images", "maps"), [("images", "annotations"), ("", "stuffthingmaps")])
def test_it_is_read(tmp_path: Path, images: str, maps: str) -> None:
    found = coco_stuff.read(make(tmp_path, images, maps), Options(void=(7,)))
    items = by_id(found.items)
    assert {id: item.split for id, item in items.items()} == {
        "train2017/000000000009": "train",
        "train2017/000000000025": "train",
        "val2017/000000000139": "val",
    }
    assert items["val2017/000000000139"].image == tmp_path / images / "val2017/000000000139.jpg"
    labels = items["train2017/000000000009"].read()
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, MAP)
    assert found.void == {255, 7}
    assert not found.colours
    assert "11 (street sign)" in found.notes[-1]


def test_names_are_those_of_the_table() -> None:
    """labels.txt has 1: person, 15: bench, 106: clouds, 157: sky-other, 182: wood."""
    names = coco_stuff.NAMES
    assert [names[id] for id in (0, 14, 105, 156, 181)] == [
        "person", "bench", "clouds", "sky-other", "wood",
    ]  # fmt: skip
    assert len(names) == len(set(names.values())) == 182
    # Of 91 things 80 are used, of 91 stuff classes all.
    used = [id for id, name in names.items() if name not in coco_stuff.UNUSED]
    assert (sum(id < 91 for id in used), sum(id >= 91 for id in used)) == (80, 91)


def test_images_and_maps_alone_are_told(tmp_path: Path) -> None:
    (make(tmp_path) / "images/train2017/000000000009.jpg").unlink()
    (tmp_path / "annotations/train2017/000000000025.png").rename(
        tmp_path / "annotations/train2017/000000000026.png"
    )
    found = coco_stuff.read(tmp_path, NOTHING)
    assert [item.split for item in found.items] == ["val"]
    assert "train2017: 1 images without a map, 2 PNGs without image" in found.notes
    assert "val2017: 0 images without a map, 1 PNGs without image" in found.notes


def test_it_is_recognised(tmp_path: Path) -> None:
    assert coco_stuff.recognise(tmp_path, NOTHING) is None
    save(tmp_path / "train2017" / "000000000009.jpg")
    assert coco_stuff.recognise(tmp_path, NOTHING) is None
    make(tmp_path / "a")
    assert "train2017 and val2017" in (coco_stuff.recognise(tmp_path / "a", NOTHING) or "")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stuffthingmaps_trainval2017\.zip"):
        coco_stuff.read(tmp_path, NOTHING)
    make(tmp_path)
    save(tmp_path / "other/val2017/000000000139.png", MAP)
    with pytest.raises(UserError, match="one folder val2017 of maps"):
        coco_stuff.read(tmp_path, NOTHING)


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    path = make(tmp_path) / "annotations/val2017/000000000139.png"
    path.write_bytes(path.read_bytes()[:40])
    item = by_id(coco_stuff.read(tmp_path, NOTHING).items)["val2017/000000000139"]
    with pytest.raises(BadImageError, match=r"000000000139\.png"):
        item.read()
