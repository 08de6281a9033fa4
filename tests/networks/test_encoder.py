"""The `lite` network: shapes, size, what is pretrained and what is not."""

from importlib import metadata

import cv2
import pytest
import timm
import torch

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.weights import EFFICIENTNET_LITE0_PACKAGE, efficientnet_lite0_imagenet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EncoderNetwork(11, 96).eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (64, 96), (160, 32)])
def test_scores_stand_at_stride_8(network, height, width):
    with torch.inference_mode():
        scores = network(torch.rand(2, 3, height, width) * 255)
    assert scores.shape == (2, 11, height // 8, width // 8)
    assert torch.isfinite(scores).all()


def test_every_pixel_sees_the_whole_scene(network):
    image = torch.full((1, 3, 128, 256), 100.0)
    other = image.clone()
    other[:, :, :, 224:] = torch.rand(1, 3, 128, 32) * 255
    with torch.inference_mode():
        difference = (network(image) - network(other)).abs().amax(dim=(0, 1, 2))
    assert (difference > 0).all()


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_its_size_counted_by_hand():
    """EfficientNet-Lite0 without its 1280-wide top and classifier, and the head written out."""
    network = EncoderNetwork(8, 96)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    top = parameters(whole.conv_head) + parameters(whole.bn2) + parameters(whole.classifier)
    lateral = sum(count * 96 + 96 for count in (40, 112, 320)) + (320 * 96 + 96)
    smooth = 3 * (96 * 9 + 96 * 96 + 2 * 96)
    last = 8 * 96 + 8
    assert parameters(network.encoder) == parameters(whole) - top
    assert parameters(network.head) == lateral + smooth
    assert parameters(network.last) == last
    assert parameters(network) == parameters(whole) - top + lateral + smooth + last
    assert parameters(network) == pytest.approx(3.07e6, rel=0.05)


@pytest.mark.parametrize(("outputs", "channels"), [(1, 8), (300, 32)])
def test_outputs_and_channels_are_as_asked(outputs, channels):
    network = EncoderNetwork(outputs, channels)
    assert network.last.out_channels == outputs
    assert network.last.in_channels == channels


def test_new_layers_are_exactly_what_has_no_pretrained_weights(network):
    taken = efficientnet_lite0_imagenet(EncoderNetwork(2, 8).encoder)
    pretrained = {f"encoder.{name}" for name in taken}
    prefixes = {id(module): name for name, module in network.named_modules()}
    names = [prefixes[id(layer)] for layer in network.new_layers()]
    new = {
        name
        for name in network.state_dict()
        if any(name.startswith(prefix + ".") for prefix in names)
    }
    assert new | pretrained == set(network.state_dict())
    assert not new & pretrained


# ImageNet weights


def source_file() -> str:
    (file,) = [f for f in metadata.files(EFFICIENTNET_LITE0_PACKAGE) if f.suffix == ".pth"]
    return str(file.locate())


def test_imagenet_fills_every_tensor_of_the_encoder():
    torch.manual_seed(0)
    network = EncoderNetwork(3, 8)
    random_head = {name: t.clone() for name, t in network.head.state_dict().items()}
    for tensor in network.encoder.state_dict().values():
        tensor.zero_()
    network.load_imagenet()
    state = network.encoder.state_dict()
    source = torch.load(source_file(), weights_only=True)
    theirs = {(tuple(t.shape), float(t.double().sum())) for t in source.values()}
    for name, tensor in state.items():
        assert (tuple(tensor.shape), float(tensor.double().sum())) in theirs, name
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, random_head[name])


def test_position_matches_by_meaning_too():
    """What stands at one place is the same kind of tensor under both names."""
    source = torch.load(source_file(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    for ours, theirs in zip(whole, source, strict=True):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]


def test_the_weights_know_a_cat_when_they_see_one():
    """The whole classifier on scikit-image's cat: ImageNet's classes 281 to 285 are cats."""
    data = pytest.importorskip("skimage.data")
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    taken = efficientnet_lite0_imagenet(whole)
    assert len(taken) == 296
    cat = cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(cat).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        scores = whole((image - 127) / 128)[0]
    assert 281 <= int(scores.argmax()) <= 285


def test_a_wrong_shape_is_refused(monkeypatch):
    source = torch.load(source_file(), weights_only=True)
    name = list(source)[17]
    source[name] = torch.zeros(*source[name].shape, 2)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: source)
    with pytest.raises(RuntimeError, match="shape") as caught:
        EncoderNetwork(3, 8).load_imagenet()
    assert name in str(caught.value)


def test_a_missing_tensor_is_refused(monkeypatch):
    source = torch.load(source_file(), weights_only=True)
    del source[list(source)[-1]]
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: source)
    with pytest.raises(RuntimeError, match="found 295 tensors, expected 296"):
        EncoderNetwork(3, 8).load_imagenet()


def test_the_file_is_read_without_unpickling(monkeypatch):
    real, asked = torch.load, []

    def load(*args, **kwargs):
        asked.append(kwargs.get("weights_only"))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    EncoderNetwork(3, 8).load_imagenet()
    assert asked == [True]


def test_without_the_package_the_message_says_what_to_do(monkeypatch):
    def gone(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", gone)
    with pytest.raises(UserError, match=r"network\.weights=none"):
        EncoderNetwork(3, 8).load_imagenet()


# Building


def built(weights: str, pretrained: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    config = NetworkConfig(weights=weights, channels=8)
    return build_network(config, 5, pretrained=pretrained).state_dict()


def test_weights_are_loaded_only_where_asked_for():
    loaded, plain = built("imagenet", True), built("imagenet", False)
    stem = "encoder.conv_stem.weight"
    assert not torch.equal(loaded[stem], plain[stem])
    for state in (built("none", True), built("none", False)):
        assert torch.equal(state[stem], plain[stem])
    assert loaded["last.weight"].shape == (5, 8, 1, 1)
