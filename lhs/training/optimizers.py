"""Optimizers and learning-rate schedules: which layers learn how fast, and decay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

from lhs.config import TrainConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import HierarchicalNetwork


def build_optimizer(
    model: nn.Module,
    network: SceneNetwork,
    config: TrainConfig,
    learning_rate: float,
    device: torch.device,
) -> Optimizer:
    """The optimizer of a phase, over everything in `model` that is not frozen.

    Layers without pretrained weights learn at the phase's rate, the others at `encoder_factor`
    times it, and W at `w_factor` times it. With AdamW biases and the scales of norms do not decay,
    as is usual (timm); with SGD everything does: the paper's beta / 2 ||theta||^2.

    Parameters
    ----------
    model
        The network, or `HierarchicalNetwork` around it.
    network
        Knows which of its layers have no pretrained weights.
    config
        Kind of optimizer, factors, decay.
    learning_rate
        Of the phase.
    device
        Where the model is.
    """
    groups = list(_groups(model, network, config, learning_rate))
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, learning_rate, momentum=config.momentum)
    # One kernel for all tensors; CPUs keep torch's default.
    return torch.optim.AdamW(groups, learning_rate, fused=True if device.type == "cuda" else None)


def _groups(
    model: nn.Module, network: SceneNetwork, config: TrainConfig, learning_rate: float
) -> Iterator[dict[str, Any]]:
    new = {id(parameter) for part in network.new_layers() for parameter in part.parameters()}
    # Kept for the step after it, in which W learns too: without a gradient a parameter stays.
    kept = config.optimizer_state == "kept"
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad or kept]
    everything = config.optimizer == "sgd"
    # New layers first: the first group's rate is the one that is reported.
    for is_new, rate in ((True, learning_rate), (False, learning_rate * config.encoder_factor)):
        for decays in (True, False):
            group = [
                parameter
                for parameter in trained
                if (id(parameter) in new) is is_new and (parameter.ndim > 1 or everything) is decays
            ]
            if group:
                decay = config.weight_decay if decays else 0.0
                yield {"params": group, "lr": rate, "weight_decay": decay}
    if isinstance(model, HierarchicalNetwork) and (model.w.requires_grad or kept):
        decay = config.weight_decay if config.w_weight_decay is None else config.w_weight_decay
        yield {
            "params": [model.w],
            "lr": learning_rate * config.w_factor,
            "weight_decay": decay,
        }


def build_lr_scheduler(optimizer: Optimizer, config: TrainConfig, length: int) -> LRScheduler:
    """The schedule of a phase of `length` steps; every group's own rate is its highest."""
    if config.schedule == "steps":
        return StepLR(optimizer, config.step_size, gamma=0.1)
    return OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=length + 1,
        pct_start=0.15,
        cycle_momentum=False,
    )
