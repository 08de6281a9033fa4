"""Filled maps: annotated pixels stay, the two kinds stay apart, test scenes stay what they are."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.data.filling import FilledScene, fill_of, filled_map, with_fills
from lhs.data.superparsing import open_superparsing
from lhs.errors import BadImageError
from tests.data.builders import save_mat, stripes, superparsing

VOID = 65535
SIZE = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def maps_and_predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(SIZE)
    labels = draw(npst.arrays(np.uint16, size, elements=st.sampled_from([0, 1, 254, 300, VOID])))
    return labels, draw(npst.arrays(np.uint16, size, elements=st.integers(0, 300)))


@given(maps_and_predictions())
def test_what_people_labelled_stays_and_the_rest_is_the_model_s(
    given_: tuple[np.ndarray, np.ndarray],
) -> None:
    label_map, predicted = given_
    fill = fill_of(label_map, predicted, VOID)
    filled = filled_map(label_map, fill, VOID)
    assert filled.dtype == fill.dtype == label_map.dtype
    for y, x in np.ndindex(label_map.shape):
        annotated = label_map[y, x] != VOID
        assert filled[y, x] == (label_map[y, x] if annotated else predicted[y, x])
        assert (fill[y, x] == VOID) == annotated, "which is which can be read off"


def test_a_fill_of_another_map_is_refused() -> None:
    label_map = np.array([[0, VOID]], np.uint16)
    with pytest.raises(ValueError, match="differ in size"):
        filled_map(label_map, np.array([[VOID], [1]], np.uint16), VOID)
    for fill in ([[VOID, VOID]], [[1, 1]], [[1, VOID]]):
        with pytest.raises(ValueError, match="not that of the label map's"):
            filled_map(label_map, np.array(fill, np.uint16), VOID)


def constant(value: int, labels: np.ndarray) -> np.ndarray:
    """A fill of one class."""
    return np.where(labels < 0, value, 255).astype(np.uint8)


def test_a_dataset_with_fills(tmp_path: Path) -> None:
    labels = stripes()
    labels[:6] = -1
    superparsing(tmp_path, ("a", "b"), ("t",))
    save_mat(tmp_path / "SemanticLabels/a.mat", labels)
    annotated = open_superparsing("lmsun", tmp_path, scene_names=False)
    fills = {"a": partial(constant, 1, labels)}
    dataset = with_fills(annotated, fills)
    assert [scene.id for scene in dataset.scenes()] == ["a", "b", "t"]
    for name in ("b", "t"):
        assert dataset.scene(name) == annotated.scene(name), "nothing to fill"
    assert dataset.fingerprint() == annotated.fingerprint()
    scene = pickle.loads(pickle.dumps(dataset.scene("a")))
    assert (scene.image() == annotated.scene("a").image()).all()
    assert (scene.label_map()[:6] == 1).all()
    assert (scene.label_map()[6:] == labels[6:]).all()
    assert scene.surroundings() is None
    # To train on what people labelled, among what the model saw.
    scene = with_fills(annotated, fills, trains_on_fill=False).scene("a")
    assert isinstance(scene, FilledScene)
    assert (scene.label_map() == annotated.scene("a").label_map()).all()
    assert (scene.surroundings() == dataset.scene("a").label_map()).all()
    save_mat(tmp_path / "SemanticLabels/a.mat", stripes())
    with pytest.raises(BadImageError, match=r"a: .*its label file was changed"):
        dataset.scene("a").label_map()


def test_a_test_scene_is_never_filled(tmp_path: Path) -> None:
    dataset = open_superparsing("lmsun", superparsing(tmp_path), scene_names=False)
    with pytest.raises(ValueError, match="street_t1, which is no training scene"):
        with_fills(dataset, {"street_t1": partial(constant, 1, stripes())})
