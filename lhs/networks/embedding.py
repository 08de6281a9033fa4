"""Image descriptors: globally averaged features of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lhs.config import NetworkConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.precision import arithmetic
from lhs.networks.weights import load_weights


def pretrained(config: NetworkConfig) -> SceneNetwork:
    """A pretrained network in evaluation mode.

    Raises
    ------
    lhs.errors.UserError
        If its weights are missing or do not fit.
    """
    # Its last layer is not used.
    network = build_network(config, 1)
    load_weights(network, config)
    return network.eval()


def square_embeddings(network: SceneNetwork, squares: Sequence[np.ndarray]) -> np.ndarray:
    """Describe images by the global average of a network's deepest pretrained features.

    On CUDA in one batch.

    Parameters
    ----------
    network
        In its evaluation mode.
    squares
        Images as `lhs.context.gist.squared` gives them.

    Returns
    -------
    descriptors
        (N, C) float32 of Euclidean norm 1, like label histograms.
    """
    device = next(network.parameters()).device
    batch = len(squares) if device.type == "cuda" else 1
    found = []
    # One at a time on CPUs: the other images of a batch would change the last digits.
    for first in range(0, len(squares), batch):
        pixels = torch.from_numpy(np.stack(squares[first : first + batch])).to(device)
        with torch.inference_mode(), arithmetic("float32", device):
            features = network.pooled(pixels.permute(0, 3, 1, 2).float().contiguous())
            # Row by row: a norm along an axis has other last digits.
            norms = torch.stack([row.norm() for row in features])[:, None]
            tiny = torch.finfo(features.dtype).tiny
            found.append((features / norms.clamp_min(tiny)).float().cpu().numpy())
    return np.concatenate(found)
