"""Patch networks in general, their dropout, and the normalisation that travels with weights."""

import pytest
import torch
from torch import nn

from lhs.networks.base import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lhs.networks.patch import BatchDropout, PatchNetwork, kept, mask_keys


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


def drop(rate: float, count: int, features: torch.Tensor, **key: int) -> torch.Tensor:
    layer = BatchDropout(rate)
    numbers = {"seed": 0, "step": 0, "layer": 0, **key}
    layer.keys = mask_keys(**numbers, places=torch.arange(count))
    return layer(features)


def test_a_mask_depends_on_the_place_in_the_global_batch_alone():
    features = torch.ones(11, 5, 2, 2)
    whole = drop(0.4, 11, features)
    for workers in (2, 3):
        for rank in range(workers):
            layer = BatchDropout(0.4)
            layer.keys = mask_keys(0, 0, 0, torch.arange(rank, 11, workers))
            assert torch.equal(layer(features[rank::workers]), whole[rank::workers])


def test_it_draws_nothing_from_torchs_generator():
    before = torch.get_rng_state()
    drop(0.4, 3, torch.ones(3, 7))
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_of_seeds_steps_layers_and_places_are_independent():
    """Pairs of masks agree where chance has them agree, in all pairs of 64."""
    shape = torch.Size((64, 16, 16))
    keys = [
        mask_keys(seed, step, layer, torch.arange(4))
        for seed in (0, 1) for step in (0, 1, 2, 3) for layer in (0, 1)
    ]  # fmt: skip
    masks = kept(torch.cat(keys), shape, 0.3).flatten(1).float()
    assert len(masks) == 64
    centred = (masks - masks.mean()) / masks.std()
    among = centred @ centred.T / centred.shape[1]
    apart = among[~torch.eye(64, dtype=bool)]
    # Correlations of 16384 values scatter by 1/128 around 0.
    assert float(apart.abs().max()) < 5 / 128
    assert float(apart.square().mean().sqrt()) == pytest.approx(1 / 128, rel=0.1)


def test_neighbours_within_a_mask_are_independent():
    mask = kept(mask_keys(0, 0, 0, torch.arange(32)), torch.Size((8, 64, 64)), 0.5).float()
    centred = mask - 0.5
    for shift in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 16), (0, 0, 32)]:
        moved = centred.roll(shift, (1, 2, 3))
        # Of 2^20 pairs: scatters by 1/1024.
        assert abs(float((centred * moved).mean()) * 4) < 5 / 1024


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(rate):
    out = drop(rate, 100, torch.ones(100, 1000))
    stays = out != 0
    torch.testing.assert_close(out[stays], torch.full_like(out[stays], 1 / (1 - rate)))
    # 10^5 values scatter by at most 0.0016.
    assert float(stays.float().mean()) == pytest.approx(1 - rate, abs=0.006)
    assert float(stays.float().mean(dim=1).std()) == pytest.approx(
        (rate * (1 - rate) / 1000) ** 0.5, rel=0.3
    )


def test_what_is_dropped_gets_no_gradient():
    features = torch.ones(8, 50, requires_grad=True)
    out = drop(0.5, 8, features)
    out.sum().backward()
    assert torch.equal(features.grad, out.detach())


def test_without_keys_it_is_torchs_own_dropout():
    torch.manual_seed(0)
    out = BatchDropout(0.5)(torch.ones(4, 5))
    torch.manual_seed(0)
    assert torch.equal(out, nn.Dropout(0.5)(torch.ones(4, 5)))


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
