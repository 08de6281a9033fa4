"""The paper's numbers of common classes and of scene-name pairs, on the real SIFTFlow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lhs.context.extraction import sample_rows
from lhs.data import Dataset
from lhs.data.scenes import Scene
from lhs.hierarchy.classes import common_classes
from lhs.hierarchy.scene_names import from_scene_names

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_common_classes_and_pairs_are_as_many_as_the_paper_s(
    real_dataset: Callable[[str], Dataset],
) -> None:
    """Sections 3.1.1 and 4.2: 9, 11, 13 classes for rho = 0.90, 0.93, 0.95; 101 subclasses."""
    dataset = real_dataset("siftflow")
    train = dataset.split("train")

    def classes_of(scene: Scene) -> np.ndarray:
        rows = sample_rows(scene, 0, superpixel_size=300, seed=0, void=dataset.void)
        return np.bincount(rows.classes, minlength=len(dataset.classes))

    with ThreadPoolExecutor(2) as pool:
        counts = np.array(list(pool.map(classes_of, train)))
    found = [len(common_classes(counts.sum(axis=0), rho)) for rho in (0.90, 0.93, 0.95)]
    assert found == [9, 11, 13]
    names = dataset.scene_names
    by_scene = np.array(
        [counts[[scene.name == name for scene in train]].sum(axis=0) for name in names]
    )
    hierarchy = from_scene_names(
        dataset=dataset.name, classes=dataset.classes, scene_names=names, counts=by_scene, rho=0.93
    )
    assert len(hierarchy.subclasses) == 101
