"""Dense prediction with any patch network: a score for every pixel by one forward pass.

After Li, Zhao and Wang, *Highly Efficient Forward and Backward Propagation of Convolutional Neural
Networks for Pixelwise Classification* (2014). They replace each stride by a dilation of all layers
behind it. Here a strided layer runs at stride 1 and its map is split into phases along the batch
(`space_to_batch`). The multiplications are the same, but they are those of plain layers on maps of
the size that the network was designed for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lhs.networks.dense_layers import (
    Sliding,
    batch_to_space,
    channels_of,
    geometry,
    space_to_batch,
    without_padding,
)
from lhs.networks.memory import Limits, limits
from lhs.networks.patch import PATCH, PatchNetwork


@dataclass(frozen=True)
class _Step:
    """A layer without padding: its window and stride, and the phases its map is split into."""

    layer: nn.Module
    size: int
    stride: int
    phases: int
    channels: int | None


class DenseNetwork(nn.Module):
    """A patch network that scores all pixels of an image at once, with the same weights.

    Parameters
    ----------
    network
        The patch network.
    stride
        Pixels between two outputs, down and across: a product of strides of the network's first
        layers (1 always is allowed).

    Attributes
    ----------
    chunk
        Bytes of phases that go through the layers together; None, the default, is what fits the
        device of the weights.
    start
        Pixels that the first output sees before its patch begins: the padding inside the network.
        Without padding, outputs equal those of single patches. With padding, a layer sees the
        neighbouring pixels where it would see zeros in a patch.

    Raises
    ------
    ValueError
        If the network has a layer without a dense form, or not this stride.
    """

    def __init__(self, network: PatchNetwork, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.chunk: float | None = None
        self.steps: list[_Step] = []
        # A layer keeps its stride until the product is `stride`; the rest of it becomes phases.
        self.start, before, left, phases = 0, 1, stride, 1
        for layer in _cheapest_order([network.normalise, *network.features, network.last]):
            size, own, padding = geometry(layer)
            kept = math.gcd(own, left) if phases == 1 else 1
            left, phases = left // kept, phases * (own // kept)
            self.start, before = self.start + padding * before, before * own
            dense = without_padding(layer, kept, own // kept)
            self.steps.append(_Step(dense, size, kept, own // kept, channels_of(layer)))
        if left != 1:
            raise ValueError(f"stride = {stride} pixels: the network's layers have other strides")
        self.layers = nn.ModuleList(step.layer for step in self.steps)
        self.eval()

    @property
    def limits(self) -> Limits:
        """Bytes of a chunk and of a tile on the device of the weights."""
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
        """Estimated peak bytes for height x width outputs of one image, without the weights."""
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
        """Score an image with the border that its outputs see.

        Parameters
        ----------
        canvas
            (B, 3, h, w) RGB 0..255, h and w as `side` says.

        Returns
        -------
        Tensor
            (B, outputs, h', w'): output (i, j) is that of the patch whose top left pixel is
            (start + i * stride, start + j * stride).
        """
        return self._run(canvas.contiguous(memory_format=torch.channels_last), 0)

    def _run(self, maps: Tensor, place: int) -> Tensor:
        for number in range(place, len(self.steps)):
            step = self.steps[number]
            maps = step.layer(maps)
            if step.phases > 1:
                # Pools split their own output into phases.
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


def _cheapest_order(layers: list[nn.Module]) -> list[nn.Module]:
    """Layers without dropout; an average pool goes behind the 1 x 1 convolution that follows it.

    The two commute, and the average of fewer maps is cheaper.
    """
    order = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    for place, (layer, following) in enumerate(itertools.pairwise(order)):
        if isinstance(layer, nn.AvgPool2d) and isinstance(following, nn.Conv2d):
            single = geometry(following) == (1, 1, 0) and following.groups == 1
            if single and following.out_channels < following.in_channels:
                order[place], order[place + 1] = following, layer
    return order


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
    """A module with the same weights that scores all patches of an image in one pass.

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
    """Scores of the pixels of (B, 3, H, W) at the dense network's stride n, tile by tile.

    Parameters
    ----------
    dense
        Its stride is n.
    image
        RGB 0..255; padded with its mean colour, as patches are in training.
    patch
        Side of the network's patches, odd.
    budget
        Bytes that a tile may need besides weights and result; None is what fits the device. Tiles
        overlap by the receptive field, so there are no seams.

    Returns
    -------
    Tensor
        (B, outputs, ceil(H / n), ceil(W / n)), for the pixels (i * n, j * n).
    """
    if budget is None:
        budget = dense.limits.tile
    rows, columns = (-(-side // dense.stride) for side in image.shape[-2:])
    across = max(rows, columns)
    while (
        across > 1 and len(image) * dense.memory(min(across, rows), min(across, columns)) > budget
    ):
        across = -(-across * 3 // 4) if across > 3 else across - 1
    strips = []
    for top, below in parts(rows, across):
        strip = []
        for left, right in parts(columns, across):
            corner = [first * dense.stride - patch // 2 - dense.start for first in (top, left)]
            size = (dense.side(below - top), dense.side(right - left))
            tile = dense(cut(image, (corner[0], corner[1]), size))
            strip.append(tile[:, :, : below - top, : right - left])
        strips.append(torch.cat(strip, dim=3))
    return torch.cat(strips, dim=2)


def parts(length: int, most: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Split 0..length at multiples of `multiple` into parts of nearly one size."""
    count = -(-length // most)
    marks = [part * (length // multiple) // count * multiple for part in range(count + 1)]
    return itertools.pairwise(marks)


def cut(image: Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A window of (B, 3, H, W) at (y, x); beyond the image it has the image's mean colour."""
    mean = image.mean(dim=(2, 3), keepdim=True).round()
    window = mean.expand(-1, -1, *size).clone(memory_format=torch.channels_last)
    taken, put = [slice(None)] * 2, [slice(None)] * 2
    for first, length, whole in zip(corner, size, image.shape[2:], strict=True):
        start, stop = max(0, first), min(whole, first + length)
        taken.append(slice(start, max(start, stop)))
        put.append(slice(start - first, max(start, stop) - first))
    window[tuple(put)] = image[tuple(taken)]
    return window
