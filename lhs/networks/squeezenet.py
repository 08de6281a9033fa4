"""`squeezenet`: SqueezeNet 1.1 (Iandola et al. 2016), as a patch network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhs.networks.base import rectified
from lhs.networks.patch import BatchDropout, PatchNetwork


class Fire(nn.Module):
    """Squeeze to few channels by 1 x 1, expand by 1 x 1 and 3 x 3, side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = self.relu(self.squeeze(features))
        return self.relu(torch.cat([self.expand1(squeezed), self.expand3(squeezed)], dim=1))


def squeezenet(outputs: int) -> PatchNetwork:
    """Build SqueezeNet 1.1, of AlexNet's class at 1/50 of its weights.

    ========  ==============================  =========  =============
    layer     what                            weights    side at 227
    ========  ==============================  =========  =============
    1         3 x 3, stride 2, 64             1,792      113
              max 3 x 3, stride 2                        56
    fire 2-3  16 squeezed, 64 + 64            23,840     56
              max 3 x 3, stride 2                        27
    fire 4-5  32 squeezed, 128 + 128          94,784     27
              max 3 x 3, stride 2                        13
    fire 6-7  48 squeezed, 192 + 192          215,904    13
    fire 8-9  64 squeezed, 256 + 256          386,176    13
              mean 13 x 13, dropout                      1
    10        1 x 1, `outputs`                513 an     1
                                              output
    ========  ==============================  =========  =============

    The release scores first and takes the mean then; the two commute, and this way the last layer
    sees one vector per patch, as in the other patch networks. The ReLU that the release has behind
    its scores is left out: class scores may be negative. Outputs are 16 pixels apart.
    """
    features = nn.Sequential(
        *rectified(3, 64, 3, stride=2),
        nn.MaxPool2d(3, stride=2),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
        nn.AvgPool2d(13, stride=1),
        BatchDropout(0.5),
    )
    return PatchNetwork(features, 512, outputs, stride=16)
