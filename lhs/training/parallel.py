"""Data-parallel training: sums over workers, batch norm, DDP."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def world() -> tuple[int, int]:
    """This worker's rank, and how many workers train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all workers, without a gradient."""
    value = value.detach()
    size = world()[1]
    if size == 1:
        return value.clone()
    # For few values half the time of gloo's all_reduce, and summed in the same order everywhere.
    of_all = value.new_empty(size * value.numel())
    distributed.all_gather_single(of_all, value.flatten())
    return of_all.view(size, *value.shape).sum(0)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether the network has batch norm, and so depends on the composition of a batch."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kind) for module in network.modules())


def share_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Synchronise batch norm where several workers train on GPUs.

    PyTorch has none for CPUs: there each worker normalises its own shard, and rank 0's running
    statistics are broadcast (see `shared`).
    """
    if world()[1] == 1 or device.type != "cuda":
        return
    # PyTorch's own conversion would drop the activation inside timm's batch norm.
    from timm.layers import convert_sync_batchnorm

    convert_sync_batchnorm(network)


def shared(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, under DDP where several workers train."""
    if world()[1] == 1:
        return model
    # All other buffers are equal on all workers, on GPUs those of batch norm too.
    broadcast = has_batch_norm(model) and device.type == "cpu"
    return DistributedDataParallel(model, broadcast_buffers=broadcast, gradient_as_bucket_view=True)
