"""Any patch network as a dense one: a score for every pixel by one forward pass.

After Li, Zhao and Wang, *Highly Efficient Forward and Backward Propagation of Convolutional Neural
Networks for Pixelwise Classification* (2014): what strides leave out is put back as dilation of
all that follows.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from lhs.networks.base import Normalise
from lhs.networks.patch import BatchDropout, PatchNetwork
from lhs.networks.squeezenet import Fire

POINTWISE = (nn.ReLU, nn.LocalResponseNorm, nn.BatchNorm2d, nn.Dropout, BatchDropout, Normalise)
"""Layers that look at one position, and so stay what they are."""


def to_dense(network: PatchNetwork, every: int = 1) -> nn.Sequential:
    """Turn a patch network into a dense one with the same weights.

    Parameters
    ----------
    network
        Its strides are those of its convolutions and pools.
    every
        Pixels between two outputs, down and across: a divisor of the network's stride at which
        one of its layers ends (1 always is).

    Returns
    -------
    nn.Sequential
        (B, 3, H, W) to (B, outputs, H', W') with H' = (H - P) // every + 1: output (i, j) is
        the score of the patch whose top left pixel is (i * every, j * every). Without padding
        inside the network it is that of the patch alone; with padding, a layer sees the
        neighbouring pixels where in the patch it would see zeros. P is the smallest patch that
        the network takes: 227, but 223 for `squeezenet` and 203 for `clarifai512`, whose pools
        leave the last pixels of 227 out, so that the last outputs are of patches that hang over
        the image's end.

    Raises
    ------
    ValueError
        If the network has a layer of another kind, or `every` is no such divisor.
    """
    layers = [network.normalise, *network.features, network.last]
    dense: list[nn.Module] = []
    stride = dilation = 1
    for layer in layers:
        here = _stride(layer)
        # Up to `every` the network may skip pixels as it was made to.
        kept = here if stride * here <= every else 1
        dense.append(_dilated(layer, dilation, kept))
        stride *= kept
        dilation *= here // kept
    if stride != every:
        raise ValueError(f"every = {every} pixels: the network's layers end at other strides")
    return nn.Sequential(*dense).train(network.training)


def _stride(layer: nn.Module) -> int:
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 1
    stride = layer.stride if isinstance(layer.stride, tuple) else (layer.stride, layer.stride)
    if stride[0] != stride[1]:
        raise ValueError(f"{layer}: allowed are equal strides")
    return int(stride[0])


def _dilated(layer: nn.Module, dilation: int, stride: int) -> nn.Module:
    if isinstance(layer, POINTWISE):
        # A twin with the same tensors: its training or evaluation mode is its own.
        return copy.copy(layer)
    if isinstance(layer, nn.Conv2d) and _plain(layer):
        twin = copy.copy(layer)
        twin.dilation, twin.stride = (dilation, dilation), (stride, stride)
        twin.padding = tuple(int(side) * dilation for side in layer.padding)
        return twin
    if isinstance(layer, nn.MaxPool2d) and _whole(layer) and _ones(layer.dilation):
        return nn.MaxPool2d(layer.kernel_size, stride, dilation=dilation)
    if isinstance(layer, nn.AvgPool2d) and _whole(layer) and isinstance(layer.kernel_size, int):
        return DilatedMean(layer.kernel_size, dilation, stride)
    if isinstance(layer, Fire):
        fire = copy.copy(layer)
        fire._modules = {name: copy.copy(part) for name, part in layer.named_children()}
        fire._modules["expand3"] = _dilated(layer.expand3, dilation, 1)
        return fire
    raise ValueError(f"{layer}: not a layer that has a dense form here")


def _plain(layer: nn.Conv2d) -> bool:
    numbers = not isinstance(layer.padding, str)
    return numbers and layer.padding_mode == "zeros" and _ones(layer.dilation)


def _whole(layer: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether every window lies inside the map and counts as it is."""
    other = layer.ceil_mode or getattr(layer, "divisor_override", None)
    return layer.padding in (0, (0, 0)) and not other


def _ones(value: int | tuple[int, ...]) -> bool:
    return value == 1 or value == (1, 1)


class DilatedMean(nn.Module):
    """Mean over a square of positions `dilation` apart, by sums along rows, then columns."""

    def __init__(self, size: int, dilation: int, stride: int) -> None:
        super().__init__()
        self.size, self.dilation, self.stride = size, dilation, stride

    def forward(self, features: Tensor) -> Tensor:
        reach = (self.size - 1) * self.dilation
        for side in (2, 3):
            length = features.shape[side] - reach
            features = sum(
                (features.narrow(side, k * self.dilation, length) for k in range(1, self.size)),
                start=features.narrow(side, 0, length),
            )
        return features[:, :, :: self.stride, :: self.stride] / self.size**2


def pad_with_mean(image: Tensor, reach: int) -> Tensor:
    """(B, 3, H, W) with `reach` pixels of each image's own mean colour on all sides."""
    batch, channels, height, width = image.shape
    mean = image.mean(dim=(2, 3), keepdim=True).round()
    padded = mean.expand(batch, channels, height + 2 * reach, width + 2 * reach).clone()
    padded[:, :, reach : reach + height, reach : reach + width] = image
    return padded


def dense_scores(dense: nn.Module, image: Tensor, patch: int, every: int) -> Tensor:
    """Scores (B, outputs, H, W) of every pixel of (B, 3, H, W).

    Parameters
    ----------
    dense
        What `to_dense` gave for the same `every`.
    image
        RGB 0..255.
    patch
        Side of the network's patches, odd.
    every
        Pixels between two scores; those between are interpolated.
    """
    height, width = image.shape[-2:]
    scores = dense(pad_with_mean(image, patch // 2))
    if every == 1:
        return scores[:, :, :height, :width]
    # Score (i, j) stands at pixel (i * every, j * every): the last ones may lie short of the edge.
    rows = torch.arange(height, device=image.device) / every
    columns = torch.arange(width, device=image.device) / every
    y = (2 * rows / max(1, scores.shape[2] - 1) - 1) if scores.shape[2] > 1 else 0 * rows
    x = (2 * columns / max(1, scores.shape[3] - 1) - 1) if scores.shape[3] > 1 else 0 * columns
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    return functional.grid_sample(
        scores,
        grid.expand(len(image), -1, -1, -1).to(scores.dtype),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
