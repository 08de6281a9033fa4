"""`lite` and `timm:NAME`: a timm backbone under a light head at stride 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from lhs.config.network import LITE
from lhs.errors import UserError
from lhs.networks.base import Normalise, SceneNetwork
from lhs.networks.patch import BatchDropout

STRIDES = (8, 16, 32)
"""Strides of the maps that the head takes; scores are upsampled from the first."""

# timm is imported where it is used: it takes 1.5 s, and most of Ray's processes build no network.


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class MlpHead(nn.Module):
    """Projections of all levels added up at stride 8, as in the decoder of SegFormer (Xie et al.
    2021).

    Maps at strides 8, 16 and 32, (B, C_i, H / s_i, W / s_i), become one of `channels` at stride 8.
    Each is normalised before it: scales of a pretrained encoder's channels differ by far. The map
    at stride 32 also brings its mean over the whole image, so that every pixel sees the scene it
    is in.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in in_channels)
        self.projections = nn.ModuleList(
            nn.Conv2d(count, channels, 1, bias=False) for count in in_channels
        )
        self.scene = nn.Conv2d(in_channels[-1], channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = [norm(features) for norm, features in zip(self.norms, maps, strict=True)]
        total = self.scene(levels[-1].mean(dim=(2, 3), keepdim=True))
        for projection, features in zip(self.projections, levels, strict=True):
            # Of the fewer pixels, before they are made more: the same, as both are linear.
            total = total + functional.interpolate(
                projection(features), size=levels[0].shape[-2:], mode="bilinear"
            )
        return functional.relu(self.norm(total))


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


class EncoderNetwork(SceneNetwork):
    """Encoder, head and a last layer of 1 x 1 convolutions.

    Parameters
    ----------
    outputs
        Number of classes or subclasses the last layer scores.
    channels
        Width of the head.
    backbone
        Name of a timm model that gives maps at strides 8, 16 and 32.
    head
        `network.head`.

    Raises
    ------
    UserError
        If timm has no such model, or it gives no such maps.
    """

    multiple = STRIDES[-1]
    timm_part = "encoder"

    def __init__(
        self,
        outputs: int,
        channels: int,
        backbone: str = LITE,
        head: Literal["mlp", "pyramid"] = "mlp",
    ) -> None:
        import timm

        super().__init__()
        self.backbone = backbone
        self.levels = _levels(backbone)
        self.encoder = timm.create_model(
            backbone, pretrained=False, features_only=True, out_indices=self.levels
        )
        self.normalise = normalise_of(backbone)
        kind = {"mlp": MlpHead, "pyramid": PyramidHead}[head]
        self.head = kind(self.encoder.feature_info.channels(), channels)
        self.dropout = BatchDropout(0.1)
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward_features(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.head(self.encoder(self.normalise(image))),)

    def forward_head(self, features: tuple[Tensor, ...]) -> Tensor:
        """Scores (B, outputs, H / 8, W / 8)."""
        return self.last(self.dropout(features[0]))

    def pooled(self, image: Tensor) -> Tensor:
        return self.encoder(self.normalise(image))[-1].mean(dim=(2, 3))

    def last_layers(self) -> list[nn.Module]:
        return [self.last]

    def new_layers(self) -> list[nn.Module]:
        return [self.head, self.last]

    def reset_classifier(self, outputs: int) -> None:
        self.last = nn.Conv2d(self.last.in_channels, outputs, 1)


def normalise_of(backbone: str) -> Normalise:
    """The normalisation that timm's weights of a backbone were trained with."""
    import timm

    config = timm.get_pretrained_cfg(backbone)
    return Normalise([255 * value for value in config.mean], [255 * value for value in config.std])


def _levels(backbone: str) -> tuple[int, ...]:
    """Indices of the deepest maps at the head's strides."""
    import timm

    try:
        probe = timm.create_model(backbone, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, ValueError, TypeError) as error:
        raise UserError(
            f"network.name = timm:{backbone}: {error}; allowed are timm models that give feature "
            "maps, such as timm:convnext_tiny or timm:resnet50"
        ) from None
    found = {stride: place for place, stride in enumerate(probe.feature_info.reduction())}
    if not set(STRIDES) <= set(found):
        raise UserError(
            f"network.name = timm:{backbone}: its maps have strides {sorted(found)}, "
            f"needed are {STRIDES}"
        )
    return tuple(found[stride] for stride in STRIDES)
