"""Training through all phases of a strategy, in plain torch, alone or under DDP."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

from lhs.config import TrainConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork
from lhs.networks.precision import Precision
from lhs.training.checkpoints import Checkpoints, TrainState, restore
from lhs.training.data_source import DataSource
from lhs.training.parallel import share_batch_norm
from lhs.training.phases import Phase, phases
from lhs.training.trainer import History, PhaseTrainer, dropouts_of


def train(
    network: SceneNetwork,
    config: TrainConfig,
    *,
    classes: int,
    matrix: Tensor | None,
    void: int,
    data: DataSource,
    device: torch.device,
    on_step: Callable[[dict[str, Any], int], None],
    precision: Precision = "float32",
    trained: bool = False,
    checkpoints: Checkpoints | None = None,
    on_resume: Callable[[History], None] = lambda history: None,
    on_epoch: Callable[[int, Phase, nn.Module], None] = lambda epoch, phase, model: None,
    log: Callable[[str], None] = lambda text: None,
) -> tuple[nn.Module, History]:
    """Train a network through all phases of the configured strategy.

    Parameters
    ----------
    network
        With its initial weights; changed in place.
    config
        Strategy, phases and optimizer.
    classes
        L.
    matrix
        W of the hierarchy, (L, n); None for the baseline.
    void
        Label without loss.
    data
        The training examples.
    device
        Where to train.
    on_step
        Called for each step with its history row and the total number of steps. Rows come in
        groups, when their losses are read from the device.
    precision
        `train.precision`, resolved for the device.
    trained
        Whether the network's last layer is trained on the classes already.
    checkpoints
        Where to resume from and what to write for a later call.
    on_resume
        Called with the history of an earlier, killed attempt that is resumed.
    on_epoch
        Called on every worker after each epoch with the number of epochs over all phases, the
        phase and the model, whose layers' modes it may change.
    log
        Takes messages.

    Returns
    -------
    nn.Module, History
        The trained network (with W on top after `hierarchical`, but not with an auxiliary head,
        which is dropped) and a row for each step.
    """
    plan = phases(config, trained=trained)
    lengths = [phase.length(data.steps_per_epoch, config.max_steps) for phase in plan]
    # Phases that go on with the optimizer of the one before share its learning-rate cycle.
    cycles = list(accumulate(not phase.continues for phase in plan))
    model: nn.Module = network
    if config.strategy == "hierarchical" and config.subclass_head == "auxiliary":
        model = AuxiliaryNetwork(network, classes, _subclasses(matrix))
    elif config.strategy == "hierarchical":
        assert matrix is not None
        model = HierarchicalNetwork(network, matrix, masked=config.learn_w == "masked")
    share_batch_norm(network, device)
    checkpoint = None if checkpoints is None else checkpoints.load()
    state = TrainState() if checkpoint is None else TrainState(**checkpoint["position"])
    history: History = [] if checkpoint is None else checkpoint["history"]
    if checkpoint is not None:
        log(f"resuming from the checkpoint at step {len(history)} of {sum(lengths)}")
        on_resume(history)
    optimizer: torch.optim.Optimizer | None = None
    for number in range(state.phase, len(plan)):
        phase = plan[number]
        if number != state.phase:
            state = TrainState(number, 0, state.epoch, 0, state.epoch)
        # Seeded by phase: random numbers do not depend on the length of the phase before.
        torch.manual_seed(config.seed * 1000 + number)
        if phase.fresh_last_layer or checkpoint is not None:
            # A checkpoint has the weights of a last layer, and a new one may have another shape.
            outputs = classes if phase.target == "class" else _subclasses(matrix)
            beside = classes if isinstance(model, AuxiliaryNetwork) else 0
            network.reset_classifier(outputs + beside)
        _freeze(model, network, phase)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if optimizer is None or not phase.continues:
            # Without a gradient a parameter stays: W, until the second step with a kept optimizer.
            kept = config.optimizer_state == "kept"
            trainable = [part for part in model.parameters() if part.requires_grad or kept]
            optimizer = _optimizer(trainable, config, phase.learning_rate, device)
            cycle = sum(
                length for length, one in zip(lengths, cycles, strict=True) if one == cycles[number]
            )
            scheduler = _lr_scheduler(optimizer, config, phase.learning_rate, cycle)
        if checkpoint is not None:
            restore(checkpoint, model, optimizer, scheduler)
            checkpoint = None
        trainer = PhaseTrainer(
            phase, lengths[number], sum(lengths), model, optimizer, scheduler, config, void, data,
            device, precision, history, on_step, on_epoch, checkpoints,
        )  # fmt: skip
        state = trainer.train(state)
    for layer in dropouts_of(model):
        layer.keys = None
    if isinstance(model, AuxiliaryNetwork):
        model = model.without_auxiliary()
    return model, history


def _subclasses(matrix: Tensor | None) -> int:
    assert matrix is not None, "a subclass phase needs a hierarchy"
    return matrix.shape[1]


def _freeze(model: nn.Module, network: SceneNetwork, phase: Phase) -> None:
    """Freeze all but what the phase trains."""
    parts: dict[str, list[nn.Module]] = {
        "new": network.new_layers(),
        "last": network.last_layers(),
        "all": [network],
    }
    model.requires_grad_(False)
    # Frozen layers use their running statistics and no dropout: they are one function all phase.
    model.eval()
    for part in parts[phase.trains]:
        part.requires_grad_(True)
        part.train()
    if isinstance(model, HierarchicalNetwork):
        model.w.requires_grad_(phase.learns_w)


def _optimizer(
    parameters: list[nn.Parameter], config: TrainConfig, learning_rate: float, device: torch.device
) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        parameters,
        learning_rate,
        weight_decay=config.weight_decay,
        # One kernel for all tensors; CPUs keep torch's default.
        fused=True if device.type == "cuda" else None,
    )


def _lr_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainConfig, learning_rate: float, length: int
) -> LRScheduler:
    if config.schedule == "steps":
        return StepLR(optimizer, config.step_size, gamma=0.1)
    return OneCycleLR(
        optimizer, learning_rate, total_steps=length + 1, pct_start=0.15, cycle_momentum=False
    )
