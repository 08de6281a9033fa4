"""Embeddings: what a pretrained network sees, and nothing of what is random in it."""

import cv2
import numpy as np
import pytest
import torch

from lhs.config import NetworkConfig
from lhs.context.gist import squared
from lhs.networks.embedding import pretrained, square_embeddings


def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "length"), [("lite", 320), ("squeezenet", 512), ("smp:unet", 320)]
)
def test_only_pretrained_layers_count(name, length):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = pretrained(NetworkConfig(name=name))
        assert not network.training
        found.append(square_embeddings(network, [squared(picture())])[0])
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (length,)
    assert found[0].dtype == np.float32
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)


def test_it_is_the_mean_of_the_deepest_maps_of_the_whole_image():
    network = pretrained(NetworkConfig())
    square = cv2.resize(picture(), (256, 256), interpolation=cv2.INTER_LINEAR)
    kept = []
    network.encoder.blocks[-1].register_forward_hook(lambda *parts: kept.append(parts[2]))
    [found] = square_embeddings(network, [squared(picture())])
    with torch.inference_mode():
        network.forward_features(torch.from_numpy(square.transpose(2, 0, 1))[None].float())
    [_, features] = kept
    expected = features[0].numpy().reshape(320, -1).mean(axis=1)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_an_image_of_one_colour_has_one_too():
    found = square_embeddings(pretrained(NetworkConfig()), [np.zeros((256, 256, 3), np.uint8)])
    assert np.isfinite(found).all()
