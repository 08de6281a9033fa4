"""CVAT's masks: colours, names, splits, and the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.data.importing import cvat
from lhs.data.importing.found import Options
from lhs.errors import UserError
from tests.data.importing.pictures import NOTHING, by_id, save

LABELMAP = """# label:color_rgb:parts:actions
background:0,0,0::
car:10,10,128::
road: left:250,50,83:head,body:act1
"""
COLOURS = np.array([[(0, 0, 0), (10, 10, 128)], [(250, 50, 83), (250, 50, 83)]], np.uint8)
VALUES = [[0x000000, 0x0A0A80], [0xFA3253, 0xFA3253]]


def make(source: Path, labelmap: str = LABELMAP) -> Path:
    for id in ("a", "clip/b", "c"):
        save(source / "JPEGImages" / f"{id}.jpg")
        save(source / "SegmentationClass" / f"{id}.png", COLOURS)
        save(source / "SegmentationObject" / f"{id}.png", COLOURS)
    (source / "labelmap.txt").write_text(labelmap)
    lists = source / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("a\n")
    (lists / "Train.txt").write_text("clip/b\n")
    (lists / "Validation.txt").write_text("c\nlost\n")
    return source


def test_it_is_read(tmp_path: Path) -> None:
    # As it is unpacked: a folder below.
    found = cvat.read(make(tmp_path / "task").parent, NOTHING)
    items = by_id(found.items)
    assert {id: item.split for id, item in items.items()} == {
        "a": None, "clip/b": "train", "c": "val",
    }  # fmt: skip
    labels = items["clip/b"].read()
    assert labels.dtype == np.int32
    assert labels.tolist() == VALUES
    assert found.names == {0: "background", 0x0A0A80: "car", 0xFA3253: "road: left"}
    assert (found.colours, found.void) == (True, frozenset())
    assert "(black) are the class 'background'; --background void" in found.notes[0]
    assert found.notes[1] == "1 listed images without a mask: lost"
    assert "labelmap.txt" in (cvat.recognise(tmp_path, NOTHING) or "")
    assert cvat.recognise(tmp_path / "task/JPEGImages", NOTHING) is None


def test_palettes_are_colours_too(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 10, 10, 128, 250, 50, 83])
    save(make(tmp_path) / "SegmentationClass/a.png", picture)
    assert by_id(cvat.read(tmp_path, NOTHING).items)["a"].read().tolist() == VALUES


@pytest.mark.parametrize(("background", "name"), [("void", None), ("ground", "ground")])
def test_the_background_is_void_or_a_class(
    tmp_path: Path, background: str, name: str | None
) -> None:
    found = cvat.read(make(tmp_path), Options(background=background, void=(0x0A0A80,)))
    assert found.names is not None
    assert found.names.get(0) == name
    assert found.void == ({0, 0x0A0A80} if name is None else {0x0A0A80})


def test_without_lists_all_masks_count(tmp_path: Path) -> None:
    for path in (make(tmp_path) / "ImageSets/Segmentation").iterdir():
        path.unlink()
    assert sorted(by_id(cvat.read(tmp_path, NOTHING).items)) == ["a", "c", "clip/b"]


@pytest.mark.parametrize(
    ("labelmap", "message"),
    [
        ("car:10,10:::", "needed: name:red,green,blue"),
        ("car:10,10,300::", "needed: name:red,green,blue"),
        ("car:1,2,3::\nbus:1,2,3::", "'car' and 'bus' have one colour, 1,2,3"),
        ("# nothing", "no line"),
    ],
)
def test_a_wrong_labelmap_is_refused(tmp_path: Path, labelmap: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"labelmap\.txt.*{message}"):
        cvat.read(make(tmp_path, labelmap), NOTHING)


def test_missing_images_are_refused(tmp_path: Path) -> None:
    (make(tmp_path) / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match='export from CVAT with "Save images"'):
        cvat.read(tmp_path, NOTHING)
    with pytest.raises(UserError, match="needed: both"):
        cvat.read(tmp_path / "elsewhere", NOTHING)


def test_an_image_in_two_lists_is_refused(tmp_path: Path) -> None:
    (make(tmp_path) / "ImageSets/Segmentation/Test.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"'a' is in another list"):
        cvat.read(tmp_path, NOTHING)
