"""Every name becomes its network, with the outputs and the dropout that were asked for."""

import pytest
import torch

from lhs.config import PATCH_NETWORKS, WEIGHTS, NetworkConfig
from lhs.errors import UserError
from lhs.networks import build
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN, FINEST
from lhs.networks.patch import BatchDropout, PatchNetwork

LARGE = ["clarifai", "clarifai512", "overfeat", "fcn32s", "fcn16s", "fcn8s"]
NAMES = [*LARGE, "squeezenet", "lite", "timm:resnet18"]


def built(name: str, outputs: int = 5, **settings):
    """The large ones without values."""
    config = NetworkConfig(name=name, weights="none", channels=8, **settings)
    with torch.device("meta" if name in LARGE else "cpu"):
        return build_network(config, outputs)


def test_every_network_of_the_configuration_is_here():
    assert set(NAMES) == {name.replace("NAME", "resnet18") for name in WEIGHTS}
    assert set(PATCH_NETWORKS) == set(build.PATCH_NETWORKS)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_its_network(name):
    kind = {**dict.fromkeys(PATCH_NETWORKS, PatchNetwork), **dict.fromkeys(FINEST, FCN)}
    network = built(name)
    assert type(network) is kind.get(name, EncoderNetwork)
    side = 227 if name in PATCH_NETWORKS else 2 * network.multiple
    image = torch.rand(1, 3, side, side, device=next(network.parameters()).device) * 255
    assert network.eval()(image).shape[:2] == (1, 5)


def test_networks_of_one_family_are_told_apart():
    first = [built(name).features[8].out_channels for name in ("clarifai", "clarifai512")]
    assert first == [384, 512]
    assert [built(name).finest for name in FINEST] == [32, 16, 8]
    assert built("lite").backbone == "tf_efficientnet_lite0"
    assert built("timm:resnet18").backbone == "resnet18"


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_the_networks_own_or_what_was_asked_for(name):
    def rates(network):
        return {m.p for m in network.modules() if isinstance(m, BatchDropout)}

    assert rates(built(name)) == {0.1 if name in ("lite", "timm:resnet18") else 0.5}
    assert rates(built(name, dropout=0.25)) == {0.25}
    assert rates(built(name, dropout=0.0)) == {0.0}


def test_the_same_seed_builds_the_same_network():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(built("squeezenet").state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["last.weight"], states[2]["last.weight"])


def test_a_timm_name_that_does_not_serve_is_refused():
    with pytest.raises(UserError, match="timm:no_such_model"):
        built("timm:no_such_model")
