"""A large convolution as a sum of matrix products, as fast as the arithmetic allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

ROWS = (64, 128, 256, 512)
"""Of a product by oneDNN. It lays weights out by this number and takes ten times as long for other
ones, so all products of a pass have the same."""
_PLAIN = ((0, 0), (1, 1), (1, 1))
"""Padding, stride and dilation of a plain convolution."""


class SummedConvolution(nn.Module):
    """A convolution as the sum of a matrix product for each row of its kernel.

    Parameters
    ----------
    layer
        Of stride 1, without padding, dilation and groups. Its weights are shared.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.rows = 0
        self.laid_out: list[Tensor] | None = None

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Hold a copy of the weights in oneDNN's own layout meanwhile, where it multiplies."""
        self.laid_out = []
        try:
            yield
        finally:
            self.laid_out = None

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, h, w) to (B, L, h - k + 1, w - k + 1)."""
        outputs, channels, size, _ = self.weight.shape
        batch, _, *sides = features.shape
        height, width = (side - size + 1 for side in sides)
        count = batch * height * width
        by_onednn = self._lay_out(count)
        # Rows of zeros fill the last product up.
        filled = -(-count // self.rows) * self.rows if by_onednn else count
        total = features.new_zeros(filled, outputs)
        rows = features.new_zeros(filled, size * channels)
        if self.bias is not None:
            total += self.bias
        seen = rows[:count].view(batch, height, width, size, channels)
        windows = features.permute(0, 2, 3, 1).unfold(2, size, 1).transpose(3, 4)
        for row, weight in enumerate(by_onednn or self._kernel_rows()):
            seen.copy_(windows[:, row : row + height])
            if by_onednn:
                for part, own in zip(total.split(self.rows), rows.split(self.rows), strict=True):
                    _add_by_onednn(part, own, weight)
            else:
                total.addmm_(rows, weight.t())
        return total[:count].view(batch, height, width, outputs).permute(0, 3, 1, 2)

    def _lay_out(self, count: int) -> list[Tensor] | None:
        """The weights of each row of the kernel for oneDNN, or None where it does not multiply."""
        known = self.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.laid_out is None or not known or torch.compiler.is_exporting():
            return None
        if not self.laid_out:
            # By the first maps of a pass: few rows in vain, and no more products than need be.
            self.rows = min(ROWS, key=lambda rows: -(-count // rows) * (rows + 8))
            self.laid_out = [_laid_out(weight, self.rows) for weight in self._kernel_rows()]
        return self.laid_out

    def _kernel_rows(self) -> Iterator[Tensor]:
        """(L, k C) weights of each row of the kernel."""
        for row in self.weight.unbind(2):
            yield row.transpose(1, 2).flatten(1)


def _laid_out(weight: Tensor, rows: int) -> Tensor:
    """(L, C) as oneDNN takes it for so many rows."""
    kernel = weight.contiguous()[:, :, None, None]
    maps = [1, weight.shape[1], rows, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(kernel, *_PLAIN, 1, maps)


def _add_by_onednn(total: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add to (N, L), in place, (N, C) times laid out (L, C): a convolution that adds."""
    maps, seen = (tensor.t()[None, :, :, None] for tensor in (total, rows))
    torch.ops.mkldnn._convolution_pointwise_.binary(
        maps, seen, weight, None, *_PLAIN, 1, "add", 1.0, None, [], None
    )
