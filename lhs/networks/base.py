"""The interface of all networks, and the normalisation of their images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB 0..255: the statistics of networks without pretrained weights."""


class Normalise(nn.Module):
    """(x - mean) / std of RGB 0..255, (B, 3, H, W).

    Both are buffers, saved with the weights: each source of weights has its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(1, 3, 1, 1))
        self.register_buffer("std", torch.empty(1, 3, 1, 1))
        self.set(mean, std)

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the statistics that weights were trained with, RGB."""
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class SceneNetwork(nn.Module):
    """A network that scores n outputs from RGB images 0..255, in timm's words.

    Attributes
    ----------
    multiple
        Sides of images are padded to a multiple of it.
    reach
        Distance in pixels, a multiple of `multiple`, beyond which a score depends on nothing; None
        where it is unknown or the network does not score every pixel.
    """

    multiple = 1
    reach: int | None = None
    normalise: Normalise

    def forward_features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features before the last layers, of (B, 3, H, W)."""
        raise NotImplementedError

    def forward_head(self, features: tuple[Tensor, ...]) -> Tensor:
        """Scores (B, outputs, h, w) of the output of `forward_features`."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(image))

    def pooled(self, image: Tensor) -> Tensor:
        """Global average (B, C) of the deepest pretrained features of (B, 3, H, W)."""
        raise NotImplementedError

    def last_layers(self) -> list[nn.Module]:
        """Layers whose shape depends on the number of outputs."""
        raise NotImplementedError

    def new_layers(self) -> list[nn.Module]:
        """Layers without pretrained weights, trained alone before all layers are."""
        return self.last_layers()

    def reset_classifier(self, outputs: int) -> None:
        """Replace the last layers by new, random ones with so many outputs."""
        raise NotImplementedError


def rectified(
    channels: int, maps: int, side: int, stride: int = 1, padding: int = 0
) -> tuple[nn.Conv2d, nn.ReLU]:
    """A convolution of `side` x `side` and its ReLU."""
    return nn.Conv2d(channels, maps, side, stride, padding), nn.ReLU(inplace=True)


def init_he(network: nn.Module) -> None:
    """Initialise convolutions as He et al. (2015) do: plain networks without batch norm need it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
