"""`clarifai`: the network of Zeiler and Fergus (2014), as a patch network."""

from __future__ import annotations

from torch import nn

from lhs.networks.base import rectified
from lhs.networks.patch import BatchDropout, PatchNetwork


def _contrast() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


def clarifai(outputs: int) -> PatchNetwork:
    """Build the ZF network, Fig. 3 of Zeiler and Fergus, *Visualizing and Understanding
    Convolutional Networks* (2014).

    ======  =========================  ==================  =============
    layer   what                       weights             side at 227
    ======  =========================  ==================  =============
    1       7 x 7, stride 2, 96        14,208              111
            max 3 x 3, stride 2, norm                      55
    2       5 x 5, stride 2, 256       614,656             27
            max 3 x 3, stride 2, norm                      13
    3       3 x 3, 384                 885,120             13
    4       3 x 3, 384                 1,327,488           13
    5       3 x 3, 256                 884,992             13
            max 3 x 3, stride 2                            6
    6       6 x 6, 4096, dropout       37,752,832          1
    7       1 x 1, 4096, dropout       16,781,312          1
    8       1 x 1, `outputs`           4,097 an output     1
    ======  =========================  ==================  =============

    The figure's input of 224 pixels gives sides 110, 55, 26, 13, 13, 6 with windows that hang over
    the border. At 227 a padding of 1 in layer 2 makes every window fit: 111, 55, 27, 13, 13, 6.
    Layers 3 to 5 have the padding 1 that keeps their side. "Contrast normalised across feature
    maps" is local response normalisation over 5 maps. Outputs are 32 pixels apart.
    """
    features = nn.Sequential(
        *rectified(3, 96, 7, stride=2),
        nn.MaxPool2d(3, stride=2),
        _contrast(),
        *rectified(96, 256, 5, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2),
        _contrast(),
        *_top(256, (384, 384, 256), side=6),
    )
    return PatchNetwork(features, 4096, outputs, stride=32)


def clarifai512(outputs: int) -> PatchNetwork:
    """Build the larger ZF network, with 512, 1024 and 512 maps in layers 3 to 5.

    It is the last row of Table 2 of Zeiler and Fergus, and what the public ZFNet-512 release
    holds: whole windows only and no padding in layer 2, so that sides are 111, 55, 26, 12, 12, 5
    at 227 pixels and layer 6 is 5 x 5.
    """
    features = nn.Sequential(
        *rectified(3, 96, 7, stride=2),
        nn.MaxPool2d(3, stride=2),
        _contrast(),
        *rectified(96, 256, 5, stride=2),
        nn.MaxPool2d(3, stride=2),
        _contrast(),
        *_top(256, (512, 1024, 512), side=5),
    )
    return PatchNetwork(features, 4096, outputs, stride=32)


def _top(channels: int, maps: tuple[int, int, int], side: int) -> list[nn.Module]:
    """Layers 3 to 7."""
    layers: list[nn.Module] = []
    for count in maps:
        layers += rectified(channels, count, 3, padding=1)
        channels = count
    layers.append(nn.MaxPool2d(3, stride=2))
    for kernel in (side, 1):
        layers += [*rectified(channels, 4096, kernel), BatchDropout(0.5)]
        channels = 4096
    return layers
