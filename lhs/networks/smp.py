"""`smp:DECODER`: a decoder of segmentation_models.pytorch over any timm encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lhs.config.network import LITE
from lhs.errors import UserError
from lhs.networks.base import SceneNetwork
from lhs.networks.encoder import normalise_of
from lhs.networks.patch import BatchDropout

# smp and timm are imported where they are used: see `lhs.networks.encoder`.


class SmpNetwork(SceneNetwork):
    """Encoder and decoder as smp builds them, and a last layer that scores at the decoder's stride.

    smp itself upsamples these scores with aligned corners; here losses and predictions upsample
    them as those of all networks.

    Parameters
    ----------
    outputs
        Number of classes or subclasses the last layer scores.
    decoder
        One of `lhs.config.DECODERS`, with smp's own widths.
    backbone
        Name of a timm model.

    Raises
    ------
    UserError
        If timm has no such model, or the decoder does not take its maps.
    """

    timm_part = "encoder.model"

    def __init__(self, outputs: int, decoder: str, backbone: str = LITE) -> None:
        super().__init__()
        whole = _whole(decoder, backbone)
        self.normalise = normalise_of(backbone)
        self.backbone = backbone
        self.levels = tuple(whole.encoder.model.feature_info.out_indices)
        self.multiple = whole.encoder.output_stride
        self.encoder, self.decoder = whole.encoder, whole.decoder
        # Without dropout of its own, what `network.dropout` asks for is before the last layer.
        self.dropout = nn.Identity() if _replace_dropout(self.decoder) else BatchDropout(0.0)
        self.last = whole.segmentation_head[0]
        self.reset_classifier(outputs)

    def forward_features(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.decoder(self.encoder(self.normalise(image))),)

    def forward_head(self, features: tuple[Tensor, ...]) -> Tensor:
        """Scores (B, outputs, H / s, W / s) at the decoder's stride s."""
        return self.last(self.dropout(features[0]))

    def pooled(self, image: Tensor) -> Tensor:
        return self.encoder(self.normalise(image))[-1].mean(dim=(2, 3))

    def last_layers(self) -> list[nn.Module]:
        return [self.last]

    def new_layers(self) -> list[nn.Module]:
        return [self.decoder, self.last]

    def reset_classifier(self, outputs: int) -> None:
        before = self.last
        self.last = nn.Conv2d(
            before.in_channels, outputs, before.kernel_size, padding=before.padding
        )
        # As smp begins its heads.
        nn.init.xavier_uniform_(self.last.weight)
        nn.init.zeros_(self.last.bias)


def _whole(decoder: str, backbone: str) -> Any:
    """smp's own model with random weights."""
    import segmentation_models_pytorch as smp

    try:
        return smp.create_model(decoder, encoder_name=f"tu-{backbone}", encoder_weights=None)
    # Of smp, and of timm for models that lack a stride or an option.
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise UserError(
            f"network.encoder = {backbone}: {str(error) or type(error).__name__}; allowed with "
            f"smp:{decoder} are timm models that give maps up to stride 32, such as resnet50"
        ) from None


def _replace_dropout(decoder: nn.Module) -> bool:
    """Put the project's dropout in place of torch's; whether there was any."""
    found = False
    for layer in list(decoder.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.Dropout):
                setattr(layer, name, BatchDropout(child.p))
                found = True
    return found
