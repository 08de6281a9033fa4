"""Superpixels: connected, without gaps, of the mean size asked for, on any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab
from skimage.measure import label as connected_components

from lhs.context import superpixels
from lhs.context.superpixels import segment
from lhs.data import open_dataset
from lhs.errors import UserError


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth regions with texture, the like of a scene."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 48 + 2, width // 48 + 2, 3))
    image = coarse.repeat(48, axis=0).repeat(48, axis=1)[:height, :width]
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def check_ids(superpixels: np.ndarray, shape: tuple[int, int]) -> int:
    assert superpixels.shape == shape
    assert superpixels.dtype == np.int32
    ids = np.unique(superpixels)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    return len(ids)


@pytest.mark.thorough
@pytest.mark.parametrize("mean_size", [30, 60, 150, 300, 301, 500, 700])
@pytest.mark.parametrize("shape", [(256, 256), (240, 320), (213, 320)])
def test_mean_size_is_met_on_textured_images(shape, mean_size):
    pixels = superpixels = 0
    for seed in range(3):
        image = textured(*shape, seed=seed)
        superpixels += check_ids(segment(image, mean_size), shape)
        pixels += image.shape[0] * image.shape[1]
    assert pixels / superpixels == pytest.approx(mean_size, rel=0.08)


def test_every_superpixel_is_one_connected_piece():
    superpixels = segment(textured(200, 300))
    assert connected_components(superpixels + 1, connectivity=1).max() == superpixels.max() + 1


def test_superpixels_follow_edges():
    image = np.zeros((120, 120, 3), np.uint8)
    image[:, 61:] = (250, 240, 20)
    superpixels = segment(image)
    left, right = set(np.unique(superpixels[:, :61])), set(np.unique(superpixels[:, 61:]))
    assert not left & right


def test_colours_are_compared_as_people_see_them(monkeypatch):
    """On the Lab image of RGB, against scikit-image's; 8 bits hold L * 2.55, a and b + 128."""
    seen = []
    slic = superpixels._slic
    monkeypatch.setattr(
        superpixels, "_slic", lambda lab, *more: (seen.append(lab), slic(lab, *more))[1]
    )
    image = textured(60, 90)
    segment(image)
    expected = rgb2lab(image) * (2.55, 1, 1) + (0, 128, 128)
    assert np.abs(seen[0] - expected).max() < 2


def test_the_same_image_gives_the_same_superpixels():
    image = textured(256, 256)
    first = segment(image)
    np.testing.assert_array_equal(first, segment(image.copy()))
    np.testing.assert_array_equal(first, segment(np.asfortranarray(image)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([4, 25, 300, 5000]))
def test_images_of_any_size(height, width, mean_size):
    image = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3))
    check_ids(segment(image.astype(np.uint8), mean_size), (height, width))


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (5, 600)])
def test_thin_images_are_cut_along_their_length(shape):
    superpixels = segment(np.zeros((*shape, 3), np.uint8))
    assert check_ids(superpixels, shape) == 10
    assert set(np.bincount(superpixels.ravel())) == {shape[0] * shape[1] // 10}


def test_an_image_smaller_than_a_superpixel_is_one():
    assert not segment(np.zeros((15, 15, 3), np.uint8)).any()


def test_a_flat_image_and_noise():
    flat = segment(np.full((256, 256, 3), 90, np.uint8))
    assert 65536 / check_ids(flat, (256, 256)) == pytest.approx(300, rel=0.15)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    assert 65536 / check_ids(segment(noise), (256, 256)) == pytest.approx(300, rel=0.2)


@pytest.mark.parametrize("mean_size", [0, -300, 3, float("nan")])
def test_a_mean_size_out_of_range_is_refused(mean_size):
    with pytest.raises(UserError, match="superpixel_size"):
        segment(np.zeros((50, 50, 3), np.uint8), mean_size)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((0, 50, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        segment(image)


@pytest.mark.real
@pytest.mark.parametrize(("dataset", "tolerance"), [("siftflow", 0.05), ("stanford", 0.05)])
def test_mean_size_on_real_images(real_data_root, dataset, tolerance):
    scenes = open_dataset(dataset, real_data_root).split("train")
    pixels = superpixels = 0
    for scene in scenes[:: len(scenes) // 100]:
        image = scene.image()
        pixels += image.shape[0] * image.shape[1]
        superpixels += int(segment(image).max()) + 1
    assert pixels / superpixels == pytest.approx(300, rel=tolerance)
