"""Pretrained weights by the setting `network.weights`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.base import SceneNetwork
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN
from lhs.networks.finite import non_finite
from lhs.networks.patch import PatchNetwork
from lhs.networks.published_weights import (
    EFFICIENTNET_LITE_PACKAGES,
    efficientnet_lite_imagenet,
    squeezenet_imagenet,
    timm_pretrained,
    vgg16_edges,
    vgg16_imagenet,
)
from lhs.networks.smp import SmpNetwork
from lhs.networks.weight_files import (
    existing,
    named_tensors,
    overfeat_release,
    state_file,
    zfnet_onnx,
)

FROM_FILE = ("release", "file")
"""Values of `network.weights` that read `network.weights_file`."""


def load_weights(network: SceneNetwork, config: NetworkConfig) -> list[str]:
    """Load a network's weights from the source that `network.weights` names.

    Returns
    -------
    list of str
        Names of the loaded tensors; all others keep their random values.

    Raises
    ------
    UserError
        If a package or file is missing, does not fit or holds values that are not finite.
    """
    if config.weights == "none":
        return []
    taken = _load(network, config)
    bad = non_finite(network.state_dict())
    if bad:
        raise UserError(
            f"network.weights = {config.weights} {config.weights_file}".rstrip()
            + f": {bad[0]} holds infinity or nan: probably the end of a training that diverged; "
            "take weights from before that"
        )
    return taken


def _load(network: SceneNetwork, config: NetworkConfig) -> list[str]:
    path = _weights_file(config)
    if config.weights == "file":
        return state_file(network, path)
    if isinstance(network, FCN):
        return vgg16_edges(network) if config.weights == "edges" else vgg16_imagenet(network)
    if isinstance(network, EncoderNetwork | SmpNetwork):
        if network.backbone in EFFICIENTNET_LITE_PACKAGES:
            return efficientnet_lite_imagenet(network)
        return timm_pretrained(network)
    assert isinstance(network, PatchNetwork)
    match config.name:
        case "squeezenet":
            return squeezenet_imagenet(network)
        case "overfeat":
            return overfeat_release(network, path)
        case _:
            return zfnet_onnx(network, path)


def weights_digest(config: NetworkConfig) -> dict[str, str]:
    """The sha256 of the file with the weights, as `weights`; empty if they are from elsewhere.

    Raises
    ------
    UserError
        If there is no such file.
    """
    if config.weights not in FROM_FILE:
        return {}
    with existing(_weights_file(config)).open("rb") as file:
        return {"weights": hashlib.file_digest(file, "sha256").hexdigest()}


def check_weights_file(config: NetworkConfig) -> None:
    """Refuse a file of `network.weights = file` that holds no named tensors.

    Raises
    ------
    UserError
        With the file, and what is allowed.
    """
    if config.weights == "file":
        named_tensors(_weights_file(config))


def digest_of(network: SceneNetwork, names: Iterable[str]) -> str | None:
    """The sha256 of the named tensors of a network, wherever they are from; None without a name."""
    state, digest, found = network.state_dict(), hashlib.sha256(), sorted(names)
    for name in found:
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if found else None


def _weights_file(config: NetworkConfig) -> Path:
    # os.path's own: pathlib's raises for a user that does not exist.
    return Path(os.path.expanduser(config.weights_file))
