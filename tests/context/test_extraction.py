"""Rows of one image variant, put together again from the pieces they are made of."""

import dataclasses
import math

import numpy as np
import pytest

from lhs.context.extraction import histogram_rows, sample_rows
from lhs.context.superpixels import segment
from lhs.data.augmentation import variant
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene
from lhs.errors import BadImageError

CLASSES = ("sky", "sea", "sand", "rock")
VOID = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beach(Scene):
    seed: int = 0
    all_void: bool = False
    label_size: tuple[int, int] = (64, 80)

    def image(self):
        rng = np.random.default_rng(self.seed)
        small = rng.integers(0, 256, (8, 10, 3))
        noise = rng.integers(-10, 11, (64, 80, 3))
        return np.clip(np.kron(small, np.ones((8, 8, 1))) + noise, 0, 255).astype(np.uint8)

    def label_map(self):
        if self.all_void:
            return np.full(self.label_size, VOID, np.uint8)
        rng = np.random.default_rng(self.seed + 1)
        small = rng.choice([0, 1, 2, 3, VOID], (8, 10), p=[0.3, 0.3, 0.2, 0.1, 0.1])
        whole = np.kron(small, np.ones((8, 8), int)).astype(np.uint8)
        return whole[: self.label_size[0], : self.label_size[1]]


def beach(**changes) -> Beach:
    return Beach(id="beach_1", split="train", num_classes=4, **changes)


def rows_of(scene: Scene, number: int, seed: int = 3):
    return sample_rows(scene, number, superpixel_size=40, seed=seed, void=VOID)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_samples_are_the_labelled_superpixels_of_the_variant(number):
    scene = beach()
    image, label_map = variant(
        scene.image(), scene.label_map(), seed=3, image_id="beach_1", number=number, void=VOID
    )
    superpixels = segment(image, mean_size=40)
    rows = rows_of(scene, number)
    assert len(rows.centres) == len(rows.classes) == len(rows.sizes) > 20
    assert rows.centres.dtype == np.int32
    assert (rows.classes != VOID).all()
    seen = set()
    for (y, x), label, size in zip(*rows, strict=True):
        assert label_map[y, x] == label
        own = np.argwhere(superpixels == superpixels[y, x])
        assert len(own) == size
        distances = ((own - own.mean(axis=0)) ** 2).sum(axis=1)
        here = ((np.array([y, x]) - own.mean(axis=0)) ** 2).sum()
        assert here == pytest.approx(distances.min())
        seen.add(int(superpixels[y, x]))
    assert len(seen) == len(rows.centres), "one sample per superpixel"
    # A superpixel that gave no sample has no labelled centre: it touches void.
    for missing in set(range(superpixels.max() + 1)) - seen:
        assert (label_map[superpixels == missing] == VOID).any()


def test_rows_repeat_and_variants_differ():
    first, again = rows_of(beach(), 2), rows_of(beach(), 2)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first.centres, rows_of(beach(), 3).centres)
    assert not np.array_equal(first.centres, rows_of(beach(), 2, seed=4).centres)


def test_an_all_void_image_gives_no_rows():
    scene = beach(all_void=True)
    for number in (0, 2):
        rows = rows_of(scene, number)
        assert rows.centres.shape == (0, 2)
        assert rows.classes.shape == rows.sizes.shape == (0,)
        dataset = Dataset("beach", CLASSES, [scene])
        counts = histogram_rows(dataset, scene, number, rows.centres, region=9, seed=3)
        assert counts.shape == (0, 4)


@pytest.mark.thorough
@pytest.mark.parametrize("region", [1, 9, 129, math.inf])
@pytest.mark.parametrize("number", [0, 3])
def test_histograms_count_the_window_around_each_sample(region, number):
    scene = beach()
    dataset = Dataset("beach", CLASSES, [scene])
    rows = rows_of(scene, number)
    counts = histogram_rows(dataset, scene, number, rows.centres, region=region, seed=3)
    _, label_map = variant(
        scene.image(), scene.label_map(), seed=3, image_id="beach_1", number=number, void=VOID
    )
    reach = 1000 if region == math.inf else int(region) // 2
    assert counts.shape == (len(rows.centres), 4)
    for (y, x), label, row in zip(rows.centres, rows.classes, counts, strict=True):
        window = label_map[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        expected = [(window == number_).sum() for number_ in range(4)]
        assert row.tolist() == expected
        assert row[label] >= 1, "a sample sees itself"


def test_histograms_need_the_label_map_alone():
    class NoImage(Beach):
        def image(self):
            raise AssertionError("the image was read")

    scene = NoImage(id="beach_1", split="train", num_classes=4)
    dataset = Dataset("beach", CLASSES, [scene])
    centres = rows_of(beach(), 1).centres
    counts = histogram_rows(dataset, scene, 1, centres, region=9, seed=3)
    assert len(counts) == len(centres)


def test_a_label_map_of_another_size_is_a_bad_image():
    with pytest.raises(BadImageError, match="beach_1"):
        rows_of(beach(label_size=(64, 72)), 0)
