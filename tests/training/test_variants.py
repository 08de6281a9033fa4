"""Whole variants as examples: which come when, to whom, and with which border."""

import numpy as np
import pytest
import torch

from lhs.data.augmentation import variant, variant_label_map
from lhs.data.scenes import Scene
from lhs.loading import build_config
from lhs.training.crops import Example, TrainingScenes
from lhs.training.variants import VariantFeed, filled_up
from tests.hierarchy.test_hierarchy import cluster_hierarchy

VOID = 255


class Noise(Scene):
    """Scenes of two sizes."""

    def image(self):
        return np.random.default_rng(int(self.id)).integers(0, 256, (*self.size, 3), np.uint8)

    def label_map(self):
        return np.random.default_rng(int(self.id)).integers(0, 4, self.size).astype(np.uint8)

    @property
    def size(self):
        return (40, 64) if int(self.id) % 2 else (48, 50)


SCENES = [Noise(id=str(number), split="train", num_classes=4) for number in range(5)]
CONTEXT = build_config({"context": {"variants": 2, "seed": 3}}).context


def feed(rank=0, world_size=1, batch_size=4):
    train = build_config({"train": {"batch_size": batch_size, "workers": 1}}).train
    return VariantFeed(SCENES, None, train, CONTEXT, VOID, 32, rank, world_size)


def expected(number):
    scene = SCENES[number // 3]
    image, label_map = variant(
        *scene.load(), seed=3, image_id=scene.id, number=number % 3, void=VOID
    )
    return filled_up(Example(image, label_map, label_map), 32, VOID, VOID)


class Sparse(Noise):
    """Scenes of which the right half is unlabelled, among labels that another map holds."""

    def label_map(self):
        label_map = super().label_map()
        label_map[:, 25:] = VOID
        return label_map

    def surroundings(self):
        return super().label_map()


def test_subclasses_go_by_the_map_that_tells_the_surroundings():
    hierarchy = cluster_hierarchy(5)
    scene = Sparse(id="1", split="train", num_classes=5)
    crops = TrainingScenes([scene], hierarchy, cache_mb=0)
    train = build_config({}).train
    whole = VariantFeed([scene], hierarchy, train, CONTEXT, VOID, 8)
    change = {"seed": 3, "image_id": "1", "void": VOID}
    for example, number in ((crops.example(0), 0), (whole.example(0), 0), (whole.example(1), 1)):
        label_map = variant_label_map(scene.label_map(), number=number, **change)
        around = variant_label_map(scene.surroundings(), number=number, **change)
        labelled = label_map != VOID
        assert (example.label_map == label_map).all()
        assert (example.subclass_map[~labelled] == hierarchy.void_subclass).all()
        expected = hierarchy.relabel(around)[labelled]
        assert (example.subclass_map[labelled] == expected).all()
        assert (expected != hierarchy.relabel(label_map)[labelled]).any()


def by_id(shares):
    return {
        int(number): (image, labels)
        for share in shares
        for part in share
        for number, image, labels in zip(part.ids, part.images, part.labels, strict=True)
    }


def test_an_epoch_brings_every_variant_at_most_once_whole():
    shares = list(feed().batches(0, 0))
    assert len(shares) == feed().steps_per_epoch == 3
    assert [sum(len(part.ids) for part in share) for share in shares] == [4, 4, 4]
    seen = by_id(shares)
    assert len(seen) == 12
    for number, (image, labels) in seen.items():
        example = expected(number)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), example.image)
        np.testing.assert_array_equal(labels.numpy(), example.label_map)


def test_images_of_one_size_lie_together():
    for share in feed(batch_size=10).batches(0, 0):
        shapes = [tuple(part.labels.shape[1:]) for part in share]
        assert sorted(shapes) == sorted(set(shapes))
        assert set(shapes) <= {(64, 64), (64, 64), (48 + 16, 50 + 14)}


@pytest.mark.parametrize("first", [0, 1, 2])
def test_an_epoch_goes_on_from_any_batch(first):
    whole, rest = list(feed().batches(1, 0)), list(feed().batches(1, first))
    assert [sorted(by_id([share])) for share in rest] == [
        sorted(by_id([share])) for share in whole[first:]
    ]


def test_workers_share_each_batch_without_overlap():
    alone = [sorted(by_id([share])) for share in feed().batches(2, 0)]
    shared = [
        [sorted(by_id([share])) for share in feed(rank, 3).batches(2, 0)] for rank in range(3)
    ]
    for step, numbers in enumerate(alone):
        parts = [shared[rank][step] for rank in range(3)]
        assert sorted(number for part in parts for number in part) == numbers


def test_every_example_belongs_to_one_worker():
    owned = [by_id([[part] for part in feed(rank, 2).owned()]) for rank in range(2)]
    assert sorted([*owned[0], *owned[1]]) == list(range(15))
    for rank in range(2):
        for share in feed(rank, 2).owned_labels(0, 0):
            for part in share:
                assert part.images.numel() == 0
                for number, labels in zip(part.ids.tolist(), part.labels, strict=True):
                    assert torch.equal(labels, owned[rank][number][1])


def test_labels_of_owned_examples_are_those_of_the_global_batches():
    alone = [sorted(by_id([share])) for share in feed().batches(0, 0)]
    parts = [
        [sorted(n for part in share for n in part.ids.tolist()) for share in feed(r, 2)
         .owned_labels(0, 0)]
        for r in range(2)
    ]  # fmt: skip
    assert [sorted(parts[0][step] + parts[1][step]) for step in range(3)] == alone


def test_filled_up_to_a_multiple_with_mean_and_void():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 64, 3), np.uint8)
    labels = rng.integers(0, 3, (33, 64)).astype(np.uint8)
    got = filled_up(Example(image, labels, labels.astype(np.uint16)), 32, VOID, 65535)
    assert got.image.shape == (64, 64, 3)
    np.testing.assert_array_equal(got.image[:33], image)
    np.testing.assert_array_equal(
        got.image[40, 5], np.rint(image.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    )
    assert (got.label_map[33:] == VOID).all()
    assert (got.subclass_map[33:] == 65535).all()
    whole = Example(image[:32], labels[:32], labels[:32])
    assert filled_up(whole, 32, VOID, VOID) is whole
