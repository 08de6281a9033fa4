"""What a pretrained network sees in a whole image, as one vector."""

from __future__ import annotations

import numpy as np
import torch

from lhs.config import NetworkConfig
from lhs.context.gist import squared
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
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
    # One image at a time, so that others beside it do not change its last digits.
    pixels = torch.from_numpy(squared(image)).permute(2, 0, 1)[None].float()
    device = next(network.parameters()).device
    with torch.inference_mode():
        features = network.pooled(pixels.to(device))[0]
        norm = features.norm().clamp_min(torch.finfo(features.dtype).tiny)
        return (features / norm).float().cpu().numpy()
