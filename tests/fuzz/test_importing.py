"""Datasets of every format and damage are read as label maps inside them, or refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.data.importing import coco, coco_stuff, cvat, hugging_face, labelme, matlab_masks
from lhs.data.importing.files import inside
from lhs.data.importing.found import Options
from lhs.errors import UserError
from tests.data.importing import (
    test_coco,
    test_coco_stuff,
    test_cvat,
    test_hugging_face,
    test_labelme,
    test_matlab_masks,
)
from tests.fuzz.guard import changed_tree, changes, edited, edits, ends_well, fuzzed

MEGABYTES = 100
within = st.sampled_from([200, 2000, 10**9])


def check(module: ModuleType, source: Path, options: Options) -> None:
    """What is found is inside the source and gives label maps, or is refused."""
    ends_well(lambda: module.recognise(source, options), MEGABYTES)
    found = ends_well(lambda: module.read(source, options), MEGABYTES)
    if found is None:
        return
    assert found.items
    for name in [*(found.names or {}).values(), found.why, *found.notes]:
        name.encode()
    for item in found.items[:20]:
        labels = ends_well(item.read, MEGABYTES)
        assert labels is None or (labels.dtype == np.int32 and labels.ndim == 2)
        if isinstance(item.image, Path):
            assert source.resolve() in item.image.resolve().parents
        else:
            content = ends_well(item.image, MEGABYTES)
            assert content is None or isinstance(content, bytes)


def damaged(path: Path, whole: bytes, damage: list, most: int = 10**9) -> None:
    path.write_bytes(edited(whole, damage, most))


def as_changed(whole: bytes, wanted: list) -> bytes:
    tree = json.loads(whole)
    for path, value, action in copy.deepcopy(wanted):
        changed_tree(tree, path, value, action)
    return json.dumps(tree).encode()


@pytest.fixture(scope="module")
def coco_file(place: Path) -> tuple[Path, bytes]:
    box, size = test_coco.box, [test_coco.HEIGHT, test_coco.WIDTH]
    things = [
        test_coco.thing(1, 1, 3, box(1, 1, 9, 9)),
        test_coco.thing(2, 1, 7, {"size": size, "counts": [20, 30, 142]}, crowd=1),
        test_coco.thing(3, 2, 7, {"size": size, "counts": "d0n0^4"}),
        test_coco.thing(4, 2, 3, [[1.5, 1, 9, 2.5, 3, 8, 1, 2], [4, 4, 5, 5, 6, 4]]),
    ]
    source = test_coco.make(place / "coco", test_coco.tree(*things, names=("a.jpg", "b.jpg")))
    path = source / "annotations/instances_train2017.json"
    assert len(coco.read(source, test_coco.VOID).items) == 2
    return path, path.read_bytes()


@fuzzed(60)
@given(edits, st.sampled_from(["void", "car", "new"]))
def test_damaged_coco(coco_file: tuple[Path, bytes], damage: list, background: str) -> None:
    path, whole = coco_file
    damaged(path, whole, damage)
    check(coco, path.parents[1], Options(background=background))


@pytest.mark.thorough
@fuzzed(60)
@given(changes, st.sampled_from(["void", "car", "new"]))
def test_changed_coco(coco_file: tuple[Path, bytes], wanted: list, background: str) -> None:
    path, whole = coco_file
    path.write_bytes(as_changed(whole, wanted))
    check(coco, path.parents[1], Options(background=background))


numbers = st.integers(-(2**40), 2**40) | st.floats() | st.integers(0, 20)


@fuzzed(60)
@given(
    st.lists(st.lists(numbers, max_size=10), max_size=3)
    | st.builds(
        lambda counts, size: {"counts": counts, "size": size},
        st.text(st.characters(min_codepoint=45, max_codepoint=115), max_size=20)
        | st.lists(numbers, max_size=8),
        st.sampled_from([[12, 16], [16, 12], [0, 0], "x"]),
    )
)
def test_any_outlines(coco_file: tuple[Path, bytes], outline: object) -> None:
    path, whole = coco_file
    tree = json.loads(whole)
    tree["annotations"][0]["segmentation"] = outline
    path.write_text(json.dumps(tree))
    check(coco, path.parents[1], test_coco.VOID)


@pytest.fixture(scope="module")
def labelme_file(place: Path) -> tuple[Path, bytes]:
    shape = test_labelme.shape
    (place / "labelme").mkdir()
    path = test_labelme.make(
        place / "labelme" / "a.json",
        shape("a", [[1, 1], [9, 2.5], [5, 8]]),
        shape("b", [[2, 2], [6, 7]], "rectangle"),
        shape("c", [[8, 6], [8, 9]], "circle"),
        shape("a", [[1, 1], [3, 3]], "mask", mask=test_labelme.EYE),
    )
    assert len(labelme.read(path.parent, test_labelme.VOID).items) == 1
    return path, path.read_bytes()


@fuzzed(60)
@given(edits)
def test_damaged_labelme(labelme_file: tuple[Path, bytes], damage: list) -> None:
    path, whole = labelme_file
    damaged(path, whole, damage)
    check(labelme, path.parent, Options(background="ground"))


@pytest.mark.thorough
@fuzzed(80)
@given(changes, st.booleans())
def test_changed_labelme(labelme_file: tuple[Path, bytes], wanted: list, inner: bool) -> None:
    path, whole = labelme_file
    if inner:
        whole = json.dumps(json.loads(whole) | {"imageData": test_labelme.EYE}).encode()
    path.write_bytes(as_changed(whole, wanted))
    check(labelme, path.parent, test_labelme.VOID)


@fuzzed(60)
@given(edits, st.sampled_from(["labelmap.txt", "ImageSets/Segmentation/default.txt",
                               "SegmentationClass/a.png"]))  # fmt: skip
def test_damaged_cvat(place: Path, damage: list, which: str) -> None:
    source = place / "cvat"
    if not source.exists():
        test_cvat.make(source)
    whole = (source / which).read_bytes()
    damaged(source / which, whole, damage)
    try:
        check(cvat, source, Options())
    finally:
        (source / which).write_bytes(whole)


@fuzzed(30)
@given(edits)
def test_damaged_coco_stuff(place: Path, damage: list) -> None:
    source = place / "stuff"
    if not source.exists():
        test_coco_stuff.make(source)
    path = source / "annotations/val2017/000000000139.png"
    whole = path.read_bytes()
    damaged(path, whole, damage)
    try:
        check(coco_stuff, source, Options())
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def tables(place: Path) -> list[tuple[Path, bytes]]:
    paths = []
    for kind in ("arrow", "hub"):
        test_hugging_face.splits(place / kind, kind)
    for plain in ("NONE", "SNAPPY"):
        path = place / plain / "train.parquet"
        path.parent.mkdir()
        test_hugging_face.pq.write_table(test_hugging_face.table(range(5)), path, compression=plain)
        paths.append(path)
    paths += [next(place.glob("arrow/validation/*.arrow")), *place.glob("hub/data/val*.parquet")]
    return [(path, path.read_bytes()) for path in paths]


@pytest.mark.thorough
@fuzzed(150)
@given(edits, st.integers(0, 3), within, st.booleans())
def test_damaged_tables(
    tables: list[tuple[Path, bytes]], damage: list, which: int, most: int, end: bool
) -> None:
    path, whole = tables[which]
    # What parquet says of itself is at its end.
    content = edited(whole[::-1], damage, most)[::-1] if end else edited(whole, damage, most)
    path.write_bytes(content)
    try:
        check(hugging_face, path.parents[which // 2], Options(columns=("image", "label")))
        check(hugging_face, path.parents[which // 2], Options())
    finally:
        path.write_bytes(whole)


@fuzzed(40)
@given(changes, st.sampled_from(["dataset_dict.json", "train/state.json"]))
def test_changed_states(place: Path, tables: list, wanted: list, which: str) -> None:
    path = place / "arrow" / which
    whole = path.read_bytes()
    path.write_bytes(as_changed(whole, wanted))
    try:
        check(hugging_face, place / "arrow", Options())
    finally:
        path.write_bytes(whole)


@fuzzed(60)
@given(edits, st.sampled_from([None, "S", "names"]), within)
def test_damaged_mat_files(place: Path, damage: list, variable: str | None, most: int) -> None:
    source = place / "mat"
    if not source.exists():
        test_matlab_masks.make(source)
    path = source / "masks/train/a.mat"
    whole = path.read_bytes()
    damaged(path, whole, damage, most)
    try:
        check(matlab_masks, source, Options(variable=variable))
    finally:
        path.write_bytes(whole)


parts = st.sampled_from(["..", ".", "", "a", "C:", "\\", "/", "\0", "é", "~"]) | st.text(max_size=6)


@fuzzed(100)
@given(st.lists(parts, max_size=6).map("/".join) | st.text())
def test_names_of_files_stay_inside(place: Path, name: str) -> None:
    try:
        path = inside(place, place / "a" / "b", name)
    except UserError as error:
        str(error).encode()
        return
    assert (str(path) + "/").startswith(f"{place}/")
    assert ".." not in path.parts
