"""Pseudo-labels: annotated pixels are kept, test scenes are unchanged."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.data.pseudo_labels import (
    PseudoLabelledScene,
    add_pseudo_labels,
    combined_map,
    pseudo_label_map,
)
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
    pseudo_labels = pseudo_label_map(label_map, predicted, VOID)
    combined = combined_map(label_map, pseudo_labels, VOID)
    assert combined.dtype == pseudo_labels.dtype == label_map.dtype
    for y, x in np.ndindex(label_map.shape):
        annotated = label_map[y, x] != VOID
        assert combined[y, x] == (label_map[y, x] if annotated else predicted[y, x])
        assert (pseudo_labels[y, x] == VOID) == annotated, "which is which can be read off"


def test_pseudo_labels_of_another_map_are_refused() -> None:
    label_map = np.array([[0, VOID]], np.uint16)
    with pytest.raises(ValueError, match="differ in size"):
        combined_map(label_map, np.array([[VOID], [1]], np.uint16), VOID)
    for wrong in ([[VOID, VOID]], [[1, 1]], [[1, VOID]]):
        with pytest.raises(ValueError, match="not those of the label map's"):
            combined_map(label_map, np.array(wrong, np.uint16), VOID)


def constant(value: int, labels: np.ndarray) -> np.ndarray:
    """Pseudo-labels of one class."""
    return np.where(labels < 0, value, 255).astype(np.uint8)


def test_a_dataset_with_pseudo_labels(tmp_path: Path) -> None:
    labels = stripes()
    labels[:6] = -1
    superparsing(tmp_path, ("a", "b"), ("t",))
    save_mat(tmp_path / "SemanticLabels/a.mat", labels)
    annotated = open_superparsing("lmsun", tmp_path, scene_names=False)
    readers = {"a": partial(constant, 1, labels)}
    dataset = add_pseudo_labels(annotated, readers)
    assert [scene.id for scene in dataset.scenes()] == ["a", "b", "t"]
    for name in ("b", "t"):
        assert dataset.scene(name) == annotated.scene(name), "nothing is unlabelled"
    assert dataset.fingerprint() == annotated.fingerprint()
    scene = pickle.loads(pickle.dumps(dataset.scene("a")))
    assert (scene.image() == annotated.scene("a").image()).all()
    assert (scene.label_map()[:6] == 1).all()
    assert (scene.label_map()[6:] == labels[6:]).all()
    assert scene.context_label_map() is None
    # To train only on what people labelled.
    scene = add_pseudo_labels(annotated, readers, train_on_pseudo_labels=False).scene("a")
    assert isinstance(scene, PseudoLabelledScene)
    assert (scene.label_map() == annotated.scene("a").label_map()).all()
    assert (scene.context_label_map() == dataset.scene("a").label_map()).all()
    save_mat(tmp_path / "SemanticLabels/a.mat", stripes())
    with pytest.raises(BadImageError, match=r"a: .*its label file was changed"):
        dataset.scene("a").label_map()


def test_a_test_scene_gets_no_pseudo_labels(tmp_path: Path) -> None:
    dataset = open_superparsing("lmsun", superparsing(tmp_path), scene_names=False)
    with pytest.raises(ValueError, match="street_t1, which is no training scene"):
        add_pseudo_labels(dataset, {"street_t1": partial(constant, 1, stripes())})
