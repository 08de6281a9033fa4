"""A large convolution as a sum of matrix products, as fast as the arithmetic allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

ROWS = 128
"""Of every product by oneDNN: it lays the weights out by their number, and takes ten times as long
for another."""
_PLAIN = ((0, 0), (1, 1), (1, 1))
"""Padding, stride and dilation of a plain convolution."""


class SummedConvolution(nn.Module):
    """A convolution as the sum of a matrix product for each position of its kernel.

    Parameters
    ----------
    layer
        Of stride 1, without padding, dilation and groups. Its weights are shared.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.laid_out: list[Tensor] = []

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Hold a copy of the weights in oneDNN's own layout meanwhile, where it multiplies."""
        try:
            if _with_onednn(self.weight):
                self.laid_out = [_laid_out(weight) for weight in self.weight.flatten(2).unbind(2)]
            yield
        finally:
            self.laid_out = []

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, h, w) to (B, L, h - k + 1, w - k + 1)."""
        outputs, channels, size, _ = self.weight.shape
        batch, _, *sides = features.shape
        height, width = (side - size + 1 for side in sides)
        count = batch * height * width
        # Rows of zeros fill the last product up.
        filled = -(-count // ROWS) * ROWS if self.laid_out else count
        total, rows = features.new_zeros(filled, outputs), features.new_zeros(filled, channels)
        if self.bias is not None:
            total += self.bias
        seen = rows[:count].view(batch, height, width, channels)
        maps = features.permute(0, 2, 3, 1)
        for place in range(size**2):
            down, across = divmod(place, size)
            seen.copy_(maps[:, down : down + height, across : across + width])
            if self.laid_out:
                for part, own in zip(total.split(ROWS), rows.split(ROWS), strict=True):
                    _add_by_onednn(part, own, self.laid_out[place])
            else:
                total.addmm_(rows, self.weight[:, :, down, across].t())
        return total[:count].view(batch, height, width, outputs).permute(0, 3, 1, 2)


def _with_onednn(weight: Tensor) -> bool:
    known = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return known and not torch.compiler.is_exporting()


def _laid_out(weight: Tensor) -> Tensor:
    """(L, C) as oneDNN takes it for so many rows."""
    kernel = weight.contiguous()[:, :, None, None]
    maps = [1, weight.shape[1], ROWS, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(kernel, *_PLAIN, 1, maps)


def _add_by_onednn(total: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add to (ROWS, L), in place, (ROWS, C) times laid out (L, C): a convolution that adds."""
    maps, seen = (tensor.t()[None, :, :, None] for tensor in (total, rows))
    torch.ops.mkldnn._convolution_pointwise_.binary(
        maps, seen, weight, None, *_PLAIN, 1, "add", 1.0, None, [], None
    )
