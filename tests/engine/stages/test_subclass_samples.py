"""Samples of subclasses: what surrounds them, the nearest, random ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lhs.engine.stages.subclass_samples import SubclassSamples
from lhs.hierarchy.scene_names import from_scene_names

CLASSES = ["sky", "sea", "car"]


@pytest.fixture
def found() -> SubclassSamples:
    """Six samples of sky on the coast in four images, one of the rare class car."""
    hierarchy = from_scene_names(
        dataset="toy", classes=CLASSES, scene_names=["coast", "street"],
        counts=np.array([[6, 0, 0], [4, 0, 1]]), rho=0.9,
    )  # fmt: skip
    names = [subclass.name for subclass in hierarchy.subclasses]
    coast, car = names.index("coast+sky"), names.index("car")
    histograms = [[8, 2, 0], [8, 2, 0], [4, 1, 0], [0, 9, 1], [6, 4, 0], [5, 5, 0], [1, 0, 3]]
    return SubclassSamples(
        hierarchy, np.array(["a", "a", "b", "b", "c", "d", "d"]), np.zeros((7, 2), int),
        np.array([coast] * 6 + [car]), csr_array(np.array(histograms, float)),
    )  # fmt: skip


def test_shares_are_the_mean_histogram_of_the_samples(found: SubclassSamples) -> None:
    names = [subclass.name for subclass in found.hierarchy.subclasses]
    expected = np.mean([[0.8, 0.2, 0], [0.8, 0.2, 0], [0.8, 0.2, 0], [0, 0.9, 0.1],
                        [0.6, 0.4, 0], [0.5, 0.5, 0]], axis=0)  # fmt: skip
    assert found.shares[names.index("coast+sky")] == pytest.approx(expected)
    assert found.shares[names.index("car")] == pytest.approx([0.25, 0, 0.75])
    assert found.shares[names.index("street+sky")] == pytest.approx([0, 0, 0]), "none is here"


def test_the_nearest_come_first_and_images_before_they_repeat(found: SubclassSamples) -> None:
    subclass = int(found.subclasses[0])
    rows = found.histograms.toarray()[:6]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distances = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
    assert found.distances[:6] == pytest.approx(distances, abs=1e-6)
    nearest = found.nearest(subclass, 4)
    assert sorted(found.images[nearest]) == ["a", "b", "c", "d"]
    assert distances[nearest].tolist() == sorted(distances[nearest])
    assert nearest[0] == distances.argmin()
    assert len(found.nearest(subclass, 9)) == 6


def test_random_ones_are_others(found: SubclassSamples) -> None:
    subclass = int(found.subclasses[0])
    nearest = found.nearest(subclass, 4)
    others = found.random(subclass, 4, nearest)
    assert set(others) == set(range(6)) - set(nearest.tolist())
    np.testing.assert_array_equal(others, found.random(subclass, 4, nearest))
