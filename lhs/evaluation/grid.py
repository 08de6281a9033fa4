"""Class scores at a grid of pixels, as networks give them, and interpolation between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

STRIP = 16_000_000
"""Scores interpolated at a time."""


@dataclass(frozen=True, kw_only=True)
class ScoreGrid:
    """Scores of an image at the pixels of a grid.

    Attributes
    ----------
    scores
        (L, h, w) float32.
    height, width
        Of the image.
    stride
        Pixels between two of them, down and across.
    centred
        Whether (i, j) is the middle of a square of `stride` x `stride` pixels, as in a strided
        network's map, or the pixel (i * stride, j * stride) itself.
    """

    scores: Tensor
    height: int
    width: int
    stride: int = 1
    centred: bool = False

    def rows(self, top: int, below: int) -> Tensor:
        """Scores (L, below - top, W) of some rows of pixels, interpolated bilinearly.

        They are the same, to the last bit, whatever rows are asked for together.
        """
        if self.stride == 1:
            return self.scores[:, top:below, : self.width]
        if self.centred:
            return self._between_middles(top, below)
        return self._between_pixels(top, below)

    def _between_middles(self, top: int, below: int) -> Tensor:
        # As `interpolate` without `align_corners`, in half its time: the pixels between two middles
        # are one step, the edge's outer half one towards a copy of it.
        stride, (high, wide) = self.stride, self.scores.shape[1:]
        half = stride - stride // 2
        device = self.scores.device
        share = (torch.arange(stride, device=device) + (0.5 if stride % 2 == 0 else 0.0)) / stride
        first = (top + half) // stride
        rows = torch.arange(first, (below - 1 + half) // stride + 2, device=device)
        columns = torch.arange(wide + 2, device=device)
        known = self.scores[:, (rows - 1).clamp(0, high - 1)]
        known = known[:, :, (columns - 1).clamp(0, wide - 1)].contiguous()
        across = torch.lerp(known[:, :, :-1, None], known[:, :, 1:, None], share).flatten(2)
        across = across[:, :, half : half + self.width].contiguous()
        dense = torch.lerp(across[:, :-1, None], across[:, 1:, None], share[:, None]).flatten(1, 2)
        start = top + half - first * stride
        return dense[:, start : start + below - top]

    def _between_pixels(self, top: int, below: int) -> Tensor:
        axes = []
        for start, stop, known in (
            (top, below, self.scores.shape[1]),
            (0, self.width, self.scores.shape[2]),
        ):
            place = torch.arange(start, stop, device=self.scores.device) / self.stride
            axes.append(2 * place / (known - 1) - 1 if known > 1 else 0 * place)
        points = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
        # The last ones may lie short of the edge.
        return functional.grid_sample(
            self.scores[None],
            points[None].to(self.scores.dtype),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )[0]

    def strips(self) -> Iterator[Tensor]:
        """Scores of all rows from the top down, some rows at a time: (L, ., W)."""
        rows = max(1, STRIP // (len(self.scores) * self.width))
        for top in range(0, self.height, rows):
            yield self.rows(top, min(self.height, top + rows))

    def cpu(self) -> ScoreGrid:
        """The same in the main memory."""
        return replace(self, scores=self.scores.cpu())
