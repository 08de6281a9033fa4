"""Weights from the user's own files: ONNX, OverFeat's release, named tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lhs.errors import UserError
from lhs.networks.base import SceneNetwork
from lhs.networks.patch import PatchNetwork

CAFFE_MEAN = (123.68, 116.779, 103.939)
"""RGB mean of Caffe's ImageNet networks, which take BGR without further scaling."""
UNSCALED = (1.0, 1.0, 1.0)


def zfnet_onnx(network: PatchNetwork, path: Path) -> list[str]:
    """Load `clarifai` or `clarifai512` from an ONNX file such as ZFNet-512, by shape.

    Each layer takes the next convolution or matrix of the file, in the order of its graph, that
    has the layer's shape. Layers without one stay random: `clarifai512` finds seven of its layers
    in ZFNet-512, `clarifai` three. The input is assumed to be Caffe's: BGR minus ImageNet's mean.
    """
    found = _onnx_layers(existing(path))
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
    network.normalise.set(CAFFE_MEAN, UNSCALED)
    return copy_tensors(network, taken, path)


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
    # Tensors are stored in any order: the nodes name the bias of each weight.
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
    """Load `overfeat` from the release's raw float32 file `net_weight_0`.

    The file has no header: each layer's weights (out, in, height, width), then its biases. The
    last layer, of 1000 classes, is left out. Input: (RGB - 118.380948) / 61.896913.
    """
    layers = [(n, m) for n, m in network.features.named_modules(prefix="features")
              if isinstance(m, nn.Conv2d)]  # fmt: skip
    expected = sum(m.weight.numel() + m.weight.shape[0] for _, m in layers)
    expected += 1000 * (network.last.in_channels + 1)
    found, rest = divmod(existing(path).stat().st_size, 4)
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
    return copy_tensors(network, taken, path)


def state_file(network: SceneNetwork, path: Path) -> list[str]:
    """Load a network from a file of named tensors: safetensors, or PyTorch's `weights_only`.

    Names must be the network's own. Only the last layers may be missing or of another shape; then
    they stay random.
    """
    source = named_tensors(path)
    mine = network.state_dict(keep_vars=True)
    last = {id(parameter) for layer in network.last_layers() for parameter in layer.parameters()}
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
    return copy_tensors(network, taken, path)


def named_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file that `state_file` loads, by name.

    Raises
    ------
    UserError
        If it is missing, damaged, or holds anything else.
    """
    try:
        if existing(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            source = load_file(str(path))
        else:
            source = torch.load(str(path), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        # Without torch's advice, which is for programmers.
        reason = (str(error).splitlines() or [repr(error)])[0].partition(". In PyTorch")[0]
        raise UserError(
            f"network.weights_file = {path}: not readable as safetensors (by its ending) or as "
            f"plain PyTorch tensors ({reason}); allowed is what `torch.save(network.state_dict(), "
            "FILE)` writes"
        ) from None
    if not isinstance(source, Mapping) or not all(isinstance(t, Tensor) for t in source.values()):
        raise UserError(f"{path}: allowed is a mapping of names to tensors")
    return source


def copy_tensors(network: nn.Module, taken: Mapping[str, Tensor], path: Path) -> list[str]:
    """Copy tensors into a network under its own names; the names.

    Raises
    ------
    UserError
        If a shape differs. Then nothing is copied.
    """
    mine = network.state_dict()
    for name, tensor in taken.items():
        check_shape(path, name, tensor.shape, name, mine[name].shape)
    network.load_state_dict(taken, strict=False)
    return list(taken)


def check_shape(path: Path, theirs: str, found: torch.Size, ours: str, wanted: torch.Size) -> None:
    """Refuse a tensor of a file whose shape is not that of the network's tensor."""
    if found != wanted:
        raise UserError(f"{path}: {theirs} has shape {tuple(found)}, {ours} needs {tuple(wanted)}")


def existing(path: Path) -> Path:
    """The path of `network.weights_file`, which must be there."""
    if not os.path.isfile(path):
        raise UserError(f"network.weights_file = {path}: no such file")
    return path
