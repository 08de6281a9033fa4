"""What every network does, whatever its name: the shared test that each of them passes."""

import gc
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import nn

from lhs.config import PATCH_NETWORKS, WEIGHTS
from lhs.errors import UserError
from lhs.networks import build
from lhs.networks.base import SceneNetwork
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN, FINEST
from lhs.networks.hierarchical import AuxiliaryNetwork
from lhs.networks.patch import BatchDropout, PatchNetwork
from lhs.networks.smp import SmpNetwork
from tests.networks.geometry import (
    OUTPUTS,
    built,
    shapes_of,
    sums,
    untouched,
    with_large_ones_thorough,
)


class Expected(NamedTuple):
    """What is known of a network."""

    kind: type[SceneNetwork]
    stride: int | None
    """Pixels between two scores; a network of patches says its own."""
    dropout: float
    tensors: int
    shapes: str
    """Digest of the names and shapes of its tensors, as stored models have them."""


NETWORKS = {
    "clarifai": Expected(PatchNetwork, None, 0.5, 18, "1951371ae6edf2cd"),
    "clarifai512": Expected(PatchNetwork, None, 0.5, 18, "be6703f64a55ea15"),
    "overfeat": Expected(PatchNetwork, None, 0.5, 18, "34866debf73eb013"),
    "squeezenet": Expected(PatchNetwork, None, 0.5, 54, "298b4082b000092d"),
    "fcn32s": Expected(FCN, 1, 0.5, 35, "ab1dfb7182697199"),
    "fcn16s": Expected(FCN, 1, 0.5, 38, "5fce0395e34e366c"),
    "fcn8s": Expected(FCN, 1, 0.5, 41, "ab76f7b315e9961a"),
    "lite": Expected(EncoderNetwork, 8, 0.1, 316, "699e64e1628436cc"),
    "timm:resnet18": Expected(EncoderNetwork, 8, 0.1, 148, "7072007a6a461e53"),
    "smp:unet": Expected(SmpNetwork, 1, 0.0, 352, "660c44fc54fe726a"),
    "smp:unetplusplus": Expected(SmpNetwork, 1, 0.0, 424, "3a0bf023d1edce2d"),
    "smp:linknet": Expected(SmpNetwork, 1, 0.0, 387, "c25b0e1e87bb773f"),
    "smp:deeplabv3": Expected(SmpNetwork, 8, 0.5, 334, "94086786d52ca172"),
    "smp:deeplabv3plus": Expected(SmpNetwork, 4, 0.5, 351, "7aa8718ef761b58a"),
    "smp:segformer": Expected(SmpNetwork, 4, 0.0, 308, "e9832fad9fcbe343"),
}
by_name = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="module", params=with_large_ones_thorough(NETWORKS))
def network(request: pytest.FixtureRequest) -> Iterator[SceneNetwork]:
    yield built(request.param, dropout=0.0)
    gc.collect()


def image_for(network: SceneNetwork, batch: int = 2) -> torch.Tensor:
    """The smallest that serves for all tests."""
    side = 227 if isinstance(network, PatchNetwork) else 2 * network.multiple
    device = next(network.parameters()).device
    return torch.rand(batch, 3, side, side, device=device) * 255


def last_names(network: SceneNetwork) -> set[str]:
    """Names of the tensors of the last layers."""
    names = {id(module): name for name, module in network.named_modules()}
    prefixes = tuple(names[id(layer)] + "." for layer in network.last_layers())
    return {name for name in network.state_dict() if name.startswith(prefixes)}


def test_every_network_of_the_configuration_is_here():
    assert set(NETWORKS) == {name.replace("NAME", "resnet18") for name in WEIGHTS}
    assert set(PATCH_NETWORKS) == set(build.PATCH_NETWORKS)


@pytest.mark.thorough
def test_networks_of_one_family_differ():
    first = [shapes_of(name).features[8].out_channels for name in ("clarifai", "clarifai512")]
    assert first == [384, 512]
    assert [shapes_of(name).finest for name in FINEST] == [32, 16, 8]
    assert built("lite").backbone == "tf_efficientnet_lite0"
    assert built("timm:resnet18").backbone == "resnet18"
    assert built("smp:unet").backbone == "tf_efficientnet_lite0"
    assert built("smp:unet", encoder="resnet18").backbone == "resnet18"


def test_a_timm_name_that_does_not_serve_is_refused():
    with pytest.raises(UserError, match="timm:no_such_model"):
        built("timm:no_such_model")


@pytest.mark.thorough
@by_name
@pytest.mark.parametrize(("down", "across"), [(0, 0), (1, 0), (1, 2), (0, 4)])
def test_scores_have_the_networks_stride(name, down, across):
    network = shapes_of(name)
    assert type(network) is NETWORKS[name].kind
    step = network.stride if name in PATCH_NETWORKS else network.multiple
    first = 227 if name in PATCH_NETWORKS else step
    height, width = first + down * step, first + across * step
    scores = network(torch.empty(2, 3, height, width, device="meta"))
    if name in PATCH_NETWORKS:
        assert scores.shape == (2, OUTPUTS, 1 + down, 1 + across)
    else:
        stride = NETWORKS[name].stride
        assert scores.shape == (2, OUTPUTS, height // stride, width // stride)


@pytest.mark.thorough
def test_forward_is_the_head_on_the_features(network):
    image = image_for(network)
    with torch.inference_mode():
        scores = network(image)
        torch.testing.assert_close(network.forward_head(network.forward_features(image)), scores)
        assert torch.isfinite(scores).all()
        pooled = network.pooled(image)
    assert pooled.ndim == len(pooled) == 2
    assert torch.isfinite(pooled).all()


# fcn8s has all layers of fcn16s and fcn32s, and takes 15 s on one core.
@pytest.mark.parametrize(
    "network", with_large_ones_thorough(sorted({*NETWORKS} - {"fcn16s", "fcn32s"})), indirect=True
)
def test_gradients_reach_every_weight(network):
    for module in network.modules():
        # timm starts the last norm of a residual branch at zero, which hides the branch at first.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    try:
        assert untouched(network.train(), image_for(network)) == []
    finally:
        network.eval()


def test_reset_classifier_replaces_the_last_layers_alone(network):
    image = image_for(network, batch=1)
    last = last_names(network)
    with torch.no_grad():
        for layer in network.last_layers():
            for parameter in layer.parameters():
                parameter.normal_()
        before, features = sums(network), network.forward_features(image)
        network.reset_classifier(OUTPUTS)
        after = sums(network)
        assert {name for name in before if before[name] != after[name]} == last
        network.reset_classifier(OUTPUTS + 2)
        assert last_names(network) == last
        assert network(image).shape[:2] == (1, OUTPUTS + 2)
        for one, other in zip(network.forward_features(image), features, strict=True):
            torch.testing.assert_close(one, other)
    network.reset_classifier(OUTPUTS)


def test_without_the_auxiliary_outputs_the_others_score_as_before(network):
    image = image_for(network, batch=1)
    model = AuxiliaryNetwork(network, OUTPUTS, 2)
    network.reset_classifier(OUTPUTS + 2)
    with torch.no_grad():
        for layer in network.last_layers():
            for parameter in layer.parameters():
                parameter.normal_()
        scores, subclass_scores = model(image)
        plain = model.without_auxiliary()(image)
    assert (scores.shape[1], subclass_scores.shape[1]) == (OUTPUTS, 2)
    # Convolutions of other widths sum in another order.
    torch.testing.assert_close(plain, scores, rtol=0, atol=1e-5 * float(scores.abs().max()))
    assert model.without_auxiliary() is network


@pytest.mark.thorough
@by_name
def test_the_last_layers_are_all_that_depends_on_the_outputs(name):
    few, many = shapes_of(name, 2), shapes_of(name, 9)
    shapes = {key: tensor.shape for key, tensor in few.state_dict().items()}
    differing = {key for key, t in many.state_dict().items() if t.shape != shapes[key]}
    assert differing == last_names(many) == last_names(few)
    assert set(many.last_layers()) <= set(many.new_layers())


@by_name
def test_the_names_and_shapes_of_the_weights_are_those_of_stored_models(name):
    assert names_and_shapes(shapes_of(name)) == NETWORKS[name][-2:]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lite", (321, "8400f952eb17745c")), ("timm:resnet18", (153, "e35146315b0fc1f0"))],
)
def test_those_under_a_pyramid_are_as_they_were(name, expected):
    assert names_and_shapes(shapes_of(name, head="pyramid")) == expected


def names_and_shapes(network: SceneNetwork) -> tuple[int, str]:
    state = network.state_dict()
    lines = sorted(f"{key} {tuple(tensor.shape)}" for key, tensor in state.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.thorough
@by_name
def test_dropout_is_the_networks_own_or_what_was_asked_for(name):
    def rates(network: SceneNetwork) -> set[float]:
        layers = [module for module in network.modules() if "Drop" in type(module).__name__]
        # Another kind would draw other masks on two workers than on one.
        assert {type(layer) for layer in layers} == {BatchDropout}
        return {layer.p for layer in layers}

    assert rates(shapes_of(name)) == {NETWORKS[name].dropout}
    assert rates(shapes_of(name, dropout=0.25)) == {0.25}
    assert rates(shapes_of(name, dropout=0.0)) == {0.0}


@pytest.mark.thorough
def test_the_same_seed_builds_the_same_network():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build.PATCH_NETWORKS["squeezenet"](5).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["last.weight"], states[2]["last.weight"])
