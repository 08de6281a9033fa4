"""The encoder networks: shapes, size, what is pretrained and what is not."""

from importlib import metadata

import cv2
import pytest
import timm
import torch

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.published_weights import EFFICIENTNET_LITE0_PACKAGE
from lhs.networks.weights import load_weights
from tests.networks.geometry import count, sums

LITE = NetworkConfig(channels=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EncoderNetwork(11, 96).eval()


def test_every_pixel_sees_the_whole_scene(network):
    image = torch.full((1, 3, 128, 256), 100.0)
    other = image.clone()
    other[:, :, :, 224:] = torch.rand(1, 3, 128, 32) * 255
    with torch.inference_mode():
        difference = (network(image) - network(other)).abs().amax(dim=(0, 1, 2))
    assert (difference > 0).all()


def test_its_size_counted_by_hand():
    """EfficientNet-Lite0 without its 1280-wide top and classifier, and the head written out."""
    network = EncoderNetwork(8, 96)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    top = count(whole.conv_head) + count(whole.bn2) + count(whole.classifier)
    lateral = sum(count * 96 + 96 for count in (40, 112, 320)) + (320 * 96 + 96)
    smooth = 3 * (96 * 9 + 96 * 96 + 2 * 96)
    last = 8 * 96 + 8
    assert count(network.encoder) == count(whole) - top
    assert count(network.head) == lateral + smooth
    assert count(network.last) == last
    assert count(network) == count(whole) - top + lateral + smooth + last
    assert count(network) == pytest.approx(3.07e6, rel=0.05)


@pytest.mark.parametrize(("outputs", "channels"), [(1, 8), (300, 32)])
def test_outputs_and_channels_are_as_asked(outputs, channels):
    network = EncoderNetwork(outputs, channels)
    assert network.last.out_channels == outputs
    assert network.last.in_channels == channels


def test_new_layers_are_exactly_what_has_no_pretrained_weights():
    network = EncoderNetwork(2, 8)
    pretrained = set(load_weights(network, LITE))
    prefixes = {id(module): name for name, module in network.named_modules()}
    names = [prefixes[id(layer)] for layer in network.new_layers()]
    new = {
        name
        for name in network.state_dict()
        if any(name.startswith(prefix + ".") for prefix in names)
    }
    normalisation = {"normalise.mean", "normalise.std"}
    assert new | pretrained | normalisation == set(network.state_dict())
    assert not new & pretrained
    assert set(network.last_layers()) < set(network.new_layers())


# Other backbones


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_any_backbone_with_maps_at_strides_8_16_and_32_serves(backbone):
    network = EncoderNetwork(4, 8, backbone).eval()
    assert network.encoder.feature_info.reduction() == [8, 16, 32]
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 96) * 255).shape == (1, 4, 8, 12)


def test_images_are_normalised_as_the_backbone_had_them():
    network = EncoderNetwork(2, 8, "resnet18")
    mean, std = (getattr(network.normalise, part).flatten() for part in ("mean", "std"))
    torch.testing.assert_close(mean, torch.tensor([123.675, 116.28, 103.53]))
    torch.testing.assert_close(std, torch.tensor([58.395, 57.12, 57.375]))


@pytest.mark.parametrize("backbone", ["no_such_model", "vit_tiny_patch16_224"])
def test_a_backbone_that_gives_no_such_maps_is_refused(backbone):
    with pytest.raises(UserError, match=rf"network\.name = timm:{backbone}: .*(allowed|needed)"):
        EncoderNetwork(2, 8, backbone)


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
    taken = load_weights(network, LITE)
    state = network.encoder.state_dict()
    assert taken == [f"encoder.{name}" for name in state]
    source = torch.load(source_file(), weights_only=True)
    theirs = {(tuple(t.shape), float(t.double().sum())) for t in source.values()}
    for name, tensor in state.items():
        assert (tuple(tensor.shape), float(tensor.double().sum())) in theirs, name
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, random_head[name])
    assert network.normalise.mean.flatten().tolist() == [127] * 3
    assert network.normalise.std.flatten().tolist() == [128] * 3


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
    network = EncoderNetwork(2, 8)
    load_weights(network, LITE)
    source = torch.load(source_file(), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), source.values(), strict=True)))
    whole.load_state_dict(network.encoder.state_dict(), strict=False)
    cat = cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(cat).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        scores = whole(network.normalise(image))[0]
    assert 281 <= int(scores.argmax()) <= 285


def test_a_wrong_shape_is_refused(monkeypatch):
    source = torch.load(source_file(), weights_only=True)
    name = list(source)[17]
    source[name] = torch.zeros(*source[name].shape, 2)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: source)
    with pytest.raises(UserError, match=r"\.pth: .* has shape") as caught:
        load_weights(EncoderNetwork(3, 8), LITE)
    assert name in str(caught.value)


def test_a_missing_tensor_is_refused(monkeypatch):
    source = torch.load(source_file(), weights_only=True)
    del source[list(source)[-1]]
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: source)
    with pytest.raises(UserError, match=r"\.pth: found 295 tensors, expected 296"):
        load_weights(EncoderNetwork(3, 8), LITE)


def test_the_file_is_read_without_unpickling(monkeypatch):
    real, asked = torch.load, []

    def load(*args, **kwargs):
        asked.append(kwargs.get("weights_only"))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    load_weights(EncoderNetwork(3, 8), LITE)
    assert asked == [True]


def test_without_the_package_the_message_says_what_to_do(monkeypatch):
    def gone(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", gone)
    with pytest.raises(UserError, match=r"network\.weights=none"):
        load_weights(EncoderNetwork(3, 8), LITE)


def test_weights_are_loaded_only_where_asked_for():
    torch.manual_seed(4)
    network = build_network(LITE, 5)
    before = sums(network)
    assert load_weights(network, NetworkConfig(weights="none", channels=8)) == []
    assert sums(network) == before
    load_weights(network, LITE)
    after = sums(network)
    changed = {name.partition(".")[0] for name in before if before[name] != after[name]}
    assert changed == {"encoder", "normalise"}
