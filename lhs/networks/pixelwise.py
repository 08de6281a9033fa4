"""Any patch network as a dense one: a score for every pixel by one forward pass.

After Li, Zhao and Wang, *Highly Efficient Forward and Backward Propagation of Convolutional Neural
Networks for Pixelwise Classification* (2014). They put what strides leave out back as dilation of
all that follows; here a map is divided into its phases instead, which stand side by side in the
batch. Both make the same multiplications, but in phases they are those of plain layers on maps of
the size that the network was made for.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lhs.networks.base import Normalise
from lhs.networks.memory import Limits, limits
from lhs.networks.patch import PATCH, PatchNetwork
from lhs.networks.products import SummedConvolution
from lhs.networks.squeezenet import Fire

POINTWISE = (nn.ReLU, nn.LocalResponseNorm, nn.BatchNorm2d, Normalise)
"""Layers that look at one position, and so stay what they are."""
LARGE, MANY = 6, 1024
"""Sides of a kernel, and channels, from which matrix products are quicker than a convolution."""


@dataclass(frozen=True)
class _Step:
    """A layer without padding: `size` positions at a time, `stride` apart, then `phases` a side."""

    layer: nn.Module
    size: int
    stride: int
    phases: int
    channels: int | None


class DenseNetwork(nn.Module):
    """A patch network, with the same weights, that scores every pixel at once.

    Parameters
    ----------
    network
        Its strides are those of its convolutions and pools.
    every
        Pixels between two outputs, down and across: a divisor of the network's stride at which
        its layers can stop (1 always is).

    Attributes
    ----------
    chunk
        Bytes of phases that go through the layers together; None, the default, is what fits the
        device of the weights.
    start
        Pixels that the first output sees before its patch begins: the padding inside the network.
        Without any, outputs are those of the patches alone; with some, a layer sees the
        neighbouring pixels where in the patch it would see zeros.

    Raises
    ------
    ValueError
        If the network has a layer of another kind, or `every` is no such divisor.
    """

    def __init__(self, network: PatchNetwork, every: int = 1) -> None:
        super().__init__()
        self.every = every
        self.chunk: float | None = None
        self.steps: list[_Step] = []
        self.start, stride, left, divided = 0, 1, every, 1
        for layer in _cheapest_order([network.normalise, *network.features, network.last]):
            size, here, padding = _geometry(layer)
            kept = math.gcd(here, left) if divided == 1 else 1
            left, divided = left // max(1, kept), divided * (here // kept)
            self.start, stride = self.start + padding * stride, stride * here
            dense = _without_padding(layer, kept, here // kept)
            self.steps.append(_Step(dense, size, kept, here // kept, _channels(layer)))
        if left != 1:
            raise ValueError(f"every = {every} pixels: the network's layers end at other strides")
        self.layers = nn.ModuleList(step.layer for step in self.steps)
        self.eval()

    @property
    def limits(self) -> Limits:
        """Bytes of a chunk and of a tile, by the device of the weights."""
        found = limits(next(self.parameters()).device)
        return found if self.chunk is None else found._replace(chunk=self.chunk)

    def side(self, outputs: int) -> int:
        """Pixels across that `forward` needs for so many outputs across, or a few more."""
        return self._sides(outputs)[0]

    def _sides(self, outputs: int) -> list[int]:
        """Positions across before each layer, in one phase of the map."""
        across = -(-outputs // math.prod(step.phases for step in self.steps))
        sides = []
        for step in reversed(self.steps):
            across = (across * step.phases - 1) * step.stride + step.size
            sides.append(across)
        return sides[::-1]

    def memory(self, height: int, width: int) -> int:
        """Bytes that height x width outputs of one image need at most, about, besides weights."""
        down, over = self._sides(height), self._sides(width)
        most = held = 0
        chunk = self.limits.chunk
        count, channels = 1, 3
        for place, step in enumerate(self.steps):
            before = count * channels * down[place] * over[place]
            channels = step.channels or channels
            after = (down[place] - step.size) // step.stride + 1
            after *= (over[place] - step.size) // step.stride + 1
            most = max(most, held + 3 * (before + count * channels * after))
            if step.phases > 1:
                parts = step.phases**2 * count
                held += 2 * count * channels * after
                one = 4 * count * channels * after / parts
                count = int(min(parts, max(1, chunk // one)))
        return 4 * (most + 3 * channels * height * width)

    @torch.no_grad()
    def forward(self, canvas: Tensor) -> Tensor:
        """Score an image with all that its outputs see around it.

        Parameters
        ----------
        canvas
            (B, 3, h, w) RGB 0..255, h and w as `side` says.

        Returns
        -------
        Tensor
            (B, outputs, h', w'): output (i, j) is that of the patch whose top left pixel is
            (start + i * every, start + j * every).
        """
        return self._run(canvas.contiguous(memory_format=torch.channels_last), 0)

    def _run(self, maps: Tensor, place: int) -> Tensor:
        for number in range(place, len(self.steps)):
            step = self.steps[number]
            maps = step.layer(maps)
            if step.phases > 1:
                # Pools divide what they give on their own.
                parts = maps
                if not isinstance(step.layer, Sliding):
                    parts = space_to_batch(maps, step.phases)
                del maps
                return self._phase_by_phase(parts, step.phases, number + 1)
        return maps

    def _phase_by_phase(self, parts: Tensor, phases: int, place: int) -> Tensor:
        most = self.limits.chunk / (parts[0].numel() * parts.element_size())
        most = max(1, int(min(most, len(parts))))
        together = -(-len(parts) // -(-len(parts) // most))
        done = [self._run(part, place) for part in parts.split(together)]
        return batch_to_space(done[0] if len(done) == 1 else torch.cat(done), phases)


def space_to_batch(maps: Tensor, phases: int) -> Tensor:
    """(B, C, h p, w p) to its p x p phases (p p B, C, h, w), each of every p-th row and column."""
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


def _cheapest_order(layers: list[nn.Module]) -> list[nn.Module]:
    """Layers without dropout, and a mean behind the layer of single positions that follows it.

    The two commute, and a mean of fewer maps is cheaper.
    """
    order = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    for place, (layer, following) in enumerate(itertools.pairwise(order)):
        if isinstance(layer, nn.AvgPool2d) and isinstance(following, nn.Conv2d):
            single = _geometry(following) == (1, 1, 0) and following.groups == 1
            if single and following.out_channels < following.in_channels:
                order[place], order[place + 1] = following, layer
    return order


def _geometry(layer: nn.Module) -> tuple[int, int, int]:
    """Size, stride and padding of a layer."""
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


def _channels(layer: nn.Module) -> int | None:
    """Of a layer's maps, where it changes their number."""
    if isinstance(layer, Fire):
        return layer.expand1.out_channels + layer.expand3.out_channels
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _without_padding(layer: nn.Module, stride: int, phases: int) -> nn.Module:
    if isinstance(layer, POINTWISE):
        # A twin with the same tensors: its training or evaluation mode is its own.
        return copy.copy(layer)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and _ones(layer.dilation):
        size = layer.kernel_size[0]
        large = (size >= LARGE and layer.in_channels >= 64) or layer.in_channels >= MANY
        if large and stride == layer.groups == 1:
            return SummedConvolution(layer)
        twin = copy.copy(layer)
        twin.stride, twin.padding = (stride, stride), (0, 0)
        return twin
    if isinstance(layer, nn.MaxPool2d) and _whole(layer) and _ones(layer.dilation):
        return Sliding(torch.maximum, _geometry(layer)[0], stride, phases)
    if isinstance(layer, nn.AvgPool2d) and _whole(layer):
        return Sliding(torch.add, _geometry(layer)[0], stride, phases)
    if isinstance(layer, Fire):
        return DenseFire(layer)
    raise ValueError(f"{layer}: not a layer that has a dense form here")


def _whole(layer: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether every window lies inside the map and counts as it is."""
    other = layer.ceil_mode or getattr(layer, "divisor_override", None)
    return layer.padding in (0, (0, 0)) and not other


def _ones(value: int | tuple[int, ...]) -> bool:
    return value == 1 or value == (1, 1)


class Sliding(nn.Module):
    """Maximum or mean of a square at every `stride`-th position, divided into its phases."""

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
        """One phase, and along one side only."""
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
        # Twins, as above.
        self.squeeze, self.expand1 = copy.copy(fire.squeeze), copy.copy(fire.expand1)
        self.expand3 = copy.copy(fire.expand3)
        self.expand3.padding = (0, 0)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = self.squeeze(features).relu_()
        single, wide = self.expand1(squeezed[:, :, 1:-1, 1:-1]), self.expand3(squeezed)
        batch, channels, height, width = wide.shape
        both = features.new_empty(batch, height, width, 2 * channels).permute(0, 3, 1, 2)
        # Put side by side by the pass that rectifies.
        torch.clamp_min(single, 0, out=both[:, :channels])
        torch.clamp_min(wide, 0, out=both[:, channels:])
        return both


class ValidCentres(nn.Module):
    """A patch network that scores every pixel whose whole patch lies inside the image."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.dense = DenseNetwork(network)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, L, H - 226, W - 226) of (B, 3, H, W) RGB 0..255.

        Raises
        ------
        ValueError
            If the image is smaller than a patch.
        """
        rows, columns = (side - PATCH + 1 for side in image.shape[2:])
        if min(rows, columns) < 1:
            raise ValueError(
                f"image: found {image.shape[2]} x {image.shape[3]} pixels, allowed are {PATCH} x "
                f"{PATCH} and more"
            )
        corner = (-self.dense.start, -self.dense.start)
        canvas = cut(image, corner, (self.dense.side(rows), self.dense.side(columns)))
        scores: Tensor = self.dense(canvas)
        return scores[:, :, :rows, :columns]


def to_dense(network: PatchNetwork) -> ValidCentres:
    """A module with the same weights that scores all patches of an image at once.

    Parameters
    ----------
    network
        A patch network of this project.

    Returns
    -------
    ValidCentres
        (B, 3, H, W) RGB 0..255 to (B, L, H - 226, W - 226), one output per valid centre.
    """
    return ValidCentres(network)


def dense_scores(
    dense: DenseNetwork, image: Tensor, patch: int, budget: float | None = None
) -> Tensor:
    """Scores of every pixel of (B, 3, H, W), or of those that `dense` scores.

    Parameters
    ----------
    dense
        Scores every n-th pixel.
    image
        RGB 0..255. Beyond its border lies its mean colour, as around patches in training.
    patch
        Side of the network's patches, odd.
    budget
        Bytes that a tile may need besides weights and result; None is what fits the device. Tiles
        overlap by all that outputs see, so there are no seams.

    Returns
    -------
    Tensor
        (B, outputs, ceil(H / n), ceil(W / n)), for the pixels (i * n, j * n).
    """
    if budget is None:
        budget = dense.limits.tile
    rows, columns = (-(-side // dense.every) for side in image.shape[-2:])
    across = max(rows, columns)
    while (
        across > 1 and len(image) * dense.memory(min(across, rows), min(across, columns)) > budget
    ):
        across = -(-across * 3 // 4) if across > 3 else across - 1
    strips = []
    for top, below in parts(rows, across):
        strip = []
        for left, right in parts(columns, across):
            corner = [first * dense.every - patch // 2 - dense.start for first in (top, left)]
            size = (dense.side(below - top), dense.side(right - left))
            tile = dense(cut(image, (corner[0], corner[1]), size))
            strip.append(tile[:, :, : below - top, : right - left])
        strips.append(torch.cat(strip, dim=3))
    return torch.cat(strips, dim=2)


def parts(length: int, most: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Divide 0..length into parts of nearly one size, from one multiple to another."""
    count = -(-length // most)
    marks = [part * (length // multiple) // count * multiple for part in range(count + 1)]
    return itertools.pairwise(marks)


def cut(image: Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A window of (B, 3, H, W) at (y, x), which may reach beyond it; there is the mean colour."""
    mean = image.mean(dim=(2, 3), keepdim=True).round()
    window = mean.expand(-1, -1, *size).clone(memory_format=torch.channels_last)
    taken, put = [slice(None)] * 2, [slice(None)] * 2
    for first, length, whole in zip(corner, size, image.shape[2:], strict=True):
        start, stop = max(0, first), min(whole, first + length)
        taken.append(slice(start, max(start, stop)))
        put.append(slice(start - first, max(start, stop) - first))
    window[tuple(put)] = image[tuple(taken)]
    return window
