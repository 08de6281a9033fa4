"""labelme's shapes: drawn like naive masks, in their order, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lhs.data.importing import labelme
from lhs.data.importing.found import Options
from lhs.errors import BadImageError, UserError
from tests.data.importing.pictures import NOTHING, VOID, by_id, photo, png, save

HEIGHT, WIDTH = 12, 16
EYE = base64.b64encode(png(np.eye(3, dtype=np.uint8))).decode()


def shape(label: Any, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {
        "label": label, "points": points, "group_id": None, "description": "",
        "shape_type": kind, "flags": {}, "mask": None, **more,
    }  # fmt: skip


def make(path: Path, *shapes: dict[str, Any], **more: Any) -> Path:
    """Write a file, and its image beside it."""
    save(path.with_suffix(".jpg"))
    tree = {
        "version": "5.5.0", "flags": {}, "shapes": list(shapes),
        "imagePath": path.with_suffix(".jpg").name, "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH, **more,
    }  # fmt: skip
    path.write_text(json.dumps(tree))
    return path


def drawn(source: Path, *shapes: dict[str, Any]) -> np.ndarray:
    make(source / "a.json", *shapes)
    (item,) = labelme.read(source, VOID).items
    return item.read()


def test_it_is_read(tmp_path: Path) -> None:
    car = shape("car", [[2, 2], [8, 2], [8, 6], [2, 6]])
    make(tmp_path / "x/a.json", car, shape("sky", [[6, 4], [12, 9]], "rectangle"))
    make(tmp_path / "x/b.json", shape("__ignore__", [[0, 0], [2, 2]], "rectangle"), car)
    (tmp_path / "other.json").write_text("{}")
    found = labelme.read(tmp_path, Options(background="ground", void=(9,)))
    items = by_id(found.items)
    assert list(items) == ["x/a", "x/b"]
    assert items["x/a"].image == tmp_path / "x/a.jpg"
    assert found.names == {0: "ground", 2: "car", 3: "sky"}
    assert found.void == {1, 9}
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[2:7, 2:9] = 2
    expected[4:10, 6:13] = 3
    labels = items["x/a"].read()
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)
    assert items["x/b"].read()[0, 0] == 1
    assert "the later in the file lies on top" in found.notes[0]
    assert "__ignore__" in found.notes[1]
    assert "2 JSON files" in (labelme.recognise(tmp_path, NOTHING) or "")


def test_void_and_a_named_class_as_background(tmp_path: Path) -> None:
    make(
        tmp_path / "a.json",
        shape("car", [[0, 0], [3, 3]], "rectangle"),
        shape("b", [[5, 5]] * 2, "rectangle"),
    )
    found = labelme.read(tmp_path, VOID)
    assert (found.names, found.void) == ({2: "b", 3: "car"}, {0, 1})
    found = labelme.read(tmp_path, Options(background="car"))
    assert (found.names, found.void) == ({0: "car", 2: "b"}, {1})
    assert np.unique(found.items[0].read()).tolist() == [0, 2]
    with pytest.raises(UserError, match="--background void"):
        labelme.read(tmp_path, NOTHING)


def test_circles_and_polygons_are_as_naive_ones(tmp_path: Path) -> None:
    """But for the border, which labelme draws in too."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    circle = drawn(tmp_path, shape("a", [[8, 6], [8, 10]], "circle")) == 2
    distance = np.hypot(x - 8, y - 6)
    assert (circle[distance < 3.5]).all()
    assert not circle[distance > 5].any()
    triangle = drawn(tmp_path, shape("a", [[1, 1], [13, 1], [1, 9]], None)) == 2
    below = (x - 1) / 12 + (y - 1) / 8
    assert (triangle[(below <= 1) & (x >= 1) & (y >= 1)]).all()
    assert not triangle[(below > 1.1) | (x < 1) | (y < 1)].any()
    points = [[1, 5], [5, 1], [9, 5], [5, 9]]
    diamond = drawn(tmp_path, shape("a", points, "oriented_rectangle")) == 2
    np.testing.assert_array_equal(diamond, abs(x - 5) + abs(y - 5) <= 4)


def test_masks_are_pasted(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(np.uint8)
    text = base64.b64encode(png(mask)).decode()
    labels = drawn(tmp_path, shape("a", [[3.0, 2.0], [7.0, 5.0]], "mask", mask=text))
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[2:6, 3:8] = 2 * mask
    np.testing.assert_array_equal(labels, expected)


def test_images_inside_the_file(tmp_path: Path) -> None:
    out = io.BytesIO()
    photo().save(out, format="PNG")
    data = base64.b64encode(out.getvalue()).decode()
    path = make(
        tmp_path / "a.json", shape("a", [[0, 0], [3, 3]], "rectangle"),
        imageData=data, imagePath="C:\\elsewhere\\a.png", imageHeight=None, imageWidth=None,
    )  # fmt: skip
    path.with_suffix(".jpg").unlink()
    (item,) = labelme.read(tmp_path, VOID).items
    assert callable(item.image)
    assert item.image() == out.getvalue()
    assert item.read().shape == (HEIGHT, WIDTH)
    with Image.open(io.BytesIO(item.image())) as image:
        assert image.size == (WIDTH, HEIGHT)


def test_images_in_another_folder_of_the_source(tmp_path: Path) -> None:
    save(tmp_path / "images/a.jpg")
    make(
        tmp_path / "json/a.json",
        shape("a", [[0, 0], [3, 3]], "rectangle"),
        imagePath="..\\images\\a.jpg",
    )
    assert labelme.read(tmp_path, VOID).items[0].image == tmp_path / "images/a.jpg"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"imagePath": "../../a.jpg"}, "leaves"),
        ({"imagePath": "/etc/passwd"}, "absolute"),
        ({"imagePath": "lost.jpg"}, "image 'lost.jpg' is missing"),
        ({"imagePath": None}, "is named None"),
        ({"imageHeight": 0}, "an image of 16 x 0 pixels"),
        ({"imageHeight": 10**6, "imageWidth": 10**6}, "of 1000000 x"),
        ({"imageHeight": "x"}, "an image of 16 x 'x' pixels"),
        ({"imageWidth": 2**20}, "is 1048576 x 12, its image has 16 x 12 pixels"),
        ({"shapes": [shape("a", [[1, 1], [2, 2]], "line"), shape("a", [[1, 1]], "point")]},
         r"\"?'?line, point.* allowed are those with an area, polygon"),
        ({"shapes": [shape("a\nb", [[0, 0], [3, 3]], "rectangle")]}, "text of one line"),
        ({"shapes": [5]}, "not as labelme has it"),
        ({"shapes": None}, "not as labelme has it"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    make(tmp_path / "a.json", shape("a", [[0, 0], [3, 3]], "rectangle"), **more)
    with pytest.raises(UserError, match=rf"a\.json: .*{message}"):
        labelme.read(tmp_path, VOID)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("a", [[0, 0], [3, 3]]), "a polygon of 2 points; needed are 3"),
        (shape("a", [[0, 0]] * 3, "rectangle"), "a rectangle of 3 points; needed are 2"),
        (shape("a", [[0, 0]], "circle"), "a circle of 1 points"),
        (shape("a", [], "circle"), "no pairs"),
        (shape("a", [[0, 0], [float("nan"), 1], [3, 3]]), "no pairs of numbers, or far"),
        (shape("a", [[0, 0], [1e12, 1], [3, 3]]), "far outside"),
        (shape("a", [["x", 0]] * 3), "could not convert"),
        (shape("a", [[0, 0], [1, 1]], "mask", mask="????"), "unreadable image"),
        (shape("a", [[0, 0], [1, 1]], "mask"), "bytes-like"),
        (
            shape("a", [[0, 0], [3, 3]], "mask", mask=EYE),
            r"a mask of \(3, 3\) pixels between",
        ),
    ],
)  # fmt: skip
def test_wrong_shapes_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadImageError, match=rf"a\.json: .*{message}"):
        drawn(tmp_path, wrong)


def test_damaged_json_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.json", shape("a", [[0, 0], [3, 3]], "rectangle"))
    item = labelme.read(tmp_path, VOID).items[0]
    path.write_text(path.read_text()[:-1])
    with pytest.raises(BadImageError, match=r"a\.json: damaged JSON"):
        item.read()
    with pytest.raises(BadImageError, match=r"a\.json: damaged JSON"):
        labelme.read(tmp_path, VOID)
    with pytest.raises(UserError, match="no JSON file with shapes"):
        labelme.read(save(tmp_path / "b/a.jpg").parent, VOID)
