"""Patch networks in general, their dropout, and the normalisation that travels with weights."""

import pytest
import torch
from torch import nn

from lhs.networks.base import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lhs.networks.patch import BatchDropout, PatchNetwork
from tests.networks.geometry import sums


def small(outputs: int = 3) -> PatchNetwork:
    """Patches of 15 pixels, outputs 4 apart, no padding."""
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(6, 10, 3),
        nn.ReLU(inplace=True),
        BatchDropout(0.5),
    )
    return PatchNetwork(features, 10, outputs, stride=4).eval()


# The network


def test_a_patch_becomes_one_score_an_output():
    assert small()(torch.rand(2, 3, 15, 15) * 255).shape == (2, 3, 1, 1)


def test_a_larger_image_becomes_a_score_every_stride_pixels():
    network, image = small(), torch.rand(1, 3, 15 + 8, 15 + 4) * 255
    scores = network(image)
    assert scores.shape == (1, 3, 3, 2)
    for row in range(3):
        for column in range(2):
            patch = image[:, :, 4 * row : 4 * row + 15, 4 * column : 4 * column + 15]
            torch.testing.assert_close(scores[:, :, row, column], network(patch)[:, :, 0, 0])


def test_lower_and_upper_are_its_two_halves():
    network, image = small(), torch.rand(2, 3, 15, 15) * 255
    (features,) = network.lower(image)
    assert features.shape == (2, 10, 1, 1)
    torch.testing.assert_close(features, network.features(network.normalise(image)))
    torch.testing.assert_close(network.upper((features,)), network(image))


def test_renewing_changes_the_last_layer_alone():
    network, image = small(), torch.rand(2, 3, 15, 15) * 255
    before, (features,) = sums(network), network.lower(image)
    network.renew(3)
    after = sums(network)
    assert {name for name in before if before[name] != after[name]} == {"last.weight"}
    network.renew(7)
    assert network(image).shape == (2, 7, 1, 1)
    torch.testing.assert_close(network.lower(image)[0], features)


def test_its_last_layer_is_all_that_depends_on_the_outputs():
    network = small()
    assert network.last_layers() == network.new_layers() == [network.last]
    network.renew(8)
    assert network.last_layers() == [network.last]
    few, many = small(2).state_dict(), small(9).state_dict()
    differing = {name for name in few if few[name].shape != many[name].shape}
    assert differing == {"last.weight", "last.bias"}


def test_scores_start_small_and_without_a_favourite():
    network = small(200)
    assert network.last.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not network.last.bias.any()
    assert not network.features[0].bias.any()


def test_deep_maps_keep_their_size_from_layer_to_layer_at_the_start():
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    network = PatchNetwork(nn.Sequential(*layers), 64, 2, stride=1)
    with torch.inference_mode():
        out = network.features(torch.randn(1, 64, 48, 48))
    assert 0.3 < float(out.square().mean()) < 3


# Dropout


def test_the_masks_of_all_workers_together_are_the_mask_of_one():
    features = torch.ones(12, 5, 2, 2)
    torch.manual_seed(3)
    alone = [BatchDropout(0.4)(features) for _ in range(2)]
    for world_size in (2, 3):
        together = [torch.empty_like(features) for _ in range(2)]
        for rank in range(world_size):
            worker = BatchDropout(0.4)
            worker.rank, worker.world_size = rank, world_size
            torch.manual_seed(3)
            for step in together:
                step[rank::world_size] = worker(features[rank::world_size])
        for step, expected in zip(together, alone, strict=True):
            assert torch.equal(step, expected)
    assert not torch.equal(*alone)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(rate):
    torch.manual_seed(0)
    out = BatchDropout(rate)(torch.ones(100, 1000))
    kept = out != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / (1 - rate)))
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=0.01)
    assert float(out.mean()) == pytest.approx(1, abs=0.03)


def test_what_is_dropped_gets_no_gradient():
    torch.manual_seed(0)
    features = torch.ones(8, 50, requires_grad=True)
    out = BatchDropout(0.5)(features)
    out.sum().backward()
    assert torch.equal(features.grad, out.detach())


def test_in_evaluation_or_at_rate_0_it_does_nothing_and_draws_nothing():
    features = torch.randn(4, 5)
    before = torch.get_rng_state()
    assert BatchDropout(0.5).eval()(features) is features
    assert BatchDropout(0.0)(features) is features
    assert torch.equal(torch.get_rng_state(), before)


# Normalisation


def test_images_are_normalised_channel_by_channel():
    normalise = Normalise()
    image = torch.rand(2, 3, 4, 5) * 255
    for channel in range(3):
        expected = (image[:, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(normalise(image)[:, channel], expected)


def test_its_statistics_are_saved_with_the_weights_and_not_learned():
    network, other = small(), small()
    network.normalise.set((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    other.load_state_dict(network.state_dict())
    assert other.normalise.mean.flatten().tolist() == [1, 2, 3]
    assert other.normalise.std.flatten().tolist() == [4, 5, 6]
    assert not list(other.normalise.parameters())
