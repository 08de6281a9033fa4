"""Orders of samples and patches around them, against a list kept in memory and plain slicing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.data.augmentation import variant
from lhs.data.scenes import Scene
from lhs.training.patches import Targets, cut_patches, joined, ordered_batches

CLASSES = np.array([0.7, 0.2, 0.1])


def rows(total: int) -> Targets:
    ids = np.arange(total)
    labels = np.random.default_rng(0).choice(3, total, p=CLASSES)
    return Targets(ids, ids // 7, ids % 6, ids % 40, ids % 50, labels, labels * 10)


def read_from(all_rows: Targets, asked=None):
    def read(start, stop):
        if asked is not None:
            asked.append((start, stop))
        return all_rows.take(slice(start, stop))

    return read


def ids_of(total, **more):
    options = {"batch_size": 4, "seed": 0, "epoch": 0, "window": 16} | more
    return [
        batch.ids.tolist() for batch in ordered_batches(read_from(rows(total)), total, **options)
    ]


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 90),
    batch_size=st.integers(1, 12),
    window=st.integers(1, 40),
    epoch=st.integers(0, 3),
)
def test_an_epoch_brings_every_row_at_most_once_in_whole_batches(total, batch_size, window, epoch):
    batches = ids_of(total, batch_size=batch_size, window=window, epoch=epoch)
    assert len(batches) == total // batch_size
    assert all(len(batch) == batch_size for batch in batches)
    seen = [number for batch in batches for number in batch]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(total))


@settings(max_examples=60, deadline=None)
@given(total=st.integers(8, 90), window=st.integers(1, 40), first=st.integers(0, 25))
def test_an_epoch_goes_on_from_any_batch(total, window, first):
    assert ids_of(total, window=window, first=first) == ids_of(total, window=window)[first:]


def test_seed_and_epoch_decide_the_order():
    first = ids_of(64)
    assert ids_of(64) == first
    assert ids_of(64, epoch=1) != first
    assert ids_of(64, seed=1) != first


def test_no_more_than_a_window_is_read_at_a_time():
    asked = []
    list(
        ordered_batches(read_from(rows(100), asked), 100, batch_size=8, seed=0, epoch=0, window=30)
    )
    assert sorted(asked) == [(0, 30), (30, 60), (60, 90), (90, 100)]


def test_columns_stay_together():
    total = 60
    whole = rows(total)
    for batch in ordered_batches(read_from(whole), total, batch_size=7, seed=3, epoch=1, window=16):
        for mine, theirs in zip(batch, whole.take(batch.ids), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_balanced_sampling_brings_all_classes_equally_often():
    total = 6000
    whole = rows(total)
    counts = np.bincount(whole.labels)
    drawn = np.concatenate(
        [
            batch.labels
            for batch in ordered_batches(
                read_from(whole), total, batch_size=10, seed=0, epoch=0, class_counts=counts,
                window=1000,
            )
        ]
    )  # fmt: skip
    share = np.bincount(drawn) / len(drawn)
    # Three standard deviations of a third of 6000 draws.
    np.testing.assert_allclose(share, 1 / 3, atol=3 * np.sqrt(2 / 9 / len(drawn)))


def test_joined_is_one_after_the_other():
    whole = rows(9)
    both = joined([whole.take(slice(0, 4)), whole.take(slice(4, None))])
    for mine, theirs in zip(both, whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(Scene):
    """A scene of noise that counts how often it is read."""

    reads: list = dataclasses.field(default_factory=list, compare=False)

    def image(self):
        self.reads.append(self.id)
        return np.random.default_rng(int(self.id)).integers(0, 256, (30, 40, 3), dtype=np.uint8)

    def label_map(self):
        return np.zeros((30, 40), np.uint8)


@pytest.fixture
def scenes():
    return [Drawn(id=str(number), split="train", num_classes=3) for number in range(3)]


def written_out(image, y, x, side):
    """Pixel by pixel; beyond the border the mean colour."""
    mean = np.rint(image.reshape(-1, 3).mean(axis=0))
    patch = np.empty((side, side, 3), np.uint8)
    for i in range(side):
        for j in range(side):
            row, column = y - side // 2 + i, x - side // 2 + j
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            patch[i, j] = image[row, column] if inside else mean
    return patch


def test_patches_are_cut_from_the_variant_around_the_centre(scenes):
    which, variants = np.array([0, 2, 0, 1, 0]), np.array([0, 3, 0, 1, 5])
    centres = np.array([[0, 0], [15, 20], [29, 39], [3, 38], [10, 10]])
    patches = cut_patches([scenes[place] for place in which], variants, centres, side=11, seed=4)
    assert patches.shape == (5, 11, 11, 3)
    for patch, place, number, (y, x) in zip(patches, which, variants, centres, strict=True):
        image, _ = variant(
            *scenes[place].load(), seed=4, image_id=str(place), number=int(number), void=255
        )
        np.testing.assert_array_equal(patch, written_out(image, y, x, 11))


def test_a_variant_is_made_once_however_many_patches_it_gives(scenes):
    cut_patches(
        [scenes[0]] * 4 + [scenes[1]], np.array([1, 1, 1, 2, 0]), np.full((5, 2), 9), side=5,
        seed=0,
    )  # fmt: skip
    assert scenes[0].reads == ["0", "0"]
    assert scenes[1].reads == ["1"]
