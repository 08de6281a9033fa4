"""Puts a network together from its configuration, explicitly."""

from __future__ import annotations

from lhs.config import NetworkConfig
from lhs.networks.encoder import EncoderNetwork


def build_network(config: NetworkConfig, outputs: int, *, pretrained: bool) -> EncoderNetwork:
    """A network whose last layer scores `outputs` classes.

    Parameters
    ----------
    config
        Which network, and where its weights come from.
    outputs
        Classes or subclasses.
    pretrained
        Load `config.weights`; without it the weights are random, to be filled from a file.
    """
    network = EncoderNetwork(outputs, config.channels)
    if pretrained and config.weights == "imagenet":
        network.load_imagenet()
    return network
