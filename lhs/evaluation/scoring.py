"""From a trained network to class scores of every pixel of an image, whatever its size."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lhs.evaluation.grid import ScoreGrid
from lhs.evaluation.pooling import SubclassPool
from lhs.networks.base import SceneNetwork
from lhs.networks.folding import folded
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork, class_scores
from lhs.networks.patch import PATCH, PatchNetwork
from lhs.networks.pixelwise import DenseNetwork, cut, dense_scores, parts

TILE = 768
"""Pixels down and across of a tile of an image, where the network allows tiles."""
BATCH = 32
"""Patches that are scored at a time."""


class SummedNetwork(nn.Module):
    """Class scores W p of a subclass network, for prediction."""

    w: Tensor

    def __init__(self, network: nn.Module, w: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("w", w)

    def forward(self, image: Tensor) -> Tensor:
        """(B, L, ...) scores."""
        return summed(self.network(image), self.w)


def summed(subclass_scores: Tensor, w: Tensor) -> Tensor:
    """Class scores W p (Eq. 3) in float32, as in training: autocast would make them bfloat16."""
    device = subclass_scores.device.type
    # No block where none is needed: an export would hold it.
    if not torch.is_autocast_enabled(device):
        return class_scores(subclass_scores, w)
    with torch.autocast(device, enabled=False):
        return class_scores(subclass_scores.float(), w)


def inference_network(model: nn.Module) -> nn.Module:
    """The part of a trained model that predicts: after H, the network with its final W."""
    if isinstance(model, HierarchicalNetwork):
        return SummedNetwork(model.network, model.current_w().detach())
    if isinstance(model, AuxiliaryNetwork):
        # Still in training: a W that picks the classes from among all outputs.
        picked = torch.eye(model.classes, model.classes + model.subclasses)
        return SummedNetwork(model.network, picked.to(next(model.parameters()).device))
    return model


class PixelScores(nn.Module):
    """Class scores of every pixel.

    Parameters
    ----------
    whole
        Gives class scores at its own stride.
    stride
        Patch networks: pixels between two scores, down and across; others are interpolated.
    pool
        Makes class scores of the network's subclass scores, instead of W.

    Attributes
    ----------
    budget
        Patch networks: bytes that a tile may need; None, the default, is what fits the device.

    Raises
    ------
    ValueError
        If the network cannot score at this stride.
    """

    def __init__(self, whole: nn.Module, stride: int = 1, pool: SubclassPool | None = None) -> None:
        super().__init__()
        network = whole.network if isinstance(whole, SummedNetwork) else whole
        assert isinstance(network, SceneNetwork)
        self.network, self.pool = network, pool
        # W and interpolation commute; pooling has to come after it.
        whole = whole if pool is None else network
        self.whole = whole
        self.budget: float | None = None
        self.dense = DenseNetwork(network, stride) if isinstance(network, PatchNetwork) else None
        if self.dense is None and stride != 1:
            raise ValueError(f"stride = {stride} pixels: allowed for patch networks alone")
        self.fast = whole if self.dense else folded(whole, network.multiple)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (1, L, H, W) float32 of (1, 3, H, W) RGB 0..255."""
        return self.grid(image).rows(0, image.shape[2])[None]

    def grid(self, image: Tensor) -> ScoreGrid:
        """Scores of (1, 3, H, W) RGB 0..255 at the network's own stride."""
        return self.grids(image)[0]

    def grids(self, images: Tensor) -> list[ScoreGrid]:
        """Scores of each of (B, 3, H, W) RGB 0..255 at the network's own stride."""
        height, width = images.shape[2:]
        grid = partial(ScoreGrid, height=height, width=width, pool=self.pool)
        if self.dense is not None:
            scores = dense_scores(self.dense, images, PATCH, self.budget).float()
            if isinstance(self.whole, SummedNetwork):
                scores = summed(scores, self.whole.w)
            return [grid(scores=one, stride=self.dense.stride) for one in scores]
        multiple = self.network.multiple
        below, right = -height % multiple, -width % multiple
        padded = images
        if below or right:
            mean = images.mean(dim=(2, 3), keepdim=True)
            padded = torch.cat([images, mean.expand(-1, 3, height, right)], dim=3)
            padded = torch.cat([padded, mean.expand(-1, 3, below, width + right)], dim=2)
        scores = self._in_tiles(padded)
        stride = padded.shape[3] // scores.shape[3]
        return [grid(scores=one, stride=stride, centred=True) for one in scores]

    def _in_tiles(self, padded: Tensor) -> Tensor:
        """The network's scores of padded images.

        A network with a `reach` scores every pixel. Its tiles begin at multiples of `multiple` and
        overlap by all that scores depend on.
        """
        reach, multiple, sides = self.network.reach, self.network.multiple, padded.shape[2:]
        if reach is None or max(sides) <= TILE + 2 * reach:
            return self._scores(padded)
        scores: Tensor | None = None
        for top, below in parts(sides[0], TILE, multiple):
            for left, right in parts(sides[1], TILE, multiple):
                y, x = max(0, top - reach), max(0, left - reach)
                tile = self._scores(padded[:, :, y : below + reach, x : right + reach])
                if scores is None:
                    scores = tile.new_empty(len(tile), tile.shape[1], *sides)
                scores[:, :, top:below, left:right] = tile[
                    :, :, top - y : below - y, left - x : right - x
                ]
        assert scores is not None
        return scores

    def _scores(self, tile: Tensor) -> Tensor:
        scores: Tensor = self.fast(tile.contiguous(memory_format=torch.channels_last))
        return scores.float()

    def at(self, image: Tensor, places: Tensor) -> Tensor:
        """Scores of single pixels, patch by patch (patch networks).

        Parameters
        ----------
        image
            (1, 3, H, W) RGB 0..255.
        places
            (N, 2) y and x.

        Returns
        -------
        Tensor
            (N, L) float32.
        """
        half, found = PATCH // 2, []
        sides = (image.shape[2] + 2 * half, image.shape[3] + 2 * half)
        bordered = cut(image, (-half, -half), sides)
        for some in places.split(BATCH):
            patches = [bordered[:, :, y : y + PATCH, x : x + PATCH] for y, x in some.tolist()]
            found.append(self._scores(torch.cat(patches))[:, :, 0, 0])
        scores = torch.cat(found)
        return scores if self.pool is None else self.pool(scores.T).T
