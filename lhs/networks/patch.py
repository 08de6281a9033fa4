"""Patch networks: 227 x 227 pixels in, the class of the pixel in their middle out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhs.networks.base import Normalise, SceneNetwork, start_plain

PATCH = 227
"""Side of a patch (paper section 4.1)."""


class BatchDropout(nn.Dropout):
    """Dropout whose mask of a sample does not hang on the worker that has the sample.

    Every worker draws the mask of the whole global batch and takes its own rows, so that training
    on several workers goes as on one. `rank` and `world_size` are set where training starts; a
    worker holds rows rank, rank + world_size, ... of the batch.
    """

    rank, world_size = 0, 1

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return features
        shape = (features.shape[0] * self.world_size, *features.shape[1:])
        kept = torch.rand(shape, device=features.device)[self.rank :: self.world_size] >= self.p
        return features * kept / (1 - self.p)


class PatchNetwork(SceneNetwork):
    """A classifier of patches, its linear layers written as convolutions.

    `forward` takes (B, 3, 227, 227) to (B, outputs, 1, 1), and larger images to a map of one
    output every `stride` pixels.

    Parameters
    ----------
    features
        From normalised images to the input of the last layer; spatially 1 x 1 for a patch.
    channels
        Of that input.
    outputs
        Classes or subclasses.
    stride
        Pixels between two outputs of `forward`.
    """

    def __init__(self, features: nn.Sequential, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = features
        self.last = nn.Conv2d(channels, outputs, 1)
        self.stride = stride
        start_plain(self.features)
        self.renew(outputs)

    def lower(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.features(self.normalise(image)),)

    def upper(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.last(features[0])

    def pooled(self, image: Tensor) -> Tensor:
        return self.lower(image)[0].mean(dim=(2, 3))

    def last_layers(self) -> list[nn.Module]:
        return [self.last]

    def renew(self, outputs: int) -> None:
        self.last = nn.Conv2d(self.last.in_channels, outputs, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
