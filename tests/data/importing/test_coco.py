"""COCO's JSON: outlines equal to naive ones, their order, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as peer

from lhs.data.importing import coco
from lhs.data.importing.found import Options
from lhs.errors import BadImageError, UserError
from tests.data.importing.pictures import NOTHING, VOID, by_id, save

HEIGHT, WIDTH = 12, 16
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "Straße"}, {"id": 9, "name": "unused"}]


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: np.ndarray) -> list[int]:
    """By columns, beginning with what is outside, an element at a time."""
    counts, now = [0], 0
    for value in mask.T.ravel().tolist():
        if value != now:
            counts.append(0)
            now = value
        counts[-1] += 1
    return counts


def thing(id: int, image: int, category: int, outline: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": id, "image_id": image, "category_id": category, "segmentation": outline,
        "iscrowd": crowd, "area": 1.0, "bbox": [0, 0, 1, 1],
    }  # fmt: skip


def image(id: int, name: str) -> dict[str, Any]:
    return {"id": id, "file_name": name, "height": HEIGHT, "width": WIDTH}


def tree(*things: dict[str, Any], names: tuple[str, ...] = ("a.jpg",)) -> dict[str, Any]:
    return {
        "info": {"description": "x"}, "licenses": [],
        "images": [image(id, name) for id, name in enumerate(names, 1)],
        "annotations": list(things), "categories": CATEGORIES,
    }  # fmt: skip


def make(source: Path, content: dict[str, Any], split: str = "train2017", images: str = "") -> Path:
    for each in content["images"]:
        save(source / images / split / each["file_name"])
    path = source / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False))
    return source


def label_map(source: Path, outline: Any) -> np.ndarray:
    make(source, tree(thing(1, 1, 3, outline)))
    (item,) = coco.read(source, VOID).items
    return item.read()


@pytest.mark.parametrize("images", ["", "images"])
def test_it_is_read(tmp_path: Path, images: str) -> None:
    small, large = thing(1, 1, 3, box(4, 3, 8, 6)), thing(2, 1, 7, box(2, 2, 12, 9))
    crowd = np.zeros((HEIGHT, WIDTH), int)
    crowd[:5, :7] = 1
    group = thing(3, 1, 3, {"size": [HEIGHT, WIDTH], "counts": run_lengths(crowd)}, crowd=1)
    make(tmp_path, tree(small, large, group, names=("a.jpg", "b.jpg")), images=images)
    make(tmp_path, tree(thing(1, 1, 7, box(0, 0, 3, 3))), "val2017", images)
    found = coco.read(tmp_path, Options(background="ground"))
    items = by_id(found.items)
    assert {id: item.split for id, item in items.items()} == {
        "train2017/a": "train", "train2017/b": "train", "val2017/a": "val",
    }  # fmt: skip
    expected = np.zeros((HEIGHT, WIDTH), int)
    # The group below, then the larger: the smaller lies on top.
    expected[:5, :7] = 3
    expected[2:9, 2:12] = 7
    expected[3:6, 4:8] = 3
    labels = items["train2017/a"].read()
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)
    assert not items["train2017/b"].read().any()
    assert found.names == {0: "ground", 3: "car", 7: "Straße"}
    assert found.void == frozenset()
    assert "1 categories dropped, as no object has them: 9 (unused)" in found.notes
    assert (
        "instances_train2017.json: objects overlap in 1 of 2 images; 1 objects are groups "
        "(iscrowd), labelled as their class" in found.notes
    )
    assert "annotations/instances_train2017.json" in (coco.recognise(tmp_path, NOTHING) or "")


def test_void_background_leaves_out_images_without_objects(tmp_path: Path) -> None:
    make(tmp_path, tree(thing(1, 1, 3, box(0, 0, 4, 4)), names=("a.jpg", "b.jpg", "c.jpg")))
    (tmp_path / "train2017/c.jpg").unlink()
    found = coco.read(tmp_path, Options(background="void", void=(7,)))
    assert list(by_id(found.items)) == ["a"]
    assert found.void == {0, 7}
    assert found.names == {3: "car"}
    assert "instances_train2017.json: 2 images without objects are left out" in found.notes
    found = coco.read(tmp_path, Options(background="car"))
    assert set(np.unique(by_id(found.items)["b"].read())) == {3}
    assert "instances_train2017.json: 1 images have no file: 'c.jpg'" in found.notes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.booleans())
def test_run_lengths_are_as_a_naive_reader_has_them(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], text: bool
) -> None:
    bits = np.concatenate([np.full(n, i % 2) for i, n in enumerate([*lengths, 0])])
    mask = np.resize(np.append(bits, np.zeros(HEIGHT * WIDTH)), HEIGHT * WIDTH).astype(np.uint8)
    mask = mask.reshape(WIDTH, HEIGHT).T
    counts: Any = run_lengths(mask)
    if text:
        counts = peer.encode(np.asfortranarray(mask))["counts"].decode()
        assert coco._unpacked(counts) == run_lengths(mask)
    labels = label_map(tmp_path_factory.mktemp("coco"), {"size": [HEIGHT, WIDTH], "counts": counts})
    np.testing.assert_array_equal(labels == 3, mask == 1)


def test_polygons_are_as_a_naive_reader_has_them(tmp_path: Path) -> None:
    """A pixel is inside where its centre is: by the even-odd rule, one pixel at a time."""
    rng = np.random.default_rng(0)
    for number in range(10):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        points = np.c_[8 + 7 * np.cos(angles), 6 + 5 * np.sin(angles)]
        labels = label_map(tmp_path / str(number), [points.ravel().tolist()]) == 3
        for y in range(HEIGHT):
            for x in range(WIDTH):
                inside, near = False, np.inf
                for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0), strict=True):
                    if (ay > y + 0.5) != (by > y + 0.5):
                        inside ^= x + 0.5 < ax + (y + 0.5 - ay) * (bx - ax) / (by - ay)
                    along = ((x + 0.5 - ax) * (bx - ax) + (y + 0.5 - ay) * (by - ay)) / (
                        (bx - ax) ** 2 + (by - ay) ** 2
                    )
                    at = np.array([ax, ay]) + np.clip(along, 0, 1) * np.array([bx - ax, by - ay])
                    near = min(near, float(np.hypot(*(at - (x + 0.5, y + 0.5)))))
                assert labels[y, x] == inside or near < 0.75


def test_parts_make_one_object_and_lines_have_no_area(tmp_path: Path) -> None:
    labels = label_map(tmp_path, [*box(0, 0, 2, 2), *box(5, 5, 7, 8), [1, 1, 9, 9], []])
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[:2, :2] = expected[5:8, 5:7] = 3
    np.testing.assert_array_equal(labels, expected)
    assert not label_map(tmp_path / "line", [[1, 1, 9, 9]]).any()


def test_the_folders_of_other_tools(tmp_path: Path) -> None:
    content = tree(thing(1, 1, 3, box(0, 0, 4, 4)))
    for split in ("train", "valid"):
        save(tmp_path / "a" / split / "a.jpg")
        (tmp_path / "a" / split / "_annotations.coco.json").write_text(json.dumps(content))
    items = by_id(coco.read(tmp_path / "a", VOID).items)
    assert {id: item.split for id, item in items.items()} == {"train/a": "train", "valid/a": "val"}
    save(tmp_path / "b/images/a.jpg")
    (tmp_path / "b/annotations").mkdir()
    (tmp_path / "b/annotations/instances_default.json").write_text(json.dumps(content))
    # COCO has other files beside them.
    (tmp_path / "b/annotations/person_keypoints_default.json").write_text(json.dumps(content))
    assert [item.split for item in coco.read(tmp_path / "b", VOID).items] == [None]
    save(tmp_path / "c/images/a.jpg")
    (tmp_path / "c/result.json").write_text(json.dumps(content))
    assert list(by_id(coco.read(tmp_path / "c", VOID).items)) == ["a"]


@pytest.mark.parametrize("name", ["../../a.jpg", "/etc/passwd", "C:\\a.jpg", "", 5, None])
def test_names_that_leave_the_source_are_refused(tmp_path: Path, name: Any) -> None:
    content = tree(thing(1, 1, 3, box(0, 0, 4, 4)))
    make(tmp_path, content)
    content["images"][0]["file_name"] = name
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"file name|is named"):
        coco.read(tmp_path, VOID)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([], "boxes alone"),
        (None, "boxes alone"),
        ([[0, 0, 1, 1, 2]], "x, y, x, y"),
        ([[0, 0, 1, "a", 2, 2]], "could not convert"),
        ([[0, 0, 1, float("nan"), 2, 2]], "far outside"),
        ([[0, 0, 1e9, 1, 2, 2]], "far outside"),
        ([[0, 0, 16, 12] * 100_000], "more than 1000000 pixels"),
        ({"size": [WIDTH, HEIGHT], "counts": [192]}, "the image has 12 x 16"),
        ({"size": [HEIGHT, WIDTH], "counts": [190]}, "run lengths of 190 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [-8, 200]}, "run lengths of 192 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.5, 190.5]}, "run lengths of size"),
        ({"size": [HEIGHT, WIDTH], "counts": "o"}, "ends within a number"),
        ({"size": [HEIGHT, WIDTH], "counts": "00\x01"}, "damaged text"),
        ({"size": [HEIGHT, WIDTH], "counts": "ooooooooooooo"}, "damaged text"),
        ({"size": [HEIGHT, WIDTH]}, "counts"),
    ],
)
def test_wrong_outlines_are_refused(tmp_path: Path, outline: Any, message: str) -> None:
    with pytest.raises(
        BadImageError, match=rf"instances_train2017\.json: the annotation at byte \d+.*{message}"
    ):
        label_map(tmp_path, outline)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("images", [], "annotations of 1 images and 0 categories"),
        ("categories", [], "annotations of 0 images and 1 categories"),
        ("images", [image(1, "a.jpg") | {"height": 10**6, "width": 10**6}], "of 1000000 x"),
        ("images", [image(1, "a.jpg") | {"height": 0}], "of 16 x 0 pixels"),
        ("images", [image(1, "a.jpg") | {"id": [1]}], r"the id \[1\]"),
        ("images", [{"id": 1}], "not as COCO has it: KeyError"),
        ("images", [5], "not as COCO has it: TypeError"),
        ("categories", [{"id": "x", "name": "a"}], "'x' in place of a whole number"),
        ("categories", [{"id": 3, "name": "a\nb"}], "text of one line"),
        ("annotations", [{"image_id": 1, "segments_info": []}], "panoptic"),
        ("annotations", [{"image_id": 1}], "KeyError"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    content = tree(thing(1, 1, 3, box(0, 0, 4, 4)))
    make(tmp_path, content)
    path = tmp_path / "annotations/instances_train2017.json"
    path.write_text(json.dumps(content | {key: value}))
    with pytest.raises(UserError, match=rf"instances_train2017\.json: .*{message}"):
        coco.read(tmp_path, VOID)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a": [1 2]}', '{"a": [1,]}', '{"a" 1}', '{1: 2}', '{"a": ' + "[" * 9000,
     '{"images": [' + "[" * 9000],
)  # fmt: skip
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    make(tmp_path, tree(thing(1, 1, 3, box(0, 0, 4, 4))))
    path = tmp_path / "annotations/instances_train2017.json"
    path.write_text(text + "\n" + " ".join(key.decode() for key in coco.KEYS))
    with pytest.raises(UserError, match=r"instances_train2017\.json: damaged"):
        coco.read(tmp_path, VOID)
    with pytest.raises((ValueError, RecursionError)):
        list(coco.elements(text))


def test_elements_are_where_they_are_said_to_be() -> None:
    text = ' { "a" : [ 1 , {"b": [2]} ] ,"c":{"d":[3]}, "e": [ ], "f":["x"] } '
    found = list(coco.elements(text))
    assert [(key, value) for key, _, value in found] == [("a", 1), ("a", {"b": [2]}), ("f", "x")]
    assert [json.loads(text[slice(*span)]) for _, span, _ in found] == [1, {"b": [2]}, "x"]


def test_the_background_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, tree(thing(1, 1, 3, box(0, 0, 4, 4))))
    with pytest.raises(UserError, match=r"--background void .* or --background NAME"):
        coco.read(tmp_path, NOTHING)
    with pytest.raises(UserError, match="no JSON file"):
        coco.read(tmp_path / "train2017", VOID)


def test_an_image_twice_is_refused(tmp_path: Path) -> None:
    content = tree(thing(1, 1, 3, box(0, 0, 4, 4)))
    make(tmp_path, content)
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "train2017/a.jpg").read_bytes())
    (tmp_path / "train").symlink_to(tmp_path / "train2017")
    assert len(by_id(coco.read(tmp_path, VOID).items)) == 2
    (tmp_path / "annotations/instances_train2017.json").write_text(
        json.dumps(content | {"images": [*content["images"], image(2, "a.jpg")]})
    )
    with pytest.raises(UserError, match="'train2017/a' is there twice"):
        coco.read(tmp_path, Options(background="ground"))


def test_categories_that_differ_are_refused(tmp_path: Path) -> None:
    content = tree(thing(1, 1, 3, box(0, 0, 4, 4)))
    make(tmp_path, content)
    make(tmp_path, content | {"categories": [{"id": 3, "name": "bus"}]}, "val2017")
    with pytest.raises(UserError, match="category 3 is 'bus', and 'car' in another"):
        coco.read(tmp_path, VOID)


def test_without_pycocotools_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match=r'pip install "lhs\[coco\]"'):
        coco.read(tmp_path, VOID)
