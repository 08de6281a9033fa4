"""Kept features train the last layer as computed ones do."""

import numpy as np
import pytest
import torch

from lhs.loading import build_config
from lhs.networks.encoder import EncoderNetwork
from lhs.training.features import FeatureStore, keep_features
from lhs.training.feed import Batch, no_images
from lhs.training.loop import train

CPU = torch.device("cpu")
VOID = 255


class Repeating:
    """Ten images of two sizes that come again every epoch; counts how often they are asked for."""

    examples, repeats, steps_per_epoch = 10, True, 2

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        sizes = [(32, 64) if number % 3 else (64, 32) for number in range(10)]
        self.images = [torch.randint(0, 256, (3, *s), generator=draw).byte() for s in sizes]
        self.labels = [torch.randint(0, 3, s, generator=draw) for s in sizes]
        self.asked = 0

    def one_size(self):
        return tuple(self.labels[0].shape)

    def part(self, ids):
        labels = torch.stack([self.labels[i] for i in ids])
        return Batch(torch.stack([self.images[i] for i in ids]), labels, labels, torch.tensor(ids))

    def parts(self, ids):
        groups = [[i for i in ids if i % 3 == 0], [i for i in ids if i % 3]]
        return [self.part(group) for group in groups if group]

    def order(self, epoch):
        return np.random.default_rng(epoch).permutation(10).reshape(2, 5).tolist()

    def batches(self, epoch, first):
        for ids in self.order(epoch)[first:]:
            self.asked += len(ids)
            yield self.parts(ids)

    def owned(self):
        self.asked += 10
        yield from self.parts(range(10))

    def owned_labels(self, epoch, first):
        for ids in self.order(epoch)[first:]:
            yield [part._replace(images=no_images(part.labels)) for part in self.parts(ids)]


def last_layer_phase(features_gb, epochs=5):
    feed = Repeating()
    torch.manual_seed(0)
    network = EncoderNetwork(3, 8)
    said = []
    phase = {"epochs": epochs, "learning_rate": 0.05}
    none = {"epochs": 0}
    config = build_config(
        {
            "train": {
                "strategy": "sequential",
                "batch_size": 5,
                "features_gb": features_gb,
                "solver": "sgd",
                "sequential": {
                    "subclass_new_layers": none,
                    "subclass_all_layers": none,
                    "class_last_layer": phase,
                    "class_all_layers": none,
                },
            }
        }
    ).train
    _, history = train(
        network, config, classes=3, matrix=torch.eye(3), void=VOID, feed=feed, device=CPU,
        on_step=lambda row, total: None, say=said.append,
    )  # fmt: skip
    return [row["loss"] for row in history], network, feed, said


def test_the_losses_are_those_without_and_every_image_is_seen_once():
    kept, network, feed, _ = last_layer_phase(1.0)
    computed, other, all_feed, _ = last_layer_phase(0.0)
    assert len(kept) == len(computed) == 10
    # Half precision keeps eleven bits.
    np.testing.assert_allclose(kept, computed, rtol=2e-3)
    torch.testing.assert_close(network.last.weight, other.last.weight, rtol=0.02, atol=2e-3)
    assert feed.asked == 10
    assert all_feed.asked == 50


def test_a_phase_that_needs_no_example_twice_keeps_nothing():
    _, _, feed, said = last_layer_phase(1.0, epochs=1)
    assert feed.asked == 10
    assert said == []


def test_what_does_not_fit_is_said_and_computed():
    losses, _, feed, said = last_layer_phase(1e-6)
    assert losses == last_layer_phase(0.0)[0]
    assert feed.asked == 50
    assert "train.features_gb allows 0.0" in said[0]


def test_a_store_gives_back_what_it_was_given():
    store = FeatureStore(20)
    draw = torch.Generator().manual_seed(1)
    given = {}
    for ids, shapes in (([3, 7, 1], [(4, 2, 3), (2, 1, 1)]), ([0, 19], [(4, 5, 1), (2, 1, 1)])):
        features = tuple(torch.randn(len(ids), *shape, generator=draw) for shape in shapes)
        store.add(np.array(ids), features)
        for place, number in enumerate(ids):
            given[number] = [level[place] for level in features]
    store.close()
    asked = np.array([19, 3, 0, 7, 3])
    found = {}
    for where, features in store.read(asked):
        for place, position in enumerate(where):
            found[int(position)] = [level[place] for level in features]
    assert sorted(found) == [0, 1, 2, 3, 4]
    for position, levels in found.items():
        for mine, theirs in zip(levels, given[int(asked[position])], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
    assert store.size == 2 * (3 * 26 + 2 * 22)
    folder = store._path.parent
    store.delete()
    assert not folder.exists()


@pytest.mark.parametrize("limit", [0, 1])
def test_nothing_is_left_on_disk_where_it_does_not_fit(limit):
    torch.manual_seed(0)
    assert (
        keep_features(EncoderNetwork(3, 8), Repeating(), limit, None, CPU, lambda text: None)
        is None
    )
