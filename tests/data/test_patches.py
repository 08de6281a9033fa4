"""Patches against slices of an array that was padded beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.data.patches import cut_patch


def from_padded(image: np.ndarray, centre: tuple[int, int], size: int) -> np.ndarray:
    reach = size // 2
    mean = np.array([np.round(image[..., c].mean()) for c in range(3)])
    height, width = image.shape[:2]
    padded = np.empty((height + 2 * reach, width + 2 * reach, 3), np.uint8)
    padded[:] = mean
    padded[reach : reach + height, reach : reach + width] = image
    y, x = centre
    return padded[y : y + size, x : x + size]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_patch_is_a_slice_of_the_padded_image(data):
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    seed = data.draw(st.integers(0, 1000))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    centre = (data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1)))
    size = 2 * data.draw(st.integers(0, 25)) + 1
    before = image.copy()
    patch = cut_patch(image, centre, size)
    assert patch.shape == (size, size, 3)
    assert patch.dtype == np.uint8
    np.testing.assert_array_equal(patch, from_padded(image, centre, size))
    np.testing.assert_array_equal(patch[size // 2, size // 2], image[centre])
    patch[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("centre", [(0, 0), (0, 99), (79, 0), (79, 99), (40, 50)])
def test_the_papers_size(centre):
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    np.testing.assert_array_equal(cut_patch(image, centre, 227), from_padded(image, centre, 227))


def test_centres_may_be_rows_of_an_array():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    centres = np.array([[3, 4], [29, 39]], np.int32)
    for centre in centres:
        expected = from_padded(image, tuple(centre.tolist()), 11)
        np.testing.assert_array_equal(cut_patch(image, centre, 11), expected)


def test_beyond_the_border_stands_the_image_own_mean():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (255, 10, 100)
    image[1] = (0, 30, 100)
    patch = cut_patch(image, (0, 0), 5)
    np.testing.assert_array_equal(patch[:2, :2], np.broadcast_to([128, 20, 100], (2, 2, 3)))
    np.testing.assert_array_equal(patch[2, 2], [255, 10, 100])
