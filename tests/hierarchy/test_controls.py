"""Hierarchies without context: the classes alone, and random subclasses of connected regions."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.controls import from_classes, from_random
from lhs.hierarchy.document import digest_of
from lhs.hierarchy.regions import draw_subclasses, region_numbers

from .test_hierarchy import CLASSES, cluster_hierarchy, scene_hierarchy

VOID = 255
COUNTS = np.array([50, 40, 30, 0, 4])
maps = npst.arrays(
    np.uint8, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 1, 2, 4, VOID]),
)  # fmt: skip


def random_hierarchy(seed: int = 0) -> Hierarchy:
    """Of 3, 2 and 1 subclasses of the first three classes."""
    return from_random(cluster_hierarchy(), seed=seed)


def classes_hierarchy() -> Hierarchy:
    return from_classes(dataset="toy", classes=CLASSES, counts=COUNTS)


# The classes alone


def test_the_classes_are_their_own_subclasses():
    hierarchy = classes_hierarchy()
    np.testing.assert_array_equal(hierarchy.matrix(), np.eye(5))
    assert [subclass.name for subclass in hierarchy.subclasses] == list(CLASSES)
    assert [subclass.count for subclass in hierarchy.subclasses] == COUNTS.tolist()
    assert not len(hierarchy.common)
    label_map = np.array([[0, 1, VOID], [4, 3, 2]], np.uint8)
    np.testing.assert_array_equal(hierarchy.relabel(label_map), label_map)
    np.testing.assert_array_equal(hierarchy.subclass_of(np.array([4, 0])), [4, 0])


def test_above_255_classes_void_stays_void():
    names = [str(number) for number in range(300)]
    hierarchy = from_classes(dataset="many", classes=names, counts=np.ones(300))
    found = hierarchy.relabel(np.array([[299, 65535]], np.uint16))
    assert found.tolist() == [[299, hierarchy.void_subclass]]


# Regions


def naive_numbers(mask: np.ndarray) -> np.ndarray:
    """scipy's regions, numbered by their first pixels."""
    regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
    first = [np.flatnonzero(regions.ravel() == number)[0] for number in range(1, count + 1)]
    numbers = np.full(mask.shape, -1)
    for place, number in enumerate(np.argsort(first)):
        numbers[regions == number + 1] = place
    return numbers


@settings(max_examples=100)
@given(npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=15)))
def test_regions_are_scipy_s_in_the_order_of_their_first_pixels(mask):
    numbers = region_numbers(mask)
    assert numbers.dtype == np.int32
    np.testing.assert_array_equal(numbers, naive_numbers(mask))


def test_regions_of_a_larger_mask():
    mask = np.random.default_rng(0).random((120, 150)) < 0.35
    np.testing.assert_array_equal(region_numbers(mask), naive_numbers(mask))


# Draws


def test_numbers_and_shares_are_those_of_the_other_hierarchy():
    for like in (cluster_hierarchy(), scene_hierarchy()):
        made = from_random(like, seed=3)
        np.testing.assert_array_equal(made.parents, like.parents)
        np.testing.assert_array_equal(made.matrix(), like.matrix())
        np.testing.assert_array_equal(made.common, like.common)
        assert [s.count for s in made.subclasses] == [s.count for s in like.subclasses]
        assert all(s.centre is None and s.scene is None for s in made.subclasses)
        assert (made.made["like"], made.made["like_digest"]) == (like.kind, like.digest)
        assert made.digest != from_random(like, seed=4).digest


def test_regions_draw_in_proportion_to_the_shares():
    """10,000 pixels, each a region of its own: a share's standard deviation is known."""
    hierarchy = random_hierarchy()
    label_map = np.full((200, 200), VOID, np.uint8)
    label_map[::2, ::2] = 0
    found = hierarchy.relabel(label_map, image_id="a")[::2, ::2].ravel()
    counts = np.array([s.count for s in hierarchy.subclasses if s.parent == 0])
    shares = counts / counts.sum()
    drawn = np.bincount(found, minlength=len(counts)) / len(found)
    assert len(drawn) == len(counts) == 3
    assert (np.abs(drawn - shares) < 4 * np.sqrt(shares * (1 - shares) / len(found))).all()


def test_uneven_and_empty_shares():
    regions = np.arange(20_000)
    drawn = draw_subclasses(np.array([0, 9, 0, 1, 0]), regions, seed=0, image_id="a", label=2)
    share = (drawn == 1).mean()
    assert set(drawn.tolist()) == {1, 3}
    assert abs(share - 0.9) < 4 * np.sqrt(0.09 / len(regions))


@settings(max_examples=100)
@given(maps)
def test_a_region_has_one_subclass_and_samples_have_their_pixels(label_map):
    hierarchy = random_hierarchy()
    found = hierarchy.relabel(label_map, image_id="a")
    labelled = label_map != VOID
    assert (found[~labelled] == hierarchy.void_subclass).all()
    np.testing.assert_array_equal(hierarchy.parents[found[labelled]], label_map[labelled])
    for label in np.unique(label_map[labelled]):
        numbers = naive_numbers(label_map == label)
        for number in range(numbers.max() + 1):
            assert len(np.unique(found[numbers == number])) == 1
        ys, xs = np.nonzero(label_map == label)
        samples = hierarchy.subclass_of(
            np.full(len(ys), label), image_id="a", regions=numbers[ys, xs]
        )
        np.testing.assert_array_equal(samples, found[ys, xs])
        one = hierarchy.subclass_of([label], image_id="a", regions=numbers[ys[:1], xs[:1]])
        assert one.tolist() == [found[ys[0], xs[0]]]


def test_samples_of_several_classes():
    hierarchy = random_hierarchy()
    label_map = np.random.default_rng(1).choice([0, 1, 2, 4], (30, 40)).astype(np.uint8)
    regions = np.select(
        [label_map == label for label in (0, 1, 2, 4)],
        [region_numbers(label_map == label) for label in (0, 1, 2, 4)],
    )
    found = hierarchy.subclass_of(label_map.ravel(), image_id="b", regions=regions.ravel())
    np.testing.assert_array_equal(
        found.reshape(label_map.shape), hierarchy.relabel(label_map, image_id="b")
    )


def test_draws_depend_on_seed_image_and_class_alone():
    label_map = np.full((40, 40), VOID, np.uint8)
    label_map[::2, ::2] = 0
    found = random_hierarchy().relabel(label_map, image_id="a")
    np.testing.assert_array_equal(random_hierarchy().relabel(label_map, image_id="a"), found)
    assert (random_hierarchy(1).relabel(label_map, image_id="a") != found).any()
    assert (random_hierarchy().relabel(label_map, image_id="b") != found).any()
    counts, regions = np.ones(2), np.arange(64)
    drawn = [
        draw_subclasses(counts, regions, seed=0, image_id="a", label=label) for label in (0, 1)
    ]
    assert (drawn[0] != drawn[1]).any()
    # Other classes, and regions that come later, change nothing.
    label_map[1::2, 1::2] = 4
    label_map[20:] = VOID
    above = random_hierarchy().relabel(label_map, image_id="a")[:20]
    np.testing.assert_array_equal(above[::2, ::2], found[:20:2, ::2])


def test_regions_are_those_of_the_context_label_map():
    """Two pieces that an unlabelled stripe parts are one region of the completed map."""
    hierarchy = random_hierarchy()
    whole = np.zeros((9, 60), np.uint8)
    annotated = whole.copy()
    annotated[:, 1::2] = VOID
    found = hierarchy.relabel(annotated, context_label_map=whole, image_id="a")
    assert len(np.unique(found[:, ::2])) == 1
    assert (found[:, 1::2] == hierarchy.void_subclass).all()
    assert len(np.unique(hierarchy.relabel(annotated, image_id="a")[:, ::2])) == 3


def test_what_is_missing_is_said():
    hierarchy = random_hierarchy()
    with pytest.raises(UserError, match="needs the image's id"):
        hierarchy.relabel(np.zeros((2, 2), np.uint8))
    for given_ones in ({}, {"image_id": "a"}, {"regions": np.zeros(1, int)}):
        with pytest.raises(UserError, match="image id and regions"):
            hierarchy.subclass_of([0], **given_ones)


# Files


@pytest.mark.parametrize("make", [classes_hierarchy, random_hierarchy])
def test_saved_and_loaded_it_is_the_same(make, tmp_path):
    hierarchy, path = make(), tmp_path / "h.json"
    hierarchy.save(path)
    read = Hierarchy.load(path)
    assert (read.digest, read.made) == (hierarchy.digest, hierarchy.made)
    label_map = np.random.default_rng(0).choice([0, 1, 2, VOID], (30, 30)).astype(np.uint8)
    np.testing.assert_array_equal(
        read.relabel(label_map, image_id="a"), hierarchy.relabel(label_map, image_id="a")
    )


@pytest.mark.parametrize(
    ("make", "where", "value", "message"),
    [
        (classes_hierarchy, ("made", "common_classes"), [0], "none is common"),
        (classes_hierarchy, ("subclasses", 0, "scene"), "coast", "subclasses.0.scene"),
        (random_hierarchy, ("made", "rho"), None, "made.rho is missing"),
        (random_hierarchy, ("made", "seed"), None, "made.seed is missing"),
        (random_hierarchy, ("made", "like"), None, "made.like is missing"),
        (random_hierarchy, ("made", "like"), "random", "made.like"),
        (random_hierarchy, ("made", "like_digest"), "abc", "made.like_digest"),
        (random_hierarchy, ("subclasses", 0, "centre"), [0.1] * 5, "subclasses.0.centre"),
        (random_hierarchy, ("subclasses", 5, "count"), 0, "class 2 have no samples"),
        (scene_hierarchy, ("made", "rho"), None, "made.rho is missing"),
        (cluster_hierarchy, ("made", "kind"), "random", "centre"),
        (scene_hierarchy, ("made", "kind"), "classes", "scene"),
    ],
)
def test_files_that_contradict_themselves_are_refused(make, where, value, message, tmp_path):
    path = tmp_path / "h.json"
    make().save(path)
    content = json.loads(path.read_text())
    node = content
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    content.pop("digest")
    path.write_text(json.dumps({**content, "digest": digest_of(content)}))
    with pytest.raises(UserError, match=message):
        Hierarchy.load(path)


def test_digests_of_files_of_other_kinds_are_what_they_were():
    """Written down from before there were controls: stored files and models stay in use."""
    assert scene_hierarchy().digest[:16] == "37f257f6a2a0cff7"
    assert cluster_hierarchy().digest[:16] == "ad26455e0c5b6326"
