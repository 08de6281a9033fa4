"""The layers of a patch network, each in the form that dense prediction needs: without padding."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lhs.networks.base import Normalise
from lhs.networks.products import SummedConvolution
from lhs.networks.squeezenet import Fire

POINTWISE = (nn.ReLU, nn.LocalResponseNorm, nn.BatchNorm2d, Normalise)
"""Layers that compute each position on its own and so need no other form."""
LARGE, MANY = 6, 1024
"""Side of a kernel, and number of channels, from which matrix products beat a convolution."""


def space_to_batch(maps: Tensor, phases: int) -> Tensor:
    """(B, C, h p, w p) to p x p phases (p p B, C, h, w): each has every p-th row and column."""
    batch, channels, height, width = maps.shape
    shape = (batch, height // phases, phases, width // phases, phases, channels)
    parts = maps.permute(0, 2, 3, 1).reshape(shape).permute(2, 4, 0, 1, 3, 5)
    return parts.reshape(-1, height // phases, width // phases, channels).permute(0, 3, 1, 2)


def batch_to_space(parts: Tensor, phases: int) -> Tensor:
    """The inverse of `space_to_batch`."""
    _, channels, height, width = parts.shape
    shape = (phases, phases, -1, height, width, channels)
    maps = parts.permute(0, 2, 3, 1).reshape(shape).permute(2, 3, 0, 4, 1, 5)
    return maps.reshape(-1, height * phases, width * phases, channels).permute(0, 3, 1, 2)


def geometry(layer: nn.Module) -> tuple[int, int, int]:
    """Kernel size, stride and padding of a layer."""
    if isinstance(layer, Fire):
        return 3, 1, 1
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 1, 1, 0
    numbers = []
    for value in (layer.kernel_size, layer.stride, layer.padding):
        pair = value if isinstance(value, tuple) else (value, value)
        if isinstance(value, str) or pair[0] != pair[1]:
            raise ValueError(f"{layer}: not a layer that has a dense form: allowed are equal sides")
        numbers.append(int(pair[0]))
    size, stride, padding = numbers
    return size, stride, padding


def channels_of(layer: nn.Module) -> int | None:
    """Output channels of a layer that changes their number; else None."""
    if isinstance(layer, Fire):
        return layer.expand1.out_channels + layer.expand3.out_channels
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def without_padding(layer: nn.Module, stride: int, phases: int) -> nn.Module:
    """The layer at `stride` without padding, with the same tensors.

    Raises
    ------
    ValueError
        If there is no such form of it.
    """
    if isinstance(layer, POINTWISE):
        # A copy that shares the tensors, with its own training or evaluation mode.
        return copy.copy(layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and _is_one(layer.dilation):
        size = layer.kernel_size[0]
        large = (size >= LARGE and layer.in_channels >= 64) or layer.in_channels >= MANY
        if large and stride == layer.groups == 1:
            return SummedConvolution(layer)
        twin = copy.copy(layer)
        twin.stride, twin.padding = (stride, stride), (0, 0)
        return twin
    if isinstance(layer, nn.MaxPool2d) and _plain_pool(layer) and _is_one(layer.dilation):
        return Sliding(torch.maximum, geometry(layer)[0], stride, phases)
    if isinstance(layer, nn.AvgPool2d) and _plain_pool(layer):
        return Sliding(torch.add, geometry(layer)[0], stride, phases)
    if isinstance(layer, Fire):
        return DenseFire(layer)
    raise ValueError(f"{layer}: not a layer that has a dense form here")


def _plain_pool(layer: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether every window lies inside the map, and a mean divides by the window's size."""
    other = layer.ceil_mode or getattr(layer, "divisor_override", None)
    return layer.padding in (0, (0, 0)) and not other


def _is_one(value: int | tuple[int, ...]) -> bool:
    return value == 1 or value == (1, 1)


class Sliding(nn.Module):
    """Max or average pooling whose output is split into phases."""

    def __init__(
        self, combine: Callable[..., Tensor], size: int, stride: int, phases: int = 1
    ) -> None:
        super().__init__()
        self.combine, self.size, self.stride, self.phases = combine, size, stride, phases

    def forward(self, features: Tensor) -> Tensor:
        """(p p B, C, h, w) as `space_to_batch` orders them."""
        if self.combine is torch.add:
            features = features.float()  # sums lose too much in bfloat16
        batch, channels, *sides = features.shape
        down, across = (((side - self.size) // self.stride + 1) // self.phases for side in sides)
        parts = features.new_empty(self.phases**2 * batch, down, across, channels)
        parts = parts.permute(0, 3, 1, 2)
        for column in range(self.phases):
            rows = self._along(features, 3, column, across)
            for row in range(self.phases):
                place = (row * self.phases + column) * batch
                self._along(rows, 2, row, down, parts[place : place + batch])
        return parts.div_(self.size**2) if self.combine is torch.add else parts

    def _along(
        self, features: Tensor, side: int, phase: int, length: int, out: Tensor | None = None
    ) -> Tensor:
        """Pool along one side only, for one phase."""
        step = self.stride * self.phases
        views = [
            features.narrow(side, phase * self.stride + k, (length - 1) * step + 1)[
                (slice(None),) * side + (slice(None, None, step),)
            ]
            for k in range(self.size)
        ]
        total = self.combine(views[0], views[1], out=out) if self.size > 1 else views[0].clone()
        for view in views[2:]:
            total = self.combine(total, view, out=total)
        return total if out is None or self.size > 1 else out.copy_(total)


class DenseFire(nn.Module):
    """`Fire` without its padding."""

    def __init__(self, fire: Fire) -> None:
        super().__init__()
        # Copies that share the tensors, as above.
        self.squeeze, self.expand1 = copy.copy(fire.squeeze), copy.copy(fire.expand1)
        self.expand3 = copy.copy(fire.expand3)
        self.expand3.padding = (0, 0)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = self.squeeze(features).relu_()
        single, wide = self.expand1(squeezed[:, :, 1:-1, 1:-1]), self.expand3(squeezed)
        batch, channels, height, width = wide.shape
        both = features.new_empty(batch, height, width, 2 * channels).permute(0, 3, 1, 2)
        # The ReLU writes both halves into place.
        torch.clamp_min(single, 0, out=both[:, :channels])
        torch.clamp_min(wide, 0, out=both[:, channels:])
        return both
