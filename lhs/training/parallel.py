"""What several workers of one training share: sums, and the statistics of batch norm."""

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
    # Half the time of an all_reduce of a few values with gloo, and in the same order everywhere.
    of_all = value.new_empty(size * value.numel())
    distributed.all_gather_single(of_all, value.flatten())
    return of_all.view(size, *value.shape).sum(0)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether examples of a batch see each other in training."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kind) for module in network.modules())


def share_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let batch norm see the global batch, where several workers train on GPUs.

    On CPUs, for which PyTorch has no such batch norm, each worker has its own statistics, and all
    take over rank 0's running ones: see `shared`.
    """
    if world()[1] == 1 or device.type != "cuda":
        return
    # PyTorch's own conversion would drop the activation inside timm's batch norm.
    from timm.layers import convert_sync_batchnorm

    convert_sync_batchnorm(network)


def shared(model: nn.Module, device: torch.device) -> nn.Module:
    """The model under DDP where several workers train, else as it is."""
    if world()[1] == 1:
        return model
    # Buffers other than batch norm's are the same everywhere, and so are those on GPUs.
    broadcast = has_batch_norm(model) and device.type == "cpu"
    return DistributedDataParallel(model, broadcast_buffers=broadcast, gradient_as_bucket_view=True)
