"""From a trained network to class scores of every pixel of an image, whatever its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import HierarchicalNetwork, class_scores
from lhs.networks.patch import PATCH, PatchNetwork
from lhs.networks.pixelwise import DenseNetwork, dense_scores


class SummedNetwork(nn.Module):
    """Class scores W p of a subclass network, for prediction."""

    w: Tensor

    def __init__(self, network: nn.Module, w: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("w", w)

    def forward(self, image: Tensor) -> Tensor:
        """(B, L, ...) scores."""
        return class_scores(self.network(image), self.w)


def inference_network(model: nn.Module) -> nn.Module:
    """What must be kept of a trained model: after H, the network and the W it ended with."""
    if isinstance(model, HierarchicalNetwork):
        return SummedNetwork(model.network, model.current_w().detach())
    return model


class PixelScores(nn.Module):
    """Class scores of every pixel.

    Parameters
    ----------
    whole
        Gives class scores at its own stride.
    every
        Patch networks: pixels between two scores, down and across; those between are interpolated.
    """

    def __init__(self, whole: nn.Module, every: int = 1) -> None:
        super().__init__()
        self.whole = whole
        network = whole.network if isinstance(whole, SummedNetwork) else whole
        assert isinstance(network, SceneNetwork)
        self.network = network
        self.dense = DenseNetwork(network, every) if isinstance(network, PatchNetwork) else None

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, L, H, W) float32 of (B, 3, H, W) RGB 0..255."""
        if self.dense is not None:
            scores = dense_scores(self.dense, image, PATCH).float()
            whole = self.whole
            return class_scores(scores, whole.w) if isinstance(whole, SummedNetwork) else scores
        batch, _, height, width = image.shape
        below, right = -height % self.network.multiple, -width % self.network.multiple
        mean = image.mean(dim=(2, 3), keepdim=True)
        padded = torch.cat([image, mean.expand(batch, 3, height, right)], dim=3)
        padded = torch.cat([padded, mean.expand(batch, 3, below, width + right)], dim=2)
        scores = self.whole(padded.contiguous(memory_format=torch.channels_last))
        return functional.interpolate(
            scores.float(), size=padded.shape[-2:], mode="bilinear", align_corners=False
        )[:, :, :height, :width]
