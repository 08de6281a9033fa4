"""The training loop: phases, epochs, steps. Plain torch, alone or under DDP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from lhs.config import TrainConfig
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.training.batches import Batch
from lhs.training.losses import hierarchical_loss, label_loss, masked_cross_entropy
from lhs.training.phases import Phase, phases

History = list[dict[str, Any]]
"""One row a step: step, phase, epoch, loss, learning_rate, seconds, waited (for data)."""


def train(
    network: EncoderNetwork,
    config: TrainConfig,
    *,
    classes: int,
    matrix: Tensor | None,
    void: int,
    batches: Callable[[int], Iterator[Batch]],
    steps_per_epoch: int,
    device: torch.device,
    on_step: Callable[[dict[str, Any], int], None],
) -> tuple[nn.Module, History]:
    """Train a network through all phases of the configured strategy.

    Parameters
    ----------
    network
        With the weights it starts from; changed in place.
    config
        Strategy, phases and solver.
    classes
        L.
    matrix
        W of the hierarchy, (L, n); None for the baseline.
    void
        Label without loss.
    batches
        Gives the batches of epoch number `e`, counted over all phases.
    steps_per_epoch
        Batches in an epoch.
    device
        Where to train.
    on_step
        Called after each step with its history row and the steps there will be in all.

    Returns
    -------
    nn.Module, History
        The trained network (with W on top after `hierarchical`) and a row for each step.
    """
    plan = phases(config)
    lengths = [_length(phase, steps_per_epoch, config.max_steps) for phase in plan]
    model: nn.Module = network
    if config.strategy == "hierarchical":
        assert matrix is not None
        model = HierarchicalNetwork(network, matrix, masked=config.learn_w == "masked")
    history: History = []
    epoch = 0
    for number, (phase, length) in enumerate(zip(plan, lengths, strict=True)):
        # Seeded by phase: what a phase draws does not hang on the length of the one before.
        torch.manual_seed(config.seed * 1000 + number)
        outputs = classes if phase.target == "class" else _subclasses(matrix)
        _enter(model, network, phase, outputs)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        epoch = _run_phase(
            model, phase, length, config, void, batches, epoch, device, history, on_step,
            sum(lengths),
        )  # fmt: skip
    return model, history


def _length(phase: Phase, steps_per_epoch: int, max_steps: int | None) -> int:
    length = phase.epochs * steps_per_epoch
    return length if max_steps is None else min(length, max_steps)


def _subclasses(matrix: Tensor | None) -> int:
    assert matrix is not None, "a subclass phase needs a hierarchy"
    return matrix.shape[1]


def _enter(model: nn.Module, network: EncoderNetwork, phase: Phase, outputs: int) -> None:
    """Give the phase its last layer and let only what it trains move."""
    if phase.fresh_last_layer:
        old = network.last
        network.last = nn.Conv2d(old.in_channels, outputs, 1)
    parts: dict[str, list[nn.Module]] = {
        "new": network.new_layers(),
        "last": [network.last],
        "all": [network],
    }
    moving = parts[phase.trains]
    model.requires_grad_(False)
    # Frozen layers keep their batch statistics: they are the same function all through the phase.
    model.eval()
    for part in moving:
        part.requires_grad_(True)
        part.train()
    if isinstance(model, HierarchicalNetwork):
        model.w.requires_grad_(phase.learns_w)


def _run_phase(
    model: nn.Module,
    phase: Phase,
    length: int,
    config: TrainConfig,
    void: int,
    batches: Callable[[int], Iterator[Batch]],
    epoch: int,
    device: torch.device,
    history: History,
    on_step: Callable[[dict[str, Any], int], None],
    total: int,
) -> int:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = _solver(trainable, config, phase.learning_rate)
    schedule = _schedule(optimizer, config, phase.learning_rate, length)
    parallel = distributed.is_available() and distributed.is_initialized()
    forward: nn.Module = (
        DistributedDataParallel(model) if parallel and distributed.get_world_size() > 1 else model
    )
    precision = autocast_type(config.precision, device)
    done, first_epoch = 0, epoch
    while done < length:
        asked = time.perf_counter()
        for batch in batches(epoch):
            started = time.perf_counter()
            with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                images = batch.images.to(device, torch.float32, memory_format=torch.channels_last)
                output = forward(images)
            loss = _loss(phase, output, batch, config.alpha, void, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            schedule.step()
            done += 1
            row = {
                "step": len(history) + 1,
                "phase": phase.name,
                "epoch": epoch - first_epoch + 1,
                "loss": float(loss.detach()),
                "learning_rate": rate,
                "waited": started - asked,
                "seconds": time.perf_counter() - asked,
            }
            history.append(row)
            on_step(row, total)
            if done == length:
                break
            asked = time.perf_counter()
        epoch += 1
    return epoch


def _loss(
    phase: Phase,
    output: Tensor | tuple[Tensor, Tensor],
    batch: Batch,
    alpha: float,
    void: int,
    device: torch.device,
) -> Tensor:
    labels, subclasses = batch.labels.to(device), batch.subclasses.to(device)
    if not isinstance(output, Tensor):
        return hierarchical_loss(output[0].float(), subclasses, labels, output[1], alpha, void)
    if phase.target == "subclass":
        return masked_cross_entropy(output.float(), subclasses, labels != void)
    return label_loss(output.float(), labels, void)


def _solver(
    parameters: list[nn.Parameter], config: TrainConfig, learning_rate: float
) -> torch.optim.Optimizer:
    if config.solver == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=config.weight_decay)


def _schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig, learning_rate: float, length: int
) -> lr_scheduler.LRScheduler:
    if config.schedule == "steps":
        return lr_scheduler.StepLR(optimizer, config.step_size, gamma=0.1)
    return lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=length + 1, pct_start=0.15, cycle_momentum=False
    )


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that `train.precision` means on a device; None is float32."""
    if precision == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if native else None
    return torch.bfloat16 if precision == "bfloat16" else None
