"""Crops and batches, with the place of every pixel written into image and label map."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.loading import build_config
from lhs.training.crops import CropSource, jittered_colours, random_crop
from lhs.training.decoded import Example, TrainingScenes
from tests.hierarchy.test_hierarchy import cluster_hierarchy

VOID, VOID_SUBCLASS = 255, 65535


def coordinates(height: int, width: int) -> Example:
    """Red = y, green = x, label = y, subclass = x: alignment can be read off."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, np.full_like(y, 7)], axis=2).astype(np.uint8)
    return Example(image, y.astype(np.uint8), x.astype(np.uint16))


def crop_config(height: int, width: int, **settings):
    tree = {"crop_height": height, "crop_width": width, "flip": 0, **between(1, 1), **settings}
    return build_config({"train": tree}).train


def between(low: float, high: float) -> dict[str, float]:
    return {"scale_min": low, "scale_max": high}


class Scripted:
    """A generator that draws given values: scale, offsets (as a share of the range), flip."""

    def __init__(self, scale=1.0, top=0.0, left=0.0, coin=0.0):
        self.uniforms, self.coin, self.ranges = [np.log(scale), top, left], coin, []

    def uniform(self, low, high):
        self.ranges.append((low, high))
        return self.uniforms[len(self.ranges) - 1]

    def random(self):
        return self.coin


def crop(example, config, rng):
    return random_crop(example, config, VOID, VOID_SUBCLASS, rng)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (32, 24), (17, 0)])
@pytest.mark.parametrize("flip", [0, 1])
def test_a_plain_crop_is_a_slice_and_a_mirrored_one_its_mirror(top, left, flip):
    example = coordinates(64, 72)
    rng = Scripted(top=top, left=left)
    got = crop(example, crop_config(32, 48, flip=flip), rng)
    assert rng.ranges == [(0, 0), (0, 32), (0, 24)]
    for part, whole in zip(got, example, strict=True):
        expected = whole[top : top + 32, left : left + 48]
        np.testing.assert_array_equal(part, expected[:, ::-1] if flip else expected)
        assert part.dtype == whole.dtype


def test_a_crop_of_the_whole_image_is_the_image():
    example = coordinates(64, 72)
    got = crop(example, crop_config(64, 72), np.random.default_rng(0))
    for part, whole in zip(got, example, strict=True):
        np.testing.assert_array_equal(part, whole)


def test_the_callers_arrays_stay():
    example = coordinates(40, 40)
    copies = [part.copy() for part in example]
    crop(example, crop_config(64, 32, flip=1), np.random.default_rng(0))
    for part, copy in zip(example, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_small_image_lies_anywhere_within_mean_colour_and_void():
    example = coordinates(20, 30)
    config = crop_config(32, 48)
    rng = Scripted(top=-5, left=-7)
    got = crop(example, config, rng)
    assert rng.ranges[1:] == [(-12, 0), (-18, 0)]
    inside = np.zeros((32, 48), bool)
    inside[5:25, 7:37] = True
    np.testing.assert_array_equal(got.image[inside].reshape(20, 30, 3), example.image)
    np.testing.assert_array_equal(got.label_map[inside].reshape(20, 30), example.label_map)
    assert (got.label_map[~inside] == VOID).all()
    assert (got.subclass_map[~inside] == VOID_SUBCLASS).all()
    mean = example.image.reshape(-1, 3).mean(axis=0)
    assert np.abs(got.image[~inside] - mean).max() <= 0.5


def test_void_within_the_image_stays_void():
    example = coordinates(40, 40)
    example.label_map[10:20, 5:9] = VOID
    example.subclass_map[10:20, 5:9] = VOID_SUBCLASS
    got = crop(example, crop_config(32, 32, **between(0.5, 2)), Scripted(1.3, 4.0, 3.0))
    np.testing.assert_array_equal(got.label_map == VOID, got.subclass_map == VOID_SUBCLASS)
    assert (got.label_map == VOID).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    flip=st.sampled_from([0, 1]),
    jitter=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_image_labels_and_subclasses_stay_aligned(seed, size, flip, jitter):
    example = coordinates(*size)
    config = crop_config(64, 80, flip=flip, **between(1 - jitter, 1 + jitter))
    got = crop(example, config, np.random.default_rng(seed))
    assert got.image.shape == (64, 80, 3)
    assert got.label_map.shape == got.subclass_map.shape == (64, 80)
    inside = got.label_map != VOID
    np.testing.assert_array_equal(inside, got.subclass_map != VOID_SUBCLASS)
    assert inside.any()
    # Away from the border the image carries no mean colour: it tells the coordinates themselves.
    pure = inside & (got.image[..., 2] == 7)
    edge = (got.label_map == 0) | (got.label_map == size[0] - 1)
    edge |= (got.subclass_map == 0) | (got.subclass_map == size[1] - 1)
    pure &= ~edge
    y, x = got.image[..., 0][pure].astype(int), got.image[..., 1][pure].astype(int)
    assert np.abs(y - got.label_map[pure]).max(initial=0) <= 1
    assert np.abs(x - got.subclass_map[pure].astype(int)).max(initial=0) <= 1
    # Columns run the way the flip says, at the pitch of the scale.
    row = got.subclass_map[32].astype(int)
    steps = np.diff(row)[(row[1:] != VOID_SUBCLASS) & (row[:-1] != VOID_SUBCLASS)]
    assert (steps <= 0).all() if flip else (steps >= 0).all()
    if len(steps) > 40:
        assert 1 / (1 + jitter) - 0.1 <= abs(steps.mean()) <= 1 / (1 - jitter) + 0.1


def test_scales_offsets_and_flips_are_spread_over_their_range():
    example = coordinates(100, 120)
    config = crop_config(50, 60, flip=0.5, **between(0.75, 1.25))
    flips, pitches = [], []
    for seed in range(200):
        row = crop(example, config, np.random.default_rng(seed)).subclass_map[25].astype(int)
        flips.append(row[-1] < row[0])
        pitches.append((row.max() - row.min()) / 59)
    assert 70 < sum(flips) < 130
    assert min(pitches) < 0.85
    assert max(pitches) > 1.25
    assert min(pitches) > 1 / 1.25 - 0.05
    assert max(pitches) < 1 / 0.75 + 0.05


def test_smaller_is_as_likely_as_larger():
    config = crop_config(50, 60, **between(0.25, 4))
    example = coordinates(200, 240)
    rows = [crop(example, config, np.random.default_rng(n)).subclass_map[25] for n in range(400)]
    pitch = np.array([np.diff(row.astype(int)).clip(0, 10).max() for row in rows])
    # Steps of 0 or 1 column mean enlarged, of 2 or more reduced.
    assert 150 < (pitch <= 1).sum() < 250


def test_colours_alone_are_jittered_as_torchvision_does():
    example = Example(
        np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8),
        *coordinates(40, 50)[1:],
    )
    plain = crop(example, crop_config(40, 50), np.random.default_rng(3))
    other = crop(example, crop_config(40, 50, colour_jitter=0.4), np.random.default_rng(3))
    np.testing.assert_array_equal(plain.label_map, other.label_map)
    np.testing.assert_array_equal(plain.subclass_map, other.subclass_map)
    assert (plain.image != other.image).mean() > 0.9
    # The peer: torchvision's own transform with each factor's range shrunk to the drawn value.
    rng = np.random.default_rng(4)
    image = jittered_colours(example.image, 0.4, rng)
    draws = np.random.default_rng(4).uniform(0.6, 1.4, 3).tolist()
    expected = torch.from_numpy(example.image).permute(2, 0, 1)
    for name, draw in zip(("brightness", "contrast", "saturation"), draws, strict=True):
        expected = v2.ColorJitter(**{name: (draw, draw)})(expected)
    # It holds its factors in float32.
    off = np.abs(image.astype(int) - expected.permute(1, 2, 0).numpy().astype(int))
    assert off.max() <= 1
    assert off.mean() < 0.01


# Epochs


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberedScene(Scene):
    """An image whose pixels all say which one it is; counts how often it is read."""

    number: int
    size: tuple[int, int] = (40, 40)
    reads: list = dataclasses.field(default_factory=list)

    def image(self):
        self.reads.append(threading.get_ident())
        y, x = np.mgrid[: self.size[0], : self.size[1]]
        return np.stack([np.full(self.size, self.number), y, x], axis=2).astype(np.uint8)

    def label_map(self):
        return np.full(self.size, self.number, np.uint8)


def numbered(count: int) -> list[NumberedScene]:
    return [
        NumberedScene(id=f"{n:03}", split="train", num_classes=250, number=n) for n in range(count)
    ]


def epoch_of(scenes, config, epoch=0, rank=0, world_size=1, threads=2):
    training = TrainingScenes(scenes, None, 64)
    source = CropSource(
        training, VOID, VOID, train=config, rank=rank, world_size=world_size, threads=threads
    )
    return [batch for (batch,) in source.batches(epoch, 0)]


def config_of(batch_size=4, **settings):
    settings = {**between(0.8, 1.25), **settings}
    return crop_config(32, 32, flip=0.5, batch_size=batch_size, **settings)


def shown(batches) -> list[int]:
    return [int(labels[labels != VOID][0]) for batch in batches for labels in batch.labels]


@pytest.mark.parametrize(("images", "batch"), [(12, 4), (13, 4), (4, 4), (3, 8), (1, 2), (7, 1)])
def test_an_epoch_shows_every_image_at_most_once(images, batch):
    batches = epoch_of(numbered(images), config_of(batch))
    assert len(batches) == max(1, images // batch)
    for one in batches:
        size = min(batch, images)
        assert one.images.shape == (size, 3, 32, 32)
        assert one.images.dtype == torch.uint8
        assert one.labels.shape == one.subclasses.shape == (size, 32, 32)
        assert one.labels.dtype == one.subclasses.dtype == torch.uint8
    numbers = shown(batches)
    assert len(set(numbers)) == len(numbers) == len(batches) * min(batch, images)


def test_over_the_epochs_every_image_comes():
    seen = set()
    for epoch in range(12):
        seen |= set(shown(epoch_of(numbered(11), config_of(4), epoch)))
    assert seen == set(range(11))


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(mine, theirs)
        for left, right in zip(one, other, strict=True)
        for mine, theirs in zip(left[:3], right[:3], strict=True)
    )


def test_the_same_seed_gives_the_same_batches_and_another_others():
    scenes = numbered(9)
    first = epoch_of(scenes, config_of())
    assert equal(first, epoch_of(scenes, config_of()))
    assert not equal(first, epoch_of(scenes, config_of(), epoch=1))
    assert not equal(first, epoch_of(scenes, config_of(seed=1)))


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_share_a_batch_without_overlap(world_size):
    scenes, config = numbered(12), config_of(4)
    whole = epoch_of(scenes, config, epoch=3)
    shares = [
        epoch_of(scenes, config, epoch=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        for name in ("images", "labels", "subclasses"):
            parts = [getattr(share[step], name) for share in shares]
            assert [len(part) for part in parts] == [4 // world_size] * world_size
            together = torch.stack(parts, dim=1).flatten(0, 1)
            assert torch.equal(together, getattr(batch, name))


def test_more_workers_than_images_of_a_batch():
    with pytest.raises(UserError, match=r"train\.workers = 4"):
        epoch_of(numbered(3), config_of(4), rank=3, world_size=4)


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_does_not_matter(threads):
    scenes, config = numbered(10), config_of(2)
    assert equal(epoch_of(scenes, config, threads=threads), epoch_of(scenes, config))


def test_an_abandoned_epoch_leaves_no_thread():
    before = threading.active_count()
    scenes = TrainingScenes(numbered(40), None, 64)
    batches = CropSource(scenes, VOID, VOID, train=config_of(2)).batches(0, 0)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_bad_image_stops_the_epoch_with_its_own_error():
    class Broken(NumberedScene):
        def image(self):
            raise RuntimeError("image 5 is broken")

    scenes = numbered(8)
    scenes[5] = Broken(id="005", split="train", num_classes=250, number=5)
    with pytest.raises(RuntimeError, match="image 5 is broken"):
        epoch_of(scenes, config_of())


# Subclasses and memory


class TenMore:
    """Stands in for a hierarchy: subclass = class + 10, and checks its arguments."""

    def scene_of(self, scene):
        return f"the {scene.name}"

    def relabel(self, label_map, scene_name, context_label_map, image_id):
        assert (scene_name, context_label_map, image_id) == ("the coast", None, "a")
        return np.where(label_map == VOID, 255, label_map + 10).astype(np.uint8)


def test_subclass_maps_come_from_the_hierarchy():
    scene = NumberedScene(id="a", split="train", num_classes=250, number=3, name="coast")
    example = TrainingScenes([scene], TenMore(), 64).example(0)
    assert (example.label_map == 3).all()
    assert (example.subclass_map == 13).all()
    plain = TrainingScenes([scene], None, 64).example(0)
    np.testing.assert_array_equal(plain.subclass_map, plain.label_map)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StripedScene(NumberedScene):
    """Classes in stripes, some unlabelled; `fuller` is a label map with pseudo-labels."""

    fuller: bool = False

    def label_map(self):
        stripes = np.random.default_rng(self.number).integers(0, 3, (1, self.size[1] // 4))
        wide = np.kron(stripes, np.ones((self.size[0], 4))).astype(np.uint8)
        wide[::5] = VOID
        return wide

    def context_label_map(self):
        return np.where(self.label_map() == VOID, 2, self.label_map()) if self.fuller else None


@pytest.mark.parametrize("fuller", [False, True])
def test_subclasses_of_a_crop_are_by_what_it_shows(fuller):
    """The crop's own map relabelled, with pseudo-labels where the hierarchy sees them."""
    hierarchy = cluster_hierarchy(region=15, clusters=(4, 3, 2))
    scenes = [
        StripedScene(
            id=str(n), split="train", num_classes=5, number=n, size=(48, 60), fuller=fuller
        )
        for n in range(4)
    ]

    def epoch(context):
        config = config_of(4, subclass_context=context, strategy="hierarchical")
        training = TrainingScenes(scenes, hierarchy, 64)
        source = CropSource(training, VOID, hierarchy.void_subclass, train=config)
        [(batch,)] = source.batches(0, 0)
        return batch

    crop, image = epoch("crop"), epoch("image")
    assert torch.equal(crop.images, image.images)
    assert torch.equal(crop.labels, image.labels)
    assert (crop.subclasses != image.subclasses).any()
    parents = np.append(hierarchy.parents, [0] * (256 - len(hierarchy.parents)))
    for labels, subclasses in zip(crop.labels.numpy(), crop.subclasses.numpy(), strict=True):
        if not fuller:
            np.testing.assert_array_equal(subclasses, hierarchy.relabel(labels))
        np.testing.assert_array_equal(subclasses == VOID, labels == VOID)
        np.testing.assert_array_equal(parents[subclasses][labels != VOID], labels[labels != VOID])
    if fuller:
        assert any(
            (hierarchy.relabel(labels) != subclasses).any()
            for labels, subclasses in zip(crop.labels.numpy(), crop.subclasses.numpy(), strict=True)
        )


def read_twice(scenes, cache_mb) -> int:
    training = TrainingScenes(scenes, None, cache_mb)
    for _ in range(2):
        for index in range(len(scenes)):
            assert (training.example(index).label_map == index).all()
    return sum(len(scene.reads) for scene in scenes)


def test_without_memory_everything_is_read_again():
    assert read_twice(numbered(3), 0) == 6


def test_with_memory_everything_is_read_once():
    assert read_twice(numbered(3), 64) == 3


def test_memory_is_kept_to_its_bound():
    """An image of 512 x 512 and its labels have 4 bytes a pixel, 1 MB: four of five fit in 4 MB."""
    scenes = [
        NumberedScene(id=str(n), split="train", num_classes=250, number=n, size=(512, 512))
        for n in range(5)
    ]
    assert read_twice(scenes, 4) == 5 + 1
