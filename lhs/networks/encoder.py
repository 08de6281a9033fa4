"""`lite`: EfficientNet-Lite0 under a light feature-pyramid head at stride 8."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from torch import Tensor, nn
from torch.nn import functional

from lhs.networks.weights import efficientnet_lite0_imagenet

LITE = "tf_efficientnet_lite0"
STRIDE = 8
"""Output stride of the head; scores are upsampled from there."""
MULTIPLE = 32
"""Images are padded to a multiple of the encoder's deepest stride."""


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class PyramidHead(nn.Module):
    """Top-down feature pyramid (Lin et al. 2017) that ends at stride 8.

    Maps at strides 8, 16 and 32, (B, C_i, H / s_i, W / s_i), become one of `channels` at stride 8;
    the map at stride 32 also brings its mean over the whole image, so that every pixel sees the
    scene it is in.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        self.scene = nn.Conv2d(in_channels[-1], channels, 1)
        self.smooth = nn.ModuleList(_separable(channels) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        top = self.scene(maps[-1].mean(dim=(2, 3), keepdim=True))
        for lateral, smooth, features in reversed(
            list(zip(self.lateral, self.smooth, maps, strict=True))
        ):
            top = functional.interpolate(top, size=features.shape[-2:], mode="nearest")
            top = smooth(lateral(features) + top)
        return top


class EncoderNetwork(nn.Module):
    """Encoder, pyramid head and a last layer of 1 x 1 convolutions.

    Parameters
    ----------
    outputs
        Number of classes or subclasses the last layer scores.
    channels
        Width of the pyramid head.
    """

    def __init__(self, outputs: int, channels: int) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            LITE, pretrained=False, features_only=True, out_indices=(2, 3, 4)
        )
        self.head = PyramidHead(self.encoder.feature_info.channels(), channels)
        self.dropout = nn.Dropout(0.1)
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, outputs, H / 8, W / 8) of images (B, 3, H, W), RGB 0..255, H and W
        multiples of 32."""
        normalised = (image - 127.0) / 128.0
        return self.last(self.dropout(self.head(self.encoder(normalised))))

    def new_layers(self) -> list[nn.Module]:
        """What has no pretrained weights: trained alone before all layers are."""
        return [self.head, self.last]

    def load_imagenet(self) -> None:
        """Start the encoder from ImageNet weights."""
        efficientnet_lite0_imagenet(self.encoder)
