"""What makes several workers train as one would: the same batch statistics, the same masks."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lhs.networks.patch import BatchDropout


def world() -> tuple[int, int]:
    """This worker's rank, and how many workers train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def keep_to_own_cores(first: int, count: int) -> None:
    """Keep every thread of this process to `count` of a node's cores, from the given one on.

    Workers that wait for each other at every layer lose a time slice whenever one's messages come
    to the core where another computes. Nothing happens where there are too few cores, or the
    system can't do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    own = sorted(os.sched_getaffinity(0))[first : first + count]
    for thread in os.listdir("/proc/self/task") if len(own) == count else ():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), own)


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all workers, without a gradient."""
    value = value.detach()
    size = world()[1]
    if size == 1:
        return value.clone()
    # Half the time of an all_reduce of a few values with gloo, and in the same order everywhere.
    of_all = value.new_empty(size * value.numel())
    distributed.all_gather_single(of_all, value.flatten())
    return of_all.view(size, *value.shape).sum(0)


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
        return type(norm).forward(norm, features)
    count, mean, variance = _statistics(features)
    _remember(norm, mean, variance, count)
    out: Tensor = _Normalised.apply(
        features, norm.weight, norm.bias, mean, variance, norm.eps, count
    )
    # timm's batch norm has its activation inside.
    for name in ("drop", "act"):
        layer = getattr(norm, name, None)
        if layer is not None:
            out = layer(out)
    return out


@torch.no_grad()
def _statistics(features: Tensor) -> tuple[float, Tensor, Tensor]:
    """Values a channel, their mean and variance (C,) over all workers, in one exchange."""
    own = features.numel() // features.shape[1]
    # Throw-away running values: they make the sums of half precision float32.
    running = features.new_zeros((2, features.shape[1]), dtype=torch.float32)
    mean, variance = torch.batch_norm_update_stats(features, running[0], running[1], 0.0)
    # Squares about zero lose digits in float32, not in float64.
    mean, variance = mean.double(), variance.double()
    sums = total(own * torch.cat([mean, variance + mean.square(), mean.new_ones(1)]))
    count = float(sums[-1])
    mean, square = (sums[:-1] / count).view(2, -1)
    return count, mean.float(), (square - mean.square()).clamp_min(0).float()


class _Normalised(torch.autograd.Function):
    """Batch norm with the statistics of all workers; backward adds what flows through them.

    PyTorch's own kernels do the work on each worker.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor,
        eps: float, count: float,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        return torch.batch_norm(
            features, weight, bias, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], features, weight, mean, variance, None, None, False, ctx.eps,
            [False, True, True],
        )  # fmt: skip
        # What every value of a channel, on any worker, moves by moving the statistics, ...
        shared = total(torch.stack([of_weight, of_bias])) / ctx.count
        inverse = torch.rsqrt(variance + ctx.eps)
        slope = inverse.square() * weight * shared[0]
        offset = inverse * weight * shared[1] - slope * mean
        # (batch norm's kernel is the quickest there is for a * x + b of each channel)
        gradient = torch.batch_norm(
            features, -slope, -offset, torch.zeros_like(mean), torch.ones_like(mean), False, 0.0,
            0.0, torch.backends.cudnn.enabled,
        )  # fmt: skip
        # ... and with them held fixed.
        gradient.addcmul_(gradients[0], (inverse * weight).view(1, -1, 1, 1))
        return gradient, of_weight, of_bias, None, None, None, None


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: float) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * count / max(1.0, count - 1), momentum)
