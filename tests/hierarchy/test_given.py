"""A hierarchy that the user gives: its file, and maps of subclasses that another program made."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from lhs.config import HierarchyConfig
from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy, Subclass
from lhs.hierarchy.given import check_fits, given_hierarchy, given_sources, whole_map

from .test_hierarchy import CLASSES, cluster_hierarchy, scene_hierarchy

LABELS = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
FITS = np.array([[0, 1, 2], [2, 3, 255]], np.uint8)


def ruleless(tmp_path: Path, classes: tuple[str, ...] = ("sky", "sea", "sand")) -> Path:
    """The file of a hierarchy without a rule: two subclasses of the first class."""
    rows = [("clear", 0), ("cloudy", 0), *((name, k) for k, name in enumerate(classes) if k)]
    made = {
        "kind": "subclass_maps", "common_classes": [0], "class_counts": [2] * len(classes)
    }  # fmt: skip
    subclasses = tuple(Subclass(name, parent, 1) for name, parent in rows)
    path = tmp_path / "mine.json"
    Hierarchy("mine", classes, 255, subclasses, made).save(path)
    return path


def stored(tmp_path: Path, subclass_map: np.ndarray, name: str = "a/x") -> Path:
    path = tmp_path / "maps" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(subclass_map).save(path)
    return tmp_path / "maps"


def test_the_stored_map_is_the_subclass_map(tmp_path: Path) -> None:
    hierarchy = Hierarchy.load(ruleless(tmp_path), subclass_maps=stored(tmp_path, FITS))
    assert hierarchy.by_map
    found = hierarchy.relabel(LABELS, image_id="a/x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, FITS)
    np.testing.assert_array_equal(whole_map(hierarchy, "a/x", LABELS), FITS)
    # Fewer labels, as without pseudo-labels.
    fewer = np.where(LABELS == 1, 255, LABELS)
    np.testing.assert_array_equal(
        hierarchy.relabel(fewer, image_id="a/x"), np.where(fewer == 255, 255, FITS)
    )
    with pytest.raises(UserError, match="needs the image's id"):
        hierarchy.relabel(LABELS)
    with pytest.raises(UserError, match="no rule for samples"):
        hierarchy.subclass_of(np.array([0]))
    with pytest.raises(UserError, match="missing"):
        hierarchy.relabel(LABELS, image_id="b")
    with pytest.raises(UserError, match="no rule for pixels"):
        Hierarchy.load(ruleless(tmp_path)).relabel(LABELS, image_id="a/x")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 0), 2, r"subclass 2, of class 1, at a pixel of class 0 \(y 0, x 0\), and at 0"),
        ((0, 1), 7, "subclass id 7; allowed are 0 to 3, and 255"),
        ((1, 0), 255, r"no subclass at a pixel of class 1 \(y 1, x 0\)"),
        ((1, 2), 3, r"a subclass at an unlabelled pixel \(y 1, x 2\).*allowed there is 255"),
    ],
)
def test_maps_that_do_not_fit(
    tmp_path: Path, place: tuple[int, int], value: int, message: str
) -> None:
    wrong = FITS.copy()
    wrong[place] = value
    hierarchy = Hierarchy.load(ruleless(tmp_path), subclass_maps=stored(tmp_path, wrong))
    with pytest.raises(UserError, match=f"subclass map of a/x: {message}"):
        whole_map(hierarchy, "a/x", LABELS)


def test_maps_of_another_size(tmp_path: Path) -> None:
    hierarchy = Hierarchy.load(ruleless(tmp_path), subclass_maps=stored(tmp_path, FITS.T.copy()))
    with pytest.raises(UserError, match=r"it is 2 x 3 \(width x height\), its label map is 3 x 2"):
        whole_map(hierarchy, "a/x", LABELS)


def settings(**given: object) -> HierarchyConfig:
    return HierarchyConfig.model_validate({"kind": "file", **given})


def test_settings_that_belong_together() -> None:
    for wrong in ({"kind": "file"}, {"file": "h.json"}):
        with pytest.raises(ValidationError, match="go together"):
            HierarchyConfig.model_validate(wrong)
    with pytest.raises(ValidationError, match=r"needs hierarchy\.kind file"):
        HierarchyConfig.model_validate({"subclass_maps": "maps"})


def test_a_file_without_a_rule_needs_maps_and_others_need_none(tmp_path: Path) -> None:
    mine, maps = ruleless(tmp_path), stored(tmp_path, FITS)
    given = given_hierarchy(settings(file=str(mine), subclass_maps=str(maps)))
    np.testing.assert_array_equal(given.relabel(LABELS, image_id="a/x"), FITS)
    for missing in (None, str(tmp_path / "none")):
        with pytest.raises(UserError, match=re.escape(f"subclass_maps is {missing}")):
            given_hierarchy(settings(file=str(mine), subclass_maps=missing))
    cluster_hierarchy().save(tmp_path / "h.json")
    with pytest.raises(UserError, match=r"of kind label_clusters, .* leave the folder out"):
        given_hierarchy(settings(file=str(tmp_path / "h.json"), subclass_maps=str(maps)))
    with pytest.raises(UserError, match=r"none\.json: the hierarchy cannot be read"):
        given_hierarchy(settings(file=str(tmp_path / "none.json")))


def test_contents_are_in_the_key_and_paths_are_not(tmp_path: Path) -> None:
    def sources(folder: Path) -> dict[str, str]:
        given = settings(file=str(folder / "mine.json"), subclass_maps=str(folder / "maps"))
        return given_sources(given)

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ruleless(tmp_path / name)
        stored(tmp_path / name, FITS)
    first = sources(tmp_path / "one")
    assert sources(tmp_path / "two") == first
    changed = FITS.copy()
    changed[0, 0] = 1
    stored(tmp_path / "two", changed)
    second = sources(tmp_path / "two")
    assert (second["file"], second["subclass_maps"] == first["subclass_maps"]) == (
        first["file"], False,
    )  # fmt: skip
    assert given_sources(HierarchyConfig()) == {}


class Nameless(Scene):
    def image(self) -> np.ndarray:
        raise NotImplementedError

    def label_map(self) -> np.ndarray:
        raise NotImplementedError


def test_hierarchies_of_other_datasets(tmp_path: Path) -> None:
    scenes = [Nameless(id="a", split="train", num_classes=5)]
    check_fits(cluster_hierarchy(), "h.json", "toy", CLASSES, scenes)
    with pytest.raises(UserError, match=r"h\.json: made for 5 classes \(toy\); city has 2"):
        check_fits(cluster_hierarchy(), "h.json", "city", ("sky", "sea"), scenes)
    other = ("sky", "lake", "tree", "moon", "cow")
    with pytest.raises(UserError, match="class 1 is 'sea', that of city is 'lake'"):
        check_fits(cluster_hierarchy(), "h.json", "city", other, scenes)
    with pytest.raises(UserError, match="1 training images of toy have none, such as a"):
        check_fits(scene_hierarchy(), "h.json", "toy", CLASSES, scenes)
