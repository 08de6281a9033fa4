"""`fcn32s`, `fcn16s`, `fcn8s`: fully convolutional VGG16 (Long et al. 2014)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhs.networks.base import Normalise, SceneNetwork, init_he, rectified
from lhs.networks.patch import BatchDropout

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3 x 3 convolutions before each pooling (Simonyan and Zisserman 2014, D)."""
FINEST = {"fcn32s": 32, "fcn16s": 16, "fcn8s": 8}
"""Stride of the finest map that is scored."""
COARSER = {"fcn16s": "fcn32s", "fcn8s": "fcn16s"}
"""The network that a finer one takes its weights from."""


class FCN(SceneNetwork):
    """VGG16 as convolutions, scored at stride 32 and finer ones, upsampled to the image's size.

    ==================  ==============================  =====================
    part                what                            weights
    ==================  ==============================  =====================
    `blocks`            13 convolutions 3 x 3, five     14,714,688
                        max 2 x 2, stride 2
    `top`               7 x 7, 4096, dropout            102,764,544
                        1 x 1, 4096, dropout            16,781,312
    `score`             1 x 1 at stride 32              4,097 an output
    `score_pool[0]`     1 x 1 on pool 4 (16s, 8s)       513 an output
    `score_pool[1]`     1 x 1 on pool 3 (8s)            257 an output
    `up`                bilinear 4 x 4, stride 2, one   16 an output
                        for each finer map
    `up_last`           bilinear, twice the remaining   4 s s an output
                        stride s                        (s = 32, 16 or 8)
    ==================  ==============================  =====================

    Upsampling is learned from a bilinear start, each output from its own map alone. Where Long et
    al. pad the image by 100 pixels and crop what comes out, the 7 x 7 layer has a padding of 3
    here: the same network with its grid of scores 3 pixels further on, and less zeros around the
    border. `score_pool` starts at zero, so that a finer network begins as the coarser one that it
    takes its weights from, except for the corners that interpolating in two steps cuts.

    Parameters
    ----------
    name
        `fcn32s`, `fcn16s` or `fcn8s`.
    outputs
        Classes or subclasses.
    """

    multiple = 32
    # Pool 5 sees 106 pixels around its middle, the 7 x 7 layer three of its steps more; upsampling
    # in steps reads at most 32 + 16 + 8 pixels away.
    reach = 288

    def __init__(self, name: str, outputs: int) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.blocks = nn.ModuleList()
        channels = 3
        for widths in VGG16:
            layers: list[nn.Module] = []
            for width in widths:
                layers += rectified(channels, width, 3, padding=1)
                channels = width
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, stride=2)))
        self.top = nn.Sequential(
            *rectified(512, 4096, 7, padding=3),
            BatchDropout(0.5),
            *rectified(4096, 4096, 1),
            BatchDropout(0.5),
        )
        init_he(self)
        self.finest = FINEST[name]
        self.reset_classifier(outputs)

    def forward_features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, 4096, H / 32, W / 32) and, for finer networks, pools 4 and 3."""
        maps = self._pools(image)
        finer = {32: (), 16: (maps[3],), 8: (maps[3], maps[2])}[self.finest]
        return (self.top(maps[-1]), *finer)

    def _pools(self, image: Tensor) -> list[Tensor]:
        """Maps behind each of the five poolings."""
        maps = [self.normalise(image)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1:]

    def forward_head(self, features: tuple[Tensor, ...]) -> Tensor:
        """Scores (B, outputs, H, W)."""
        scores = self.score(features[0])
        for up, score, finer in zip(self.up, self.score_pool, features[1:], strict=True):
            scores = up(scores) + score(finer)
        return self.up_last(scores)

    def pooled(self, image: Tensor) -> Tensor:
        return self._pools(image)[-1].mean(dim=(2, 3))

    def last_layers(self) -> list[nn.Module]:
        return [self.score, self.score_pool, self.up, self.up_last]

    def reset_classifier(self, outputs: int) -> None:
        self.score = nn.Conv2d(4096, outputs, 1)
        self.score_pool = nn.ModuleList(
            nn.Conv2d(channels, outputs, 1)
            for channels, stride in ((512, 16), (256, 8))
            if stride >= self.finest
        )
        for layer in (self.score, *self.score_pool):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.score.weight, std=0.01)
        self.up = nn.ModuleList(bilinear(outputs, 2) for _ in self.score_pool)
        self.up_last = bilinear(outputs, self.finest)

    def start_from(self, coarser: FCN) -> list[str]:
        """Copy all tensors of the same name and shape from a coarser network; their names."""
        mine = self.state_dict()
        taken = {
            name: tensor
            for name, tensor in coarser.state_dict().items()
            if name in mine and mine[name].shape == tensor.shape
        }
        self.load_state_dict(taken, strict=False)
        return list(taken)


def bilinear(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A learned upsampling by `factor`, initialised as bilinear interpolation of each map."""
    up = nn.ConvTranspose2d(
        channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False
    )
    centre = factor - 0.5
    tent = 1 - (torch.arange(2 * factor) - centre).abs() / factor
    with torch.no_grad():
        up.weight.copy_((tent[:, None] * tent[None, :]).expand_as(up.weight))
    return up
