"""Settings of the network, and which weights each network can start from."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from lhs.config.section import Section

LITE = "tf_efficientnet_lite0"
"""timm's name of the encoder of `lite`, and of `smp:DECODER` where no other is named."""
DECODERS = ("unet", "unetplusplus", "linknet", "deeplabv3", "deeplabv3plus", "segformer")
"""Of segmentation_models.pytorch."""
WEIGHTS = {
    "lite": ("imagenet",),
    "squeezenet": ("imagenet",),
    "clarifai": ("release",),
    "clarifai512": ("release",),
    "overfeat": ("release",),
    "fcn32s": ("imagenet", "edges"),
    "fcn16s": ("imagenet", "edges"),
    "fcn8s": ("imagenet", "edges"),
    "timm:NAME": ("imagenet",),
    **{f"smp:{decoder}": ("imagenet",) for decoder in DECODERS},
}
"""Every network, and the sources of weights it has besides `file` and `none`."""
PATCH_NETWORKS = ("squeezenet", "clarifai", "clarifai512", "overfeat")


BARE_NAME = (
    "the bare name of one of timm's models (letters, digits, _ . -), without `:` and `/`: no hub's "
    "address and no folder"
)


def _bare(name: str) -> bool:
    return re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII) is not None


def _family(network: str) -> str:
    return "timm:NAME" if network.startswith("timm:") else network


class NetworkConfig(Section):
    name: str = "lite"
    """A network of this project, `timm:NAME` for any timm backbone under `lite`'s head, or
    `smp:DECODER` for a decoder of segmentation_models.pytorch."""
    encoder: str | None = None
    """The timm backbone of `smp:DECODER`; None: `tf_efficientnet_lite0`."""
    weights: Literal["imagenet", "edges", "release", "file", "none"] = "imagenet"
    """Where it starts; random weights must be asked for. `release` and `file` read
    `weights_file`: the network's public release, or tensors under this network's own names."""
    weights_file: str = ""
    head: Literal["mlp", "pyramid"] = "mlp"
    """Of `lite` and `timm:NAME`: `mlp`, all levels normalised, projected and added up; `pyramid`, a
    feature pyramid, as models that do not name theirs have."""
    channels: int | None = Field(None, ge=8, le=1024)
    """Width of that head; None: 256 of `mlp`, 96 of `pyramid`."""
    dropout: float | None = Field(None, ge=0.0, lt=1.0)
    """Instead of the network's own."""

    @property
    def label(self) -> str:
        """The name and, of `smp:DECODER`, its encoder."""
        return (
            f"{self.name} on {self.encoder or LITE}" if self.name.startswith("smp:") else self.name
        )

    @property
    def has_head(self) -> bool:
        """Whether `head` and `channels` are used."""
        return self.name == "lite" or self.name.startswith("timm:")

    @property
    def width(self) -> int:
        """`channels`, or what stands for None."""
        return self.channels or (256 if self.has_head and self.head == "mlp" else 96)

    @property
    def patches(self) -> bool:
        """Whether it classifies patches, not whole images."""
        return self.name in PATCH_NETWORKS

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if _family(name) not in WEIGHTS:
            raise ValueError(f"allowed are {', '.join(WEIGHTS)}")
        # Before a name, timm takes `hf-hub:` and `local-dir:` to fetch a model's description.
        if name.startswith("timm:") and not _bare(name.removeprefix("timm:")):
            raise ValueError(f"allowed after timm: is {BARE_NAME}")
        return name

    @field_validator("encoder")
    @classmethod
    def _of_timm(cls, encoder: str | None) -> str | None:
        if encoder is not None and not _bare(encoder):
            raise ValueError(f"allowed is {BARE_NAME}")
        return encoder

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        if self.encoder is not None and not self.name.startswith("smp:"):
            raise ValueError(
                f"encoder = {self.encoder!r}: {self.name} does not use it; allowed with "
                "smp:DECODER, such as name = 'smp:unet'"
            )
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        key = _family(self.name)
        allowed = (*WEIGHTS[key], "file", "none")
        if self.weights not in allowed:
            raise ValueError(
                f"weights = {self.weights!r}: allowed for {self.name} are {', '.join(allowed)}"
            )
        if self.weights in ("release", "file") and not self.weights_file:
            raise ValueError(f"weights = {self.weights!r} needs weights_file, the path of the file")
        return self
