"""Puts a network together from its configuration, explicitly."""

from __future__ import annotations

from lhs.config import NetworkConfig
from lhs.config.network import LITE
from lhs.networks.base import SceneNetwork
from lhs.networks.clarifai import clarifai, clarifai512
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN, FINEST
from lhs.networks.overfeat import overfeat
from lhs.networks.patch import BatchDropout
from lhs.networks.smp import SmpNetwork
from lhs.networks.squeezenet import squeezenet

PATCH_NETWORKS = {
    "clarifai": clarifai,
    "clarifai512": clarifai512,
    "overfeat": overfeat,
    "squeezenet": squeezenet,
}


def build_network(config: NetworkConfig, outputs: int) -> SceneNetwork:
    """A network with random weights, whose last layer scores `outputs` classes or subclasses."""
    network = _build(config, outputs)
    if config.dropout is not None:
        for module in network.modules():
            if isinstance(module, BatchDropout):
                module.p = config.dropout
    return network


def _build(config: NetworkConfig, outputs: int) -> SceneNetwork:
    name = config.name
    if name in PATCH_NETWORKS:
        return PATCH_NETWORKS[name](outputs)
    if name in FINEST:
        return FCN(name, outputs)
    if name.startswith("smp:"):
        return SmpNetwork(outputs, name.removeprefix("smp:"), config.encoder or LITE)
    backbone = LITE if name == "lite" else name.removeprefix("timm:")
    return EncoderNetwork(outputs, config.width, backbone, config.head)
