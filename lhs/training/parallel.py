"""What makes several workers train as one would: the same batch statistics, the same masks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from lhs.networks.patch import BatchDropout


def world() -> tuple[int, int]:
    """This worker's rank, and how many workers train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all workers, without a gradient."""
    value = value.detach().clone()
    if world()[1] > 1:
        distributed.all_reduce(value)
    return value


class _SumOverWorkers(torch.autograd.Function):
    """A sum over all workers that gradients flow back through, summed as well."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        return total(value)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


def act_as_one(network: nn.Module) -> None:
    """Let batch norm and dropout see the global batch; nothing changes with a single worker.

    PyTorch's own synchronised batch norm needs GPUs; this one also runs on CPUs (gloo).
    """
    rank, size = world()
    if size == 1:
        return
    for module in network.modules():
        if isinstance(module, BatchDropout):
            module.rank, module.world_size = rank, size
        elif isinstance(module, nn.BatchNorm2d):
            module.forward = partial(_shared_norm, module)  # type: ignore[method-assign]


def _shared_norm(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    if not norm.training:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
    else:
        count = features.new_tensor([features.numel() / features.shape[1]])
        sums = torch.cat([count, features.sum(dim=(0, 2, 3))])
        count, mean = _SumOverWorkers.apply(sums).split([1, features.shape[1]])
        mean = mean / count
        centred = features - mean.view(1, -1, 1, 1)
        variance = _SumOverWorkers.apply(centred.square().sum(dim=(0, 2, 3))) / count
        _remember(norm, mean.detach(), variance.detach(), float(count.detach()))
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    shift = norm.bias - mean * scale
    out = features * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    # timm's batch norm has its activation inside.
    for name in ("drop", "act"):
        layer = getattr(norm, name, None)
        if layer is not None:
            out = layer(out)
    return out


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: float) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * count / max(1.0, count - 1), momentum)
