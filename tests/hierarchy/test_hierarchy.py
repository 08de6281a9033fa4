"""The Hierarchy: how it is assembled, and what it gives each pixel, found pixel by pixel."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.context.histograms import label_histograms
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.clustering import ClassClusters, Trial
from lhs.hierarchy.label_clusters import from_label_clusters
from lhs.hierarchy.scene_names import from_scene_names

CLASSES = ("sky", "sea", "tree", "moon", "cow")
SCENE_COUNTS = np.array([[50, 40, 0, 0, 2], [30, 0, 45, 0, 1], [0, 0, 9, 0, 1]])


def scene_hierarchy() -> Hierarchy:
    return from_scene_names(
        dataset="toy",
        classes=CLASSES,
        scene_names=("coast", "forest", "street"),
        counts=SCENE_COUNTS,
        rho=0.95,
    )


def clusters_of(centres: np.ndarray, samples: int) -> ClassClusters:
    sizes = np.full(len(centres), samples // len(centres))
    sizes[0] += samples - sizes.sum()
    return ClassClusters(
        centres=centres.astype(np.float32),
        labels=np.arange(len(centres)).repeat(sizes).astype(np.int32),
        sizes=sizes,
        count=max(2, len(centres)),
        trace=[Trial(2, 7, True, int(sizes.min()))],
        fitted_on=samples,
        iterations=7,
        converged=True,
    )


def cluster_hierarchy(region: float = 3, clusters=(3, 2, 1), seed: int = 0) -> Hierarchy:
    rng = np.random.default_rng(seed)
    counts = np.array([80, 54, 40, 0, 4])
    found = {}
    for label, number in enumerate(clusters):
        centres = rng.random((number, len(CLASSES)))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        found[label] = clusters_of(centres, int(counts[label]))
    return from_label_clusters(
        dataset="toy",
        classes=CLASSES,
        counts=counts,
        clusters=found,
        rho=0.95,
        region=region,
        k_scale=1.0,
        n_star="largest_rare",
        seed=0,
        backend="sklearn",
    )


def test_scene_names_make_only_pairs_that_occur():
    hierarchy = scene_hierarchy()
    assert [(s.name, s.parent, s.count) for s in hierarchy.subclasses] == [
        ("coast+sky", 0, 50),
        ("forest+sky", 0, 30),
        ("coast+sea", 1, 40),
        ("forest+tree", 2, 45),
        ("street+tree", 2, 9),
        ("moon", 3, 0),
        ("cow", 4, 4),
    ]
    assert hierarchy.common.tolist() == [0, 2, 1]
    assert hierarchy.parents.tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert hierarchy.void == 255


def test_clusters_are_numbered_and_rare_classes_keep_their_name():
    hierarchy = cluster_hierarchy()
    names = [subclass.name for subclass in hierarchy.subclasses]
    assert names == ["sky/1", "sky/2", "sky/3", "sea/1", "sea/2", "tree/1", "moon", "cow"]
    assert sum(subclass.count for subclass in hierarchy.subclasses) == 178
    assert hierarchy.made["min_size"] == 4
    assert hierarchy.made["region"] == 3
    assert cluster_hierarchy(math.inf).made["region"] == "inf"


@pytest.mark.parametrize("make", [scene_hierarchy, cluster_hierarchy])
def test_the_matrix_has_one_class_for_each_subclass(make):
    hierarchy = make()
    matrix = hierarchy.matrix()
    assert matrix.shape == (5, len(hierarchy.subclasses))
    assert matrix.dtype == np.float32
    assert set(np.unique(matrix)) == {0, 1}
    assert (matrix.sum(axis=0) == 1).all()
    assert (matrix.sum(axis=1) >= 1).all()
    np.testing.assert_array_equal(matrix.argmax(axis=0), hierarchy.parents)


def test_clusters_of_other_classes_than_the_common_are_refused():
    found = {0: clusters_of(np.eye(2, 5), 80)}
    with pytest.raises(ValueError, match="common"):
        from_label_clusters(
            dataset="toy", classes=CLASSES, counts=np.array([80, 54, 40, 0, 4]), clusters=found,
            rho=0.95, region=3, k_scale=1.0, n_star=0, seed=0, backend="sklearn",
        )  # fmt: skip


def pixel_by_pixel(hierarchy: Hierarchy, label_map: np.ndarray, region: float) -> np.ndarray:
    """Squared distances of every labelled pixel to every subclass of its class, inf elsewhere."""
    distances = np.full((*label_map.shape, len(hierarchy.subclasses)), np.inf)
    for y, x in np.argwhere(label_map != 255):
        half = max(label_map.shape) if math.isinf(region) else int(region) // 2
        window = label_map[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        counts = np.bincount(window[window != 255], minlength=len(CLASSES))
        for number, subclass in enumerate(hierarchy.subclasses):
            if subclass.parent == label_map[y, x]:
                centre = np.zeros(5) if subclass.centre is None else subclass.centre
                difference = counts / np.linalg.norm(counts) - centre
                distances[y, x, number] = (difference**2).sum()
    return distances


LABEL_MAPS = npst.arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 3, 4, 255]),
)


@settings(deadline=None, max_examples=60)
@given(LABEL_MAPS, st.sampled_from([1, 3, 7, 33, math.inf]), st.integers(0, 20))
def test_relabeling_takes_the_nearest_centre_of_the_pixels_class(label_map, region, seed):
    hierarchy = cluster_hierarchy(region, seed=seed)
    subclass_map = hierarchy.relabel(label_map)
    assert subclass_map.dtype == np.uint8
    assert subclass_map.shape == label_map.shape
    labelled = label_map != 255
    assert (subclass_map[~labelled] == hierarchy.void_subclass).all()
    np.testing.assert_array_equal(hierarchy.parents[subclass_map[labelled]], label_map[labelled])
    distances = pixel_by_pixel(hierarchy, label_map, region)[labelled]
    chosen = distances[np.arange(len(distances)), subclass_map[labelled]]
    # Within the float32 of the histograms; nearly always it is the very argmin.
    np.testing.assert_allclose(chosen, distances.min(axis=1, initial=np.inf), atol=1e-6)


def test_windows_may_be_counted_in_another_map():
    rng = np.random.default_rng(1)
    hierarchy = cluster_hierarchy(5)
    around = rng.integers(0, 5, (12, 14)).astype(np.uint8)
    label_map = np.where(rng.random(around.shape) < 0.5, around, 255).astype(np.uint8)
    subclass_map = hierarchy.relabel(label_map, context_label_map=around)
    labelled = label_map != 255
    assert (subclass_map[~labelled] == hierarchy.void_subclass).all()
    np.testing.assert_array_equal(subclass_map[labelled], hierarchy.relabel(around)[labelled])
    assert (subclass_map[labelled] != hierarchy.relabel(label_map)[labelled]).any()


@pytest.mark.thorough
@settings(deadline=None, max_examples=30)
@given(LABEL_MAPS, st.integers(0, 20))
def test_samples_and_pixels_get_the_same_subclass(label_map, seed):
    hierarchy = cluster_hierarchy(5, seed=seed)
    centres = np.argwhere(label_map != 255)
    classes = label_map[label_map != 255]
    counts = label_histograms(label_map, centres, 5, 5, 255)
    found = hierarchy.subclass_of(classes, counts)
    np.testing.assert_array_equal(found, hierarchy.relabel(label_map)[label_map != 255])


def test_relabeling_by_scene_name():
    hierarchy = scene_hierarchy()
    label_map = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    assert hierarchy.relabel(label_map, "coast").tolist() == [[0, 2, 3], [5, 6, 255]]
    assert hierarchy.relabel(label_map, "forest").tolist() == [[1, 2, 3], [5, 6, 255]]
    # street has no sky and no sea, and nobody has seen a desert: the most frequent subclass
    assert hierarchy.relabel(label_map, "street").tolist() == [[0, 2, 4], [5, 6, 255]]
    assert hierarchy.relabel(label_map, "desert").tolist() == [[0, 2, 3], [5, 6, 255]]
    found = hierarchy.subclass_of([0, 0, 2, 4], scene_names=["coast", "forest", "street", "x"])
    assert found.tolist() == [0, 1, 4, 6]
    assert hierarchy.subclass_of([], scene_names=[]).tolist() == []


def test_what_relabeling_needs_and_lacks_is_reported():
    with pytest.raises(UserError, match="needs the image's scene name"):
        scene_hierarchy().relabel(np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match="needs the samples' scene names"):
        scene_hierarchy().subclass_of(np.zeros(2, int))
    with pytest.raises(UserError, match="needs the samples' histograms"):
        cluster_hierarchy().subclass_of(np.zeros(2, int))
    with pytest.raises(UserError, match="found id 5"):
        cluster_hierarchy().relabel(np.full((2, 2), 5, np.uint8))


def test_more_than_255_subclasses_take_16_bits():
    hierarchy = from_scene_names(
        dataset="many",
        classes=CLASSES,
        scene_names=[f"scene {number}" for number in range(60)],
        counts=np.ones((60, 5), int),
        rho=1.0,
    )
    assert len(hierarchy.subclasses) == 300
    assert hierarchy.void_subclass == 65535
    found = hierarchy.relabel(np.array([[4, 255]], np.uint8), "scene 59")
    assert found.dtype == np.uint16
    assert found.tolist() == [[299, 65535]]


def test_many_classes_have_their_own_void():
    names = [f"class {number}" for number in range(300)]
    hierarchy = from_scene_names(
        dataset="many", classes=names, scene_names=["x"], counts=np.ones((1, 300)), rho=0.5
    )
    assert hierarchy.void == 65535
    found = hierarchy.relabel(np.array([[299, 255, 65535]], np.uint16), "x")
    assert found.tolist() == [[299, 255, 65535]]


def test_the_digest_tells_hierarchies_apart():
    assert cluster_hierarchy().digest == cluster_hierarchy().digest
    others = [cluster_hierarchy(5), cluster_hierarchy(clusters=(2, 2, 1)), scene_hierarchy()]
    others += [cluster_hierarchy(seed=1), cluster_hierarchy(math.inf), cluster_hierarchy()]
    assert len({hierarchy.digest for hierarchy in others}) == 6


def test_it_travels_between_processes():
    hierarchy = cluster_hierarchy()
    label_map = np.random.default_rng(0).integers(0, 5, (20, 20)).astype(np.uint8)
    copy = pickle.loads(pickle.dumps(hierarchy))
    assert copy.digest == hierarchy.digest
    np.testing.assert_array_equal(copy.relabel(label_map), hierarchy.relabel(label_map))
