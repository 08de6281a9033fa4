"""Training through all phases of a strategy, in plain torch, alone or under DDP."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lhs.config import TrainConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork
from lhs.networks.precision import Precision
from lhs.training.checkpoints import Checkpoints, TrainState, restore
from lhs.training.data_source import DataSource
from lhs.training.optimizers import build_lr_scheduler, build_optimizer
from lhs.training.parallel import share_batch_norm
from lhs.training.phases import Phase, phases
from lhs.training.trainer import History, PhaseTrainer, dropouts_of

if TYPE_CHECKING:
    # Imported where it is used: timm takes 1.5 s.
    from timm.utils import ModelEmaV3


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
    class_weights: Tensor | None = None,
    pretrained: bool = True,
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
    class_weights
        (L,) weight of each class's pixels in the loss; None: all equal.
    pretrained
        Whether the network's other layers than the new ones start from pretrained weights.
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
    if not pretrained:
        config = config.model_copy(update={"encoder_factor": 1.0, "encoder_statistics": "update"})
    plan = phases(config, trained=trained)
    lengths = [phase.length(data.steps_per_epoch, config.max_steps) for phase in plan]
    # Phases that go on with the optimizer of the one before share its learning-rate cycle, and the
    # moving average.
    cycles = list(accumulate(not phase.continues for phase in plan))
    model: nn.Module = network
    if config.strategy == "hierarchical" and config.subclass_head == "auxiliary":
        model = AuxiliaryNetwork(network, classes, _subclasses(matrix))
    elif config.strategy == "hierarchical":
        assert matrix is not None
        model = HierarchicalNetwork(network, matrix, masked=config.learn_w == "masked")
    share_batch_norm(network, device)
    weights = class_weights
    if weights is not None:
        weights = weights.to(device)
    subclass_weights = None
    if weights is not None and matrix is not None:
        subclass_weights = weights[matrix.argmax(0).to(device)]
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
            state = TrainState(number, 0, state.epoch, 0, state.epoch, state.micro_batch)
        # Seeded by phase: random numbers do not depend on the length of the phase before.
        torch.manual_seed(config.seed * 1000 + number)
        if phase.fresh_last_layer or checkpoint is not None:
            # A checkpoint has the weights of a last layer, and a new one may have another shape.
            outputs = classes if phase.target == "class" else _subclasses(matrix)
            beside = classes if isinstance(model, AuxiliaryNetwork) else 0
            network.reset_classifier(outputs + beside)
        freeze(model, network, phase, config)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if optimizer is None or not phase.continues:
            optimizer = build_optimizer(model, network, config, phase.learning_rate, device)
            cycle = sum(
                length for length, one in zip(lengths, cycles, strict=True) if one == cycles[number]
            )
            scheduler = build_lr_scheduler(optimizer, config, cycle)
            average = _average(model, config)
        if checkpoint is not None:
            restore(checkpoint, model, optimizer, scheduler, average)
            checkpoint = None
        trainer = PhaseTrainer(
            phase, lengths[number], sum(lengths), model, optimizer, scheduler, config, void, data,
            device, precision, history, on_step, on_epoch, checkpoints, cycle, average, weights,
            subclass_weights, log,
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


def _average(model: nn.Module, config: TrainConfig) -> ModelEmaV3 | None:
    """The moving average of the weights, if one is wanted; it starts with the optimizer."""
    if not config.ema:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=config.ema, use_warmup=True)


def freeze(model: nn.Module, network: SceneNetwork, phase: Phase, config: TrainConfig) -> None:
    """Freeze all but what the phase trains, and the statistics that are kept."""
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
    if config.encoder_statistics == "keep":
        new = {id(module) for part in network.new_layers() for module in part.modules()}
        for module in network.modules():
            if isinstance(module, _BatchNorm) and id(module) not in new:
                module.eval()
    if isinstance(model, HierarchicalNetwork):
        model.w.requires_grad_(phase.learns_w)
