"""What training, prediction and saving need of any network that scores scenes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB 0..255: what networks without weights of their own start from."""


class Normalise(nn.Module):
    """(x - mean) / std of RGB 0..255, (B, 3, H, W).

    Both are buffers: they belong to the weights (each source has its own) and are saved with them.
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
        """Take the statistics that a set of weights was trained with, RGB."""
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class SceneNetwork(nn.Module):
    """Scores n outputs from RGB images 0..255; its last layers can be taken off and made new.

    A subclass gives `lower` (image to features), `upper` (features to scores), `pooled`,
    `last_layers` and `renew`. `multiple` is what image sides are padded to a multiple of before
    they go in. `reach`, such a multiple too, is how many pixels away a score depends on others at
    most, where that is known and the network scores every pixel.
    """

    multiple = 1
    reach: int | None = None
    normalise: Normalise

    def lower(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features below the last layers, of (B, 3, H, W)."""
        raise NotImplementedError

    def upper(self, features: tuple[Tensor, ...]) -> Tensor:
        """Scores (B, outputs, h, w) of the features that `lower` gives."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        return self.upper(self.lower(image))

    def pooled(self, image: Tensor) -> Tensor:
        """Means (B, C) over whole images (B, 3, H, W) of the deepest maps that weights are for."""
        raise NotImplementedError

    def last_layers(self) -> list[nn.Module]:
        """What depends on the number of outputs."""
        raise NotImplementedError

    def new_layers(self) -> list[nn.Module]:
        """What no pretrained weights are for, trained alone before all layers are."""
        return self.last_layers()

    def renew(self, outputs: int) -> None:
        """Put new, random last layers on, for so many outputs."""
        raise NotImplementedError


def start_plain(network: nn.Module) -> None:
    """He et al. 2015's start for plain convolutions, which without batch norm need it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
