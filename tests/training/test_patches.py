"""Orders of samples and patches around them, against a list kept in memory and plain slicing."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.data.augmentation import variant
from lhs.data.scenes import Scene
from lhs.loading import build_config
from lhs.training.decoded import TrainingScenes
from lhs.training.patches import PatchSource, SampleIndex, cut_patches, joined, ordered_batches

CLASSES = np.array([0.7, 0.2, 0.1])


def rows(total: int) -> SampleIndex:
    ids = np.arange(total)
    labels = np.random.default_rng(0).choice(3, total, p=CLASSES)
    return SampleIndex(ids, ids // 7, ids % 6, ids % 40, ids % 50, labels, labels * 10)


def read_from(all_rows: SampleIndex, asked=None):
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


def at(images, variants, centres):
    count = len(images)
    y, x = np.array(centres).T
    zeros = np.zeros(count, np.int64)
    return SampleIndex(np.arange(count), np.array(images), np.array(variants), y, x, zeros, zeros)


def test_patches_are_cut_from_the_variant_around_the_centre(scenes):
    which, variants = [0, 2, 0, 1, 0], [0, 3, 0, 1, 5]
    centres = [[0, 0], [15, 20], [29, 39], [3, 38], [10, 10]]
    kept = TrainingScenes(scenes, None, 1)
    patches = cut_patches(kept, at(which, variants, centres), side=11, seed=4)
    assert patches.shape == (5, 11, 11, 3)
    for patch, place, number, (y, x) in zip(patches, which, variants, centres, strict=True):
        image, _ = variant(
            *scenes[place].load(), seed=4, image_id=str(place), number=int(number), void=255
        )
        np.testing.assert_array_equal(patch, written_out(image, y, x, 11))


def test_a_variant_is_made_once_however_many_patches_it_gives(scenes):
    rows = at([0, 0, 0, 0, 1], [1, 1, 1, 2, 0], [[9, 9]] * 5)
    cut_patches(TrainingScenes(scenes, None, 0), rows, side=5, seed=0)
    assert scenes[0].reads == ["0", "0"]
    assert scenes[1].reads == ["1"]


def test_images_are_decoded_once_while_they_fit(scenes):
    kept = TrainingScenes(scenes, None, 1)
    for seed in range(3):
        cut_patches(kept, at([0, 0, 1], [1, 2, 0], [[9, 9]] * 3), side=5, seed=seed)
    assert scenes[0].reads == ["0"]
    assert scenes[1].reads == ["1"]


# The data source


class Rows:
    """Forty samples of three scenes, in memory."""

    total = 40

    def __init__(self):
        draw = np.random.default_rng(0)
        labels = draw.choice(3, 40, p=[0.8, 0.1, 0.1])
        self.rows = SampleIndex(
            np.arange(40), draw.integers(0, 3, 40), draw.integers(0, 3, 40),
            draw.integers(0, 30, 40), draw.integers(0, 40, 40), labels.astype(np.uint8),
            (labels * 2).astype(np.uint16),
        )  # fmt: skip
        self.class_counts = np.bincount(labels)

    def __call__(self, start, stop):
        return self.rows.take(slice(start, stop))


def source(scenes, rank=0, world_size=1, threads=2, **settings):
    train = build_config({"train": {"batch_size": 6, **settings}}).train
    kept = TrainingScenes(scenes, None, 1)
    shard = {"rank": rank, "world_size": world_size, "threads": threads}
    return PatchSource(kept, Rows(), 4, 11, train=train, **shard)


def test_batches_hold_the_patches_of_their_rows(scenes):
    patches = source(scenes)
    batches = [batch for (batch,) in patches.batches(1, 0)]
    orders = list(patches.order(1))
    assert len(batches) == len(orders) == patches.steps_per_epoch == 6
    for batch, rows in zip(batches, orders, strict=True):
        expected = cut_patches(patches.scenes, rows, side=11, seed=4)
        np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
        assert batch.labels.flatten().tolist() == rows.labels.tolist()
        assert batch.subclasses.flatten().tolist() == rows.subclasses.tolist()
        assert batch.labels.shape == (6, 1, 1)
        assert batch.labels.dtype == torch.uint8
        assert batch.subclasses.dtype == torch.int32
        assert batch.places.tolist() == list(range(6))


def test_a_source_goes_on_from_any_batch_and_threads_do_not_matter(scenes):
    whole = [batch for (batch,) in source(scenes).batches(0, 0)]
    rest = [batch for (batch,) in source(scenes, threads=5).batches(0, 4)]
    for one, other in zip(rest, whole[4:], strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_workers_share_each_batch_of_patches_without_overlap(scenes):
    whole = [batch for (batch,) in source(scenes).batches(0, 0)]
    for rank in range(4):
        for (part,), all_of_it in zip(source(scenes, rank, 4).batches(0, 0), whole, strict=True):
            assert part.places.tolist() == list(range(rank, 6, 4))
            assert torch.equal(part.images, all_of_it.images[rank::4])
            assert torch.equal(part.labels, all_of_it.labels[rank::4])


def test_balanced_batches_repeat_rare_classes(scenes):
    drawn = np.concatenate(
        [rows.labels for epoch in range(40) for rows in source(scenes, sampling="balanced")
         .order(epoch)]
    )  # fmt: skip
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.05)
