"""`overfeat`: the fast model of Sermanet et al. (2013), as a patch network."""

from __future__ import annotations

from torch import nn

from lhs.networks.base import rectified
from lhs.networks.patch import BatchDropout, PatchNetwork


def overfeat(outputs: int) -> PatchNetwork:
    """Build OverFeat's fast model, Table 1 of Sermanet et al., *OverFeat: Integrated Recognition,
    Localization and Detection using Convolutional Networks* (2013).

    ======  =====================  ===================  ==============
    layer   what                   weights              side at 227
    ======  =====================  ===================  ==============
    1       11 x 11, stride 4, 96  34,944               56
            max 2 x 2, stride 2                         28
    2       5 x 5, 256             614,656              24
            max 2 x 2, stride 2                         12
    3       3 x 3, 512             1,180,160            12
    4       3 x 3, 1024            4,719,616            12
    5       3 x 3, 1024            9,438,208            12
            max 2 x 2, stride 2                         6
    6       6 x 6, 3072, dropout   113,249,280          1
    7       1 x 1, 4096, dropout   12,587,008           1
    8       1 x 1, `outputs`       4,097 an output      1
    ======  =====================  ===================  ==============

    The table is for 231 x 231 pixels, the paper's patches are 227 x 227: layer 1 has a padding of
    2 here, which brings 227 to 231 and leaves every other side as in the table, so that the
    released weights fit. Outputs are 32 pixels apart.
    """
    features = nn.Sequential(
        *rectified(3, 96, 11, stride=4, padding=2),
        nn.MaxPool2d(2, stride=2),
        *rectified(96, 256, 5),
        nn.MaxPool2d(2, stride=2),
        *rectified(256, 512, 3, padding=1),
        *rectified(512, 1024, 3, padding=1),
        *rectified(1024, 1024, 3, padding=1),
        nn.MaxPool2d(2, stride=2),
        *rectified(1024, 3072, 6),
        BatchDropout(0.5),
        *rectified(3072, 4096, 1),
        BatchDropout(0.5),
    )
    return PatchNetwork(features, 4096, outputs, stride=32)
