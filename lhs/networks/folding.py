"""Batch norm folded into the convolution before it: prediction takes a quarter less time."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def folded(network: nn.Module, multiple: int) -> nn.Module:
    """A copy without batch norm that gives the same scores, except for rounding.

    It shares all other tensors with the network. A forward pass finds which convolution each batch
    norm follows. If the copy's scores differ, as where the output of a convolution has another use
    too, the network itself is returned.

    Parameters
    ----------
    network
        Trained; takes (B, 3, H, W) images.
    multiple
        Its images' sides must be multiples of it.

    Returns
    -------
    nn.Module
        In evaluation mode.
    """
    network.eval()
    tensors = itertools.chain(network.parameters(), network.buffers())
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    # Its own generator: validation during a training must not change torch's.
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 2 * multiple, 2 * multiple, generator=draw) * 255
    image = image.to(next(network.parameters()).device)
    pairs = _pairs(twin, image)
    if not pairs:
        return network
    for convolution, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
    # timm's batch norms contain their activation.
    left = {norm: getattr(norm, "act", nn.Identity()) for _, norm in pairs}
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if child in left:
                setattr(parent, name, left[child])
    with torch.inference_mode():
        expected, found = network(image), twin(image)
    alike = torch.allclose(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
    return twin if alike else network


def _pairs(network: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose unchanged output is the input of a batch norm."""
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    pairs = []

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        made[id(output)] = (layer, output, output._version)

    def match(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(inputs[0]) in made:
            layer, output, version = made[id(inputs[0])]
            if output._version == version:
                pairs.append((layer, norm))

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(note))
        elif isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            hooks.append(layer.register_forward_pre_hook(match))
    # Tensors made in inference mode have no version counter.
    with torch.inference_mode(False), torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    used = [layer for layer, _ in pairs]
    return [pair for pair in pairs if used.count(pair[0]) == 1]
