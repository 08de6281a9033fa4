"""Samples: the pixel nearest each superpixel's centroid, found one by one as the truth."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.context.samples import superpixel_samples
from lhs.context.superpixels import segment


def centre_one_by_one(superpixels: np.ndarray, number: int) -> tuple[int, int]:
    pixels = np.argwhere(superpixels == number).tolist()
    y = Fraction(sum(p[0] for p in pixels), len(pixels))
    x = Fraction(sum(p[1] for p in pixels), len(pixels))
    return min(((p[0] - y) ** 2 + (p[1] - x) ** 2, p[0], p[1]) for p in pixels)[1:]


@settings(deadline=None)
@given(
    npst.arrays(
        np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 6)
    ),
    st.integers(0, 10_000),
)
def test_centres_and_classes_are_those_found_one_by_one(superpixels, seed):
    rng = np.random.default_rng(seed)
    label_map = rng.choice([0, 1, 2, 255], superpixels.shape).astype(np.uint8)
    expected = [centre_one_by_one(superpixels, number) for number in np.unique(superpixels)]
    expected = [(y, x) for y, x in expected if label_map[y, x] != 255]
    centres, classes = superpixel_samples(label_map, superpixels, 255)
    assert centres.dtype == np.int32
    assert centres.shape == (len(expected), 2)
    assert [tuple(centre) for centre in centres.tolist()] == expected
    assert classes.tolist() == [label_map[y, x] for y, x in expected]


def test_centres_of_slic_superpixels():
    image = np.random.default_rng(3).integers(0, 256, (90, 130, 3)).astype(np.uint8)
    superpixels = segment(image)
    label_map = np.zeros((90, 130), np.uint8)
    centres, _ = superpixel_samples(label_map, superpixels, 255)
    numbers = range(int(superpixels.max()) + 1)
    assert centres.tolist() == [list(centre_one_by_one(superpixels, i)) for i in numbers]


def test_a_ring_has_its_centre_on_itself():
    superpixels = np.zeros((5, 5), np.int32)
    superpixels[1:4, 1:4] = 1
    superpixels[2, 2] = 2
    centres, _ = superpixel_samples(np.zeros((5, 5), np.uint8), superpixels, 255)
    # Four border pixels and four ring pixels are equally near (2, 2): the first in reading order.
    assert centres.tolist() == [[0, 2], [1, 2], [2, 2]]


def test_the_dtype_of_many_classes_and_their_void():
    label_map = np.array([[300, 65535]], np.uint16)
    centres, classes = superpixel_samples(label_map, np.array([[0, 1]], np.int32), 65535)
    assert centres.tolist() == [[0, 0]]
    assert classes.dtype == np.uint16
    assert classes.tolist() == [300]


def test_an_all_void_map_gives_no_samples():
    label_map = np.full((4, 4), 255, np.uint8)
    centres, classes = superpixel_samples(label_map, np.zeros((4, 4), np.int32), 255)
    assert centres.shape == (0, 2)
    assert classes.shape == (0,)


def test_maps_of_different_size_are_refused():
    with pytest.raises(ValueError, match="differ"):
        superpixel_samples(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.int32), 255)
