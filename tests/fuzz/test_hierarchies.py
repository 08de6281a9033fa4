"""Hierarchy files of every kind and damage are a hierarchy that works, or refused."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.hierarchy import Hierarchy
from lhs.hierarchy.document import digest_of
from tests.fuzz.guard import changed_tree, changes, edited, edits, ends_well, fuzzed
from tests.hierarchy.test_controls import random_hierarchy
from tests.hierarchy.test_hierarchy import cluster_hierarchy, scene_hierarchy

MEGABYTES = 50
LABELS = np.random.default_rng(0).choice([0, 1, 2, 255], (12, 12)).astype(np.uint8)
which = st.sampled_from([0, 1, 2])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("made") / "h.json"
    contents = []
    for make in (scene_hierarchy, cluster_hierarchy, random_hierarchy):
        make().save(path)
        contents.append(path.read_bytes())
    return contents


def check(place: Path, data: bytes) -> None:
    path = place / "hierarchy.json"
    path.write_bytes(data)
    hierarchy = ends_well(lambda: Hierarchy.load(path), MEGABYTES)
    if hierarchy is not None:
        assert hierarchy.matrix().shape == (len(hierarchy.classes), len(hierarchy.subclasses))
        # A label that is no class, or a missing scene name, is the user's to mend.
        ends_well(lambda: hierarchy.relabel(LABELS, "coast", image_id="a"), MEGABYTES)


@fuzzed(50)
@given(which, edits)
def test_damaged_files(place: Path, files: list[bytes], number: int, damage: list) -> None:
    check(place, edited(files[number], damage))


@fuzzed(80)
@given(which, changes, st.booleans())
def test_changed_trees(
    place: Path, files: list[bytes], number: int, wanted: list, signed: bool
) -> None:
    tree = json.loads(files[number])
    for path, value, action in copy.deepcopy(wanted):
        changed_tree(tree, path, value, action)
    if signed:
        tree.pop("digest", None)
        # What can't be signed stays as it is.
        with contextlib.suppress(ValueError, TypeError):
            tree["digest"] = digest_of(tree)
    check(place, json.dumps(tree).encode())


@fuzzed(20)
@given(st.binary() | st.text(st.sampled_from('[]{}",:0123456789eE.-ntf\\u')).map(str.encode))
def test_any_bytes(place: Path, data: bytes) -> None:
    check(place, data)
