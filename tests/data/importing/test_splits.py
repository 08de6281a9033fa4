"""The splits of a source, or drawn ones: seeded, stratified, in groups."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lhs.data.importing.found import Item
from lhs.data.importing.splits import split_items
from lhs.errors import UserError


def items(*rows: tuple[str, str | None, str | None]) -> list[Item]:
    return [Item(id, Path(id), np.empty, split, scene) for id, split, scene in rows]


def many(count: int, scenes: int = 0) -> list[Item]:
    return items(*((f"{n:03}", None, f"s{n % scenes}" if scenes else None) for n in range(count)))


def split(found: list[Item], **options: object) -> tuple[dict[str, list[str]], list[str]]:
    given: dict = {"test": None, "seed": 0, "group": None} | options
    return split_items(found, [True] * len(found), **given)


def test_a_fifth_is_drawn_by_the_seed() -> None:
    splits, notes = split(many(50))
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 40, "test": 10}
    assert sorted(splits["train"] + splits["test"]) == [item.id for item in many(50)]
    assert split(many(50))[0] == splits
    assert split(many(50), seed=1)[0] != splits
    assert len(split(many(50), test=0.5)[0]["test"]) == 25
    assert "seed 0" in notes[0]


def test_scenes_have_their_share_in_both() -> None:
    found = many(60, scenes=3)
    splits, notes = split(found)
    scene = {item.id: item.scene for item in found}
    assert Counter(scene[id] for id in splits["test"]) == {"s0": 4, "s1": 4, "s2": 4}
    assert "stratified by scene" in notes[0]


def test_scenes_of_one_image_are_no_obstacle() -> None:
    found = [*many(40, scenes=2), *items(("x", None, "alone"), ("y", None, "alone too"))]
    splits, _ = split(found)
    assert sum(map(len, splits.values())) == 42
    assert len(splits["test"]) == 9
    alone = [*many(4, scenes=2), *items(("x", None, "alone"))]
    assert len(split(alone, test=0.4)[0]["test"]) == 2


def test_groups_stay_together() -> None:
    found = items(*((f"video{n % 7}_frame{n}", None, None) for n in range(70)))
    splits, notes = split(found, group=r"^(video\d+)_")
    sides = [{id.split("_")[0] for id in splits[name]} for name in ("train", "test")]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 2
    assert "by group" in notes[0]
    assert split(found, group=r"video\d+")[0] == splits


@pytest.mark.parametrize(
    ("group", "message"),
    [("(", "no regular expression"), ("nosuch", "finds nothing"), ("video", "one group")],
)
def test_groups_that_do_not_fit(group: str, message: str) -> None:
    with pytest.raises(UserError, match=f"--group .*{message}"):
        split(items(*((f"video{n}", None, None) for n in range(5))), group=group)


def test_those_of_the_source_stay() -> None:
    found = items(("a", "train", None), ("b", "val", None), ("c", "test", None), ("d", None, None))
    splits, notes = split(found)
    assert splits == {"train": ["a"], "val": ["b"], "test": ["c"]}
    assert notes == ["1 images are in no split; they are written, and no list names them"]
    for option, value in (("--test", 0.3), ("--group", "x")):
        with pytest.raises(UserError, match=f"{option} has no effect"):
            split(found, **{option[2:]: value})


def test_val_is_the_test_split_where_test_has_no_labels() -> None:
    found = items(("a", "train", None), ("b", "val", None), ("c", "test", None))
    splits, notes = split_items(found, [True, True, False], test=None, seed=0, group=None)
    assert splits == {"train": ["a"], "test": ["b"]}
    assert any("1 test images have no labels" in note for note in notes)
    assert any("val is the test split" in note for note in notes)
    assert split(found[:2])[0] == {"train": ["a"], "test": ["b"]}


def test_a_test_split_is_drawn_from_train_where_the_source_has_none() -> None:
    found = items(*((f"{n}", "train" if n < 10 else None, None) for n in range(12)))
    splits, notes = split(found)
    assert (len(splits["train"]), len(splits["test"])) == (8, 2)
    assert not {"10", "11"} & {*splits["train"], *splits["test"]}
    assert any("2 images are in no split" in note for note in notes)


def test_splits_that_leave_no_training_images() -> None:
    with pytest.raises(UserError, match="no training images"):
        split(items(("a", "test", None), ("b", "test", None)))
    with pytest.raises(UserError, match="needed are 2"):
        split(items(("a", None, None)))
