"""Patch networks: they classify the centre pixel of a patch of 227 x 227 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhs.networks.base import Normalise, SceneNetwork, init_he

PATCH = 227
"""Side of a patch (paper section 4.1)."""


BITS = 0xFFFFFFFF
FACTORS = (0x7FEB352D, 0x45D9F3B)
"""Odd and below 2^31, so that the product with a value of 32 bits fits into int64."""


class BatchDropout(nn.Dropout):
    """Dropout whose mask of a sample depends only on that sample's key.

    With `keys` (B,), made by `mask_keys`, masks are the same on any device, with any number of
    workers and in a resumed training, and torch's generators are not used. Without keys it is
    torch's own dropout.
    """

    keys: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return features
        if self.keys is None:
            return super().forward(features)
        return features * kept(self.keys, features.shape[1:], self.p) / (1 - self.p)


def mask_keys(seed: int, step: int, layer: int, places: Tensor) -> Tensor:
    """Keys of the dropout masks of one layer in one step.

    Parameters
    ----------
    seed, step, layer
        Whole numbers, at least 0.
    places
        (B,) int64 index of each sample in the global batch.

    Returns
    -------
    Tensor
        (B,) int64 in 0..2^32 - 1, on the device of `places`.
    """
    key = torch.zeros_like(places)
    for part in (seed, step, layer, places):
        # The odd constant lets a part of 0 change the key too.
        key = _hashed((key ^ part) + 0x9E3779B9 & BITS)
    return key


def kept(keys: Tensor, shape: torch.Size, rate: float) -> Tensor:
    """Which values dropout keeps, by a hash of the sample's key and the value's index.

    Parameters
    ----------
    keys
        (B,) int64 in 0..2^32 - 1.
    shape
        Of one sample.
    rate
        Share to drop.

    Returns
    -------
    Tensor
        (B, *shape) bool.
    """
    places = _hashed(torch.arange(shape.numel(), device=keys.device) + 1)
    drawn = _hashed(places.view(1, *shape) ^ keys.view(-1, *[1] * len(shape)))
    return drawn >= round(rate * (BITS + 1))


def _hashed(value: Tensor) -> Tensor:
    """Hash 32-bit values in int64, which all devices support: each bit affects all others."""
    value = (value ^ (value >> 16)) * FACTORS[0] & BITS
    value = (value ^ (value >> 15)) * FACTORS[1] & BITS
    return value ^ (value >> 16)


class PatchNetwork(SceneNetwork):
    """A patch classifier whose linear layers are written as convolutions.

    `forward` maps (B, 3, 227, 227) to (B, outputs, 1, 1), and larger images to a map with one
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
        init_he(self.features)
        self.reset_classifier(outputs)

    def forward_features(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.features(self.normalise(image)),)

    def forward_head(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.last(features[0])

    def pooled(self, image: Tensor) -> Tensor:
        return self.forward_features(image)[0].mean(dim=(2, 3))

    def last_layers(self) -> list[nn.Module]:
        return [self.last]

    def reset_classifier(self, outputs: int) -> None:
        self.last = nn.Conv2d(self.last.in_channels, outputs, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
