"""What a pretrained network sees in a whole image, as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lhs.config import NetworkConfig
from lhs.context.gist import squared
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.precision import arithmetic
from lhs.networks.weights import load_weights


def pretrained(config: NetworkConfig) -> SceneNetwork:
    """A network with its weights, ready to describe images.

    Raises
    ------
    lhs.errors.UserError
        If its weights are missing or do not fit.
    """
    # How many classes its last layer scores does not matter: it is not used.
    network = build_network(config, 1)
    load_weights(network, config)
    return network.eval()


def image_embedding(network: SceneNetwork, image: np.ndarray) -> np.ndarray:
    """Describe an image by the mean of a network's deepest pretrained features.

    Parameters
    ----------
    network
        In its evaluation mode.
    image
        (H, W, 3) uint8 RGB image of any size; it is squeezed to a square first, as for GIST.

    Returns
    -------
    descriptor
        (C,) float32 of Euclidean norm 1, as label histograms have it.
    """
    descriptor: np.ndarray = square_embeddings(network, [squared(image)])[0]
    return descriptor


def square_embeddings(network: SceneNetwork, squares: Sequence[np.ndarray]) -> np.ndarray:
    """Describe images as `image_embedding` does; on CUDA they go through the network together.

    Parameters
    ----------
    network
        In its evaluation mode.
    squares
        Images as `lhs.context.gist.squared` gives them.

    Returns
    -------
    descriptors
        (N, C) float32.
    """
    device = next(network.parameters()).device
    together = len(squares) if device.type == "cuda" else 1
    found = []
    # One at a time on CPUs, so that others beside it do not change its last digits.
    for first in range(0, len(squares), together):
        pixels = torch.from_numpy(np.stack(squares[first : first + together])).to(device)
        with torch.inference_mode(), arithmetic("float32", device):
            features = network.pooled(pixels.permute(0, 3, 1, 2).float().contiguous())
            # Row by row: a norm along an axis ends in other last digits.
            norms = torch.stack([row.norm() for row in features])[:, None]
            tiny = torch.finfo(features.dtype).tiny
            found.append((features / norms.clamp_min(tiny)).float().cpu().numpy())
    return np.concatenate(found)
