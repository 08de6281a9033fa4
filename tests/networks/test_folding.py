"""Networks without their batch normalisations, against themselves."""

import pytest
import timm
import torch
from torch import nn

from lhs.config import NetworkConfig
from lhs.evaluation.scoring import SummedNetwork
from lhs.networks.build import build_network
from lhs.networks.folding import folded
from tests.networks.geometry import trained

LEFT = 4
"""Of the `mlp` head: before its projections, and behind their sum."""


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["lite", "timm:resnet18", "timm:convnext_atto", "smp:unet", "smp:segformer"]
)
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("head", ["mlp", "pyramid"])
def test_scores_are_the_same(name, head, summed):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, head=head, channels=8, weights="none")
    network = trained(build_network(config, 5))
    whole = SummedNetwork(network, torch.rand(3, 5)) if summed else network
    before = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
    twin = folded(whole, 32)
    image = torch.rand(2, 3, 96, 64) * 255
    with torch.inference_mode():
        expected, found = whole(image), twin(image)
    left = LEFT if config.has_head and head == "mlp" else 0
    assert norms(twin) == left
    if head == "pyramid" or name != "timm:convnext_atto":  # its encoder has layer norms
        assert norms(network) > left
    assert float(expected.std()) > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, before[key])


@pytest.mark.parametrize(("head", "left"), [("mlp", LEFT), ("pyramid", 0)])
def test_it_works_in_inference_mode_too(head, left):
    config = NetworkConfig(name="lite", head=head, channels=8, weights="none")
    with torch.inference_mode():
        twin = folded(trained(build_network(config, 5)), 32)
    assert norms(twin) == left


def test_it_draws_nothing_from_torchs_generator():
    """A training goes on behind it as if nothing had been folded."""
    network = build_network(NetworkConfig(name="lite", channels=8, weights="none"), 5)
    before = torch.get_rng_state()
    folded(network, 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_tensors_are_shared():
    network = trained(build_network(NetworkConfig(name="lite", channels=8, weights="none"), 5))
    twin = folded(network, 32)
    assert twin is not network
    assert twin.last.weight is network.last.weight


class Twice(nn.Module):
    """Something else sees the convolution too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, image):
        features = self.layer(image)
        return features + self.norm(features)


class Between(nn.Module):
    """What is normalised is no longer the convolution's output, though the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, image):
        return self.norm(self.layer(image).relu_())


@pytest.mark.parametrize("kind", [Twice, Between])
def test_where_it_would_change_scores_nothing_is_folded(kind):
    network = trained(kind())
    assert folded(network, 32) is network
    assert norms(network) == 1


def test_one_convolution_for_two_normalisations_stays():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

        def forward(self, image):
            return sum(norm(self.layer(image)) for norm in self.norms)

    network = trained(Shared())
    assert folded(network, 32) is network


def test_it_takes_the_network_s_own_activations_along():
    """timm puts them into its normalisations."""
    network = trained(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    twin = folded(network, 32)
    activations = [layer for layer in twin.modules() if isinstance(layer, nn.ReLU6)]
    assert len(activations) > 30
