"""GIST: another program's numbers, and gratings whose scale, orientation and place are known."""

import warnings

import numpy as np
import pytest
import torch

from lhs.context.gist import gist, squared

SHAPE = (4, 8, 4, 4)
"""Scales, orientations, columns and rows of blocks."""


@pytest.fixture(scope="module")
def theirs():
    """torchgist's descriptor of a square image (256, 256, 3)."""
    with warnings.catch_warnings():
        # It silences all warnings when it is imported, and makes some when it runs.
        from torchgist.models import GIST

        warnings.simplefilter("ignore")
        network = GIST()

    def describe(image: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return network(torch.from_numpy(image).permute(2, 0, 1).float()).numpy()

    return describe


@pytest.mark.real
@pytest.mark.parametrize("name", ["stanford", "siftflow"])
def test_a_second_implementation_has_the_same_numbers_on_real_images(theirs, real_dataset, name):
    scenes = real_dataset(name).split("test")
    for scene in scenes[:: len(scenes) // 4]:
        image = scene.image()
        expected = theirs(squared(image))
        assert expected.max() > 0.05
        np.testing.assert_allclose(gist(image), expected, atol=1e-4, rtol=0)


def test_a_second_implementation_has_the_same_numbers_on_noise(theirs):
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    np.testing.assert_allclose(gist(image), theirs(image), atol=1e-4, rtol=0)


def grating(frequency: float, angle: float) -> np.ndarray:
    """(256, 256) 0..1 waves of so many cycles a pixel whose crests stand across `angle`."""
    y, x = np.mgrid[:256, :256]
    return 0.5 + 0.5 * np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)))


def picture(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("orientation", [0, 1, 4, 6])
def test_a_grating_answers_at_its_scale_and_orientation(scale, orientation):
    image = picture(grating(0.3 / 1.85**scale, -np.pi * orientation / 8))
    energy = gist(image).reshape(SHAPE).mean(axis=(2, 3))
    assert np.unravel_index(energy.argmax(), energy.shape) == (scale, orientation)


@pytest.mark.parametrize(("row", "column"), [(0, 3), (2, 1)])
def test_a_texture_answers_in_its_block(row, column):
    grey = np.full((256, 256), 0.5)
    block = np.s_[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
    grey[block] = grating(0.3, 0)[block]
    places = gist(picture(grey)).reshape(SHAPE)[0, 0]
    assert np.unravel_index(places.argmax(), places.shape) == (column, row)
    assert places[column, row] > 3 * np.median(places)


def test_brightness_and_size_do_not_count():
    dark = np.random.default_rng(1).integers(0, 100, (256, 256, 3)).astype(np.uint8)
    expected = gist(dark)
    np.testing.assert_allclose(gist(dark * 2 + 20), expected, atol=1e-4)
    np.testing.assert_allclose(gist(dark.repeat(2, axis=0).repeat(3, axis=1)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (300, 2), (240, 320)])
def test_any_size_gives_512_numbers_and_one_grey_value_none_above_0(shape):
    image = np.full((*shape, 3), 90, np.uint8)
    assert not gist(image).any()
    image[0, 0] = (80, 90, 100)  # another colour, as grey as the rest
    assert not gist(image).any()
    image[0, 0] = 255
    found = gist(image)
    assert (found.shape, found.dtype) == ((512,), np.float32)
    assert np.isfinite(found).all()
    assert found.min() >= 0


def test_the_image_is_left_as_it_is():
    image = np.random.default_rng(2).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    before = image.copy()
    gist(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3)),
     np.zeros((0, 5, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="uint8, found"):
        gist(image)
