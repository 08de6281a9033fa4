"""Networks for tests, and measurements that several tests share."""

import re
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lhs.config import DECODERS, PATCH_NETWORKS, NetworkConfig
from lhs.networks.base import IMAGENET_MEAN, IMAGENET_STD, SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.fcn import FINEST
from lhs.networks.patch import PatchNetwork
from lhs.networks.pixelwise import DenseNetwork

LARGE = {*PATCH_NETWORKS, *FINEST} - {"squeezenet"}
SLOW = LARGE | {f"smp:{decoder}" for decoder in DECODERS}
OUTPUTS = 3
UNFILLED = 7.0
CAFFE_BGR = np.array([103.939, 116.779, 123.68], np.float32)
POINTWISE = (nn.ReLU, nn.LocalResponseNorm, nn.Dropout)


def with_large_ones_thorough(names: Iterable[str]) -> list:
    """Names as parameters of tests; those of networks that take long are marked."""
    return [
        pytest.param(name, marks=pytest.mark.thorough) if name in SLOW else name for name in names
    ]


def shapes_of(name: str, outputs: int = OUTPUTS, **settings) -> SceneNetwork:
    """A network without values: for shapes alone."""
    config = NetworkConfig(name=name, weights="none", channels=8, **settings)
    with torch.device("meta"):
        return build_network(config, outputs).eval()


def built(name: str, outputs: int = OUTPUTS, **settings) -> SceneNetwork:
    """A network with random weights; a large one repeats one block of random numbers."""
    torch.manual_seed(0)
    if name not in LARGE:
        config = NetworkConfig(name=name, weights="none", channels=8, **settings)
        return build_network(config, outputs).eval()
    network = shapes_of(name, outputs, **settings).to_empty(device="cpu")
    # Of a prime length, so that no two filters are the same.
    block = torch.randn(65_537)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
                continue
            scaled, flat = block * (2 / parameter[0].numel()) ** 0.5, parameter.view(-1)
            whole = len(flat) // len(block) * len(block)
            flat[:whole].view(-1, len(block)).copy_(scaled.expand(whole // len(block), -1))
            flat[whole:].copy_(scaled[: len(flat) - whole])
    network.normalise.set(IMAGENET_MEAN, IMAGENET_STD)
    network.reset_classifier(outputs)
    return network


def trained(network: nn.Module) -> nn.Module:
    """Give normalisations statistics and factors as training leaves them."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    return network.eval()


def unfilled(build, *args) -> nn.Module:
    """A large network without the time that random weights take; every number is 7."""
    with torch.device("meta"):
        network = build(*args)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(UNFILLED)
    return network.eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sides(layers: nn.Sequential, image: Tensor) -> list[int]:
    """Side of the map behind every layer that can change it."""
    seen = []
    for layer in layers:
        image = layer(image)
        assert image.shape[2] == image.shape[3]
        if not isinstance(layer, POINTWISE):
            seen.append(image.shape[2])
    return seen


def table(described: Callable | type) -> tuple[list[int], list[int]]:
    """The weights and the sides that a docstring's table names, from top to bottom."""
    rows = re.split(r"^ *=+(?: +=+)+$", described.__doc__ or "", flags=re.M)[2]
    numbers = re.findall(r"\d{1,3}(?:,\d{3})+", rows)
    ends = re.findall(r" (\d+)$", rows, flags=re.M)
    return [int(number.replace(",", "")) for number in numbers], [int(end) for end in ends]


def field(layers: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Receptive field, its start before the first pixel, and stride of (kernel, stride, padding).

    r += (k - 1) j, start += p j, j *= s, from the first layer to the last.
    """
    reach, start, step = 1, 0, 1
    for kernel, stride, padding in layers:
        reach += (kernel - 1) * step
        start += padding * step
        step *= stride
    return reach, start, step


def seen(network: nn.Module, side: int, place: int) -> tuple[list[int], list[int]]:
    """Rows and columns of a random image that the output at (place, place) has a gradient from."""
    image = (torch.rand(1, 3, side, side) * 255).requires_grad_()
    (moved,) = torch.autograd.grad(network(image)[0, :, place, place].square().sum(), image)
    pixels = moved.abs().amax(dim=(0, 1)) > 0
    return [pixels.any(dim).nonzero().flatten().tolist() for dim in (1, 0)]


def untouched(network: nn.Module, image: Tensor) -> list[str]:
    """Names of the parameters that no gradient reaches."""
    network(image).square().mean().backward()
    names = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    network.zero_grad(set_to_none=True)
    return names


def sums(network: nn.Module) -> dict[str, float]:
    """A number per tensor that changes when the tensor does."""
    return {name: float(t.double().sum()) for name, t in network.state_dict().items()}


@torch.inference_mode()
def inner_output(network: PatchNetwork, dense: DenseNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    """An output of a network that sees no padding, and the dense form's for the same pixels."""
    place = -(-dense.start // network.stride)
    first = place * network.stride - dense.start
    side = first + dense.side(1)
    image = torch.rand(1, 3, side, side) * 255
    own = network(image)[:, :, place, place]
    return own, dense(image[:, :, first:, first:])[:, :, 0, 0]
