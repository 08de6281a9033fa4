"""Whole variants as examples: which come when, to whom, and with which border."""

import numpy as np
import pytest
from PIL import Image

from lhs.data.augmentation import variant, variant_label_map
from lhs.data.scenes import FileScene, Scene
from lhs.loading import build_config
from lhs.training.decoded import Example, TrainingScenes
from lhs.training.variants import VariantSource, padded
from tests.hierarchy.test_hierarchy import cluster_hierarchy

VOID = 255


class Noise(Scene):
    """Scenes of two sizes."""

    def image(self):
        return np.random.default_rng(int(self.id)).integers(0, 256, (*self.shape, 3), np.uint8)

    def label_map(self):
        return np.random.default_rng(int(self.id)).integers(0, 4, self.shape).astype(np.uint8)

    @property
    def shape(self):
        return (40, 64) if int(self.id) % 2 else (48, 50)


SCENES = [Noise(id=str(number), split="train", num_classes=4) for number in range(5)]
CONTEXT = build_config({"context": {"variants": 2, "seed": 3}}).context


def source(rank=0, world_size=1, batch_size=4, one_size=False):
    train = build_config({"train": {"batch_size": batch_size, "workers": 1}}).train
    scenes = TrainingScenes(SCENES, None, 1)
    return VariantSource(
        scenes, CONTEXT, VOID, VOID, 32, one_size, train=train, rank=rank, world_size=world_size
    )


def expected(number):
    scene = SCENES[number // 3]
    image, label_map = variant(
        *scene.load(), seed=3, image_id=scene.id, number=number % 3, void=VOID
    )
    sides = tuple(-(-side // 32) * 32 for side in label_map.shape)
    return padded(Example(image, label_map, label_map), sides, VOID, VOID)


class Sparse(Noise):
    """Scenes of which the right half is unlabelled, among labels that another map holds."""

    def label_map(self):
        label_map = super().label_map()
        label_map[:, 25:] = VOID
        return label_map

    def context_label_map(self):
        return super().label_map()


def test_subclasses_are_found_in_the_context_label_map():
    hierarchy = cluster_hierarchy(5)
    scene = Sparse(id="1", split="train", num_classes=5)
    crops = TrainingScenes([scene], hierarchy, cache_mb=0)
    train = build_config({}).train
    kept = TrainingScenes([scene], hierarchy, cache_mb=1)
    whole = VariantSource(kept, CONTEXT, VOID, hierarchy.void_subclass, 8, False, train=train)
    change = {"seed": 3, "image_id": "1", "void": VOID}
    for example, number in ((crops.example(0), 0), (whole.example(0), 0), (whole.example(1), 1)):
        label_map = variant_label_map(scene.label_map(), number=number, **change)
        around = variant_label_map(scene.context_label_map(), number=number, **change)
        labelled = label_map != VOID
        assert (example.label_map == label_map).all()
        assert (example.subclass_map[~labelled] == hierarchy.void_subclass).all()
        expected = hierarchy.relabel(around)[labelled]
        assert (example.subclass_map[labelled] == expected).all()
        assert (expected != hierarchy.relabel(label_map)[labelled]).any()


def by_id(shares, epoch, first=0):
    """Numbers of the examples, and what came for them; places tell which they are."""
    return {
        int(order[place]): (image, labels)
        for share, order in zip(shares, source().shuffled(epoch)[first:], strict=False)
        for part in share
        for place, image, labels in zip(part.places, part.images, part.labels, strict=True)
    }


def test_an_epoch_brings_every_variant_at_most_once_whole():
    shares = list(source().batches(0, 0))
    assert len(shares) == source().steps_per_epoch == 3
    assert [sorted(int(p) for part in share for p in part.places) for share in shares] == [
        [0, 1, 2, 3]
    ] * 3
    seen = by_id(shares, 0)
    assert len(seen) == 12
    for number, (image, labels) in seen.items():
        example = expected(number)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), example.image)
        np.testing.assert_array_equal(labels.numpy(), example.label_map)


class Mixed(Noise):
    """Scenes of three sizes, two of one height."""

    @property
    def shape(self):
        return ((32, 64), (32, 96), (64, 64))[int(self.id) % 3]


def test_images_of_one_size_lie_together():
    scenes = [Mixed(id=str(number), split="train", num_classes=4) for number in range(6)]
    train = build_config({"train": {"batch_size": 9}}).train
    kept = TrainingScenes(scenes, None, 1)
    mixed = VariantSource(kept, CONTEXT, VOID, VOID, 32, False, train=train)
    for share, order in zip(mixed.batches(0, 0), mixed.shuffled(0).tolist(), strict=True):
        sizes = [scenes[number // 3].shape for number in order]
        assert len(share) == len(set(sizes)) > 1
        for part in share:
            size = tuple(part.labels.shape[1:])
            assert [sizes[place] for place in part.places.tolist()] == [size] * len(part.labels)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_an_epoch_goes_on_from_any_batch(first):
    whole, rest = list(source().batches(1, 0)), list(source().batches(1, first))
    assert sorted(by_id(rest, 1, first)) == sorted(by_id(whole[first:], 1, first))
    for one, other in zip(rest, whole[first:], strict=True):
        assert [part.images.sum() for part in one] == [part.images.sum() for part in other]


def test_workers_share_each_batch_without_overlap():
    alone = by_id(source().batches(2, 0), 2)
    shared = [by_id(source(rank, 3).batches(2, 0), 2) for rank in range(3)]
    assert sum(map(len, shared)) == len(alone)
    for number, (image, labels) in {k: v for part in shared for k, v in part.items()}.items():
        assert (image == alone[number][0]).all()
        assert (labels == alone[number][1]).all()


class Wide(Noise):
    @property
    def shape(self):
        return (32, 96) if int(self.id) % 2 else (64, 32)


@pytest.mark.parametrize("world_size", [1, 2])
def test_one_size_is_the_same_on_every_worker(world_size):
    scenes = [Wide(id=str(number), split="train", num_classes=4) for number in range(6)]
    train = build_config({"train": {"batch_size": 5, "seed": 1}}).train
    kept = TrainingScenes(scenes, None, 1)
    sources = [
        VariantSource(
            kept, CONTEXT, VOID, VOID, 32, True, train=train, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    order = sources[0].shuffled(0)
    for step, shares in enumerate(zip(*(one.batches(0, 0) for one in sources), strict=True)):
        sizes = [scenes[number // 3].shape for number in order[step]]
        expected = max(h for h, _ in sizes), max(w for _, w in sizes)
        for share in shares:
            (part,) = share
            assert tuple(part.labels.shape[1:]) == expected
            for place, image, labels in zip(*(part[i] for i in (3, 0, 1)), strict=True):
                height, width = sizes[place]
                assert (labels[height:] == VOID).all()
                assert (labels[:, width:] == VOID).all()
                real = image[:, :height, :width].double().mean(dim=(1, 2))
                if height < expected[0]:
                    assert (image[:, -1, 0] - real).abs().max() <= 0.5


def test_sizes_come_from_headers(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")

    class Headed(FileScene):
        def read_ids(self):
            raise AssertionError("only the header is needed")

    image, missing = str(tmp_path / "a.png"), str(tmp_path / "missing.png")
    scene = Headed(id="0", split="train", num_classes=4, image_file=image, label_file=missing)
    scenes = TrainingScenes([scene], None, 1)
    assert scenes.size(0) == (40, 50)


def test_padded_to_a_multiple_with_mean_and_void():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 64, 3), np.uint8)
    labels = rng.integers(0, 3, (33, 64)).astype(np.uint8)
    got = padded(Example(image, labels, labels.astype(np.uint16)), (64, 64), VOID, 65535)
    assert got.image.shape == (64, 64, 3)
    np.testing.assert_array_equal(got.image[:33], image)
    np.testing.assert_array_equal(
        got.image[40, 5], np.rint(image.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    )
    assert (got.label_map[33:] == VOID).all()
    assert (got.subclass_map[33:] == 65535).all()
    whole = Example(image[:32], labels[:32], labels[:32])
    assert padded(whole, (32, 64), VOID, VOID) is whole
