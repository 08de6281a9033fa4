"""The training loop: phases, epochs, steps. Plain torch, alone or under DDP."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from lhs.config import TrainConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.networks.patch import BatchDropout, mask_keys
from lhs.networks.precision import Precision, arithmetic
from lhs.training.checkpoints import Checkpoints, Position, restore
from lhs.training.feed import Batch, Feed
from lhs.training.losses import hierarchical_loss, label_loss, masked_cross_entropy
from lhs.training.parallel import has_batch_norm, share_batch_norm, shared, total, world
from lhs.training.phases import Phase, phases

History = list[dict[str, Any]]
"""One row a step: step, phase, epoch, loss, learning_rate, seconds, waited (for data).

On a GPU, which works while the next steps are prepared, single seconds are not those of the step;
their sum over `train.log_every` steps is."""

PATIENCE = 5.0
"""Seconds after which losses are read from the device, whatever `train.log_every` is."""


def train(
    network: SceneNetwork,
    config: TrainConfig,
    *,
    classes: int,
    matrix: Tensor | None,
    void: int,
    feed: Feed,
    device: torch.device,
    on_step: Callable[[dict[str, Any], int], None],
    precision: Precision = "float32",
    trained: bool = False,
    checkpoints: Checkpoints | None = None,
    on_resume: Callable[[History], None] = lambda history: None,
    on_epoch: Callable[[int, Phase, nn.Module], None] = lambda epoch, phase, model: None,
    say: Callable[[str], None] = lambda text: None,
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
    feed
        The examples.
    device
        Where to train.
    on_step
        Called for each step with its history row and the steps there will be in all; for several
        steps at once, when their losses are read from the device.
    precision
        What to compute in; `train.precision` settled, which is not looked at.
    trained
        Whether the network's last layer is trained on the classes already.
    checkpoints
        Where to go on from, and what to write so that a later call can.
    on_resume
        Called with the rows of an earlier, killed attempt that this one goes on from.
    on_epoch
        Called on every worker at each epoch's end, with the epochs of all phases so far, the phase
        and the model, whose layers' modes it may change.
    say
        Takes words for people.

    Returns
    -------
    nn.Module, History
        The trained network (with W on top after `hierarchical`) and a row for each step.
    """
    plan = phases(config, trained=trained)
    lengths = [phase.length(feed.steps_per_epoch, config.max_steps) for phase in plan]
    model: nn.Module = network
    if config.strategy == "hierarchical":
        assert matrix is not None
        model = HierarchicalNetwork(network, matrix, masked=config.learn_w == "masked")
    share_batch_norm(network, device)
    state = None if checkpoints is None else checkpoints.load()
    position = Position() if state is None else Position(**state["position"])
    history: History = [] if state is None else state["history"]
    if state is not None:
        say(f"goes on from its checkpoint: {len(history)} of {sum(lengths)} steps are done")
        on_resume(history)
    for number in range(position.phase, len(plan)):
        phase = plan[number]
        if number != position.phase:
            position = Position(number, 0, position.epoch, 0, position.epoch)
        # Seeded by phase: what a phase draws does not hang on the length of the one before.
        torch.manual_seed(config.seed * 1000 + number)
        if phase.fresh_last_layer or state is not None:
            # A checkpoint brings the weights of a last layer, not the layer.
            network.reset_classifier(classes if phase.target == "class" else _subclasses(matrix))
        _enter(model, network, phase)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = _solver(trainable, config, phase.learning_rate, device)
        schedule = _schedule(optimizer, config, phase.learning_rate, lengths[number])
        if state is not None:
            restore(state, model, optimizer, schedule)
            state = None
        run = _PhaseRun(
            phase, lengths[number], sum(lengths), model, optimizer, schedule, config, void, feed,
            device, precision, history, on_step, on_epoch, checkpoints,
        )  # fmt: skip
        position = run(position)
    for layer in _dropouts(model):
        layer.keys = None
    return model, history


def _subclasses(matrix: Tensor | None) -> int:
    assert matrix is not None, "a subclass phase needs a hierarchy"
    return matrix.shape[1]


def _enter(model: nn.Module, network: SceneNetwork, phase: Phase) -> None:
    """Let only what the phase trains move."""
    parts: dict[str, list[nn.Module]] = {
        "new": network.new_layers(),
        "last": network.last_layers(),
        "all": [network],
    }
    moving = parts[phase.trains]
    model.requires_grad_(False)
    # Frozen layers keep their batch statistics and drop nothing: they are the same function all
    # through the phase.
    model.eval()
    for part in moving:
        part.requires_grad_(True)
        part.train()
    if isinstance(model, HierarchicalNetwork):
        model.w.requires_grad_(phase.learns_w)


def _dropouts(model: nn.Module) -> list[BatchDropout]:
    return [module for module in model.modules() if isinstance(module, BatchDropout)]


@dataclass
class _PhaseRun:
    """One phase, from any position to its end."""

    phase: Phase
    length: int
    total: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: lr_scheduler.LRScheduler
    config: TrainConfig
    void: int
    feed: Feed
    device: torch.device
    precision: Precision
    history: History
    on_step: Callable[[dict[str, Any], int], None]
    on_epoch: Callable[[int, Phase, nn.Module], None]
    checkpoints: Checkpoints | None
    unread: list[tuple[dict[str, Any], dict[str, Tensor]]] = field(default_factory=list)
    """Rows whose loss, and how far W moved, still lie on the device."""
    read: float = field(default_factory=time.monotonic)
    """When they were read last."""

    def __call__(self, position: Position) -> Position:
        forward = shared(
            torch.compile(self.model) if self.config.compile == "yes" else self.model,  # type: ignore[arg-type]
            self.device,
        )
        self.dropouts = _dropouts(self.model)
        self.passes = self._passes()
        done = position.done
        while done < self.length:
            asked = time.perf_counter()
            for share in self.feed.batches(position.epoch, position.place):
                started = time.perf_counter()
                loss = self._step(forward, share)
                done += 1
                position = Position(
                    position.phase, done, position.epoch, position.place + 1, position.first_epoch
                )
                self._tell(position, loss, started - asked, time.perf_counter() - asked)
                late = time.monotonic() - self.read > PATIENCE
                if late or len(self.unread) >= self.config.log_every:
                    self._read()
                if done == self.length:
                    break
                if self.checkpoints is not None and self.checkpoints.due(done):
                    self._keep(position)
                asked = time.perf_counter()
            else:
                position = self._next_epoch(position, done)
        if position.place:
            # The next phase begins with an epoch of its own.
            position = self._next_epoch(position, done)
        self._keep(position)
        return position

    def _next_epoch(self, position: Position, done: int) -> Position:
        self._read()
        epoch = position.epoch + 1
        modes = [(part, part.training) for part in self.model.modules()]
        self.on_epoch(epoch, self.phase, self.model)
        for part, mode in modes:
            part.training = mode
        return Position(position.phase, done, epoch, 0, position.first_epoch)

    def _passes(self) -> int:
        """Least passes through the network for one size of a share.

        Batch norm that workers share waits for all of them: they must pass equally often.
        """
        if self.config.micro_batch is None or not has_batch_norm(self.model):
            return 1
        size, workers = self.feed.batch_size, world()[1]
        largest = -(-size // workers)
        return min(-(-largest // self.config.micro_batch), size // workers)

    def _step(self, forward: nn.Module, share: list[Batch]) -> Tensor:
        """One step of the solver on this worker's share of a global batch; the global loss."""
        size = world()[1]
        share = [self._on_device(part) for part in share]
        labelled = sum((part.labels != self.void).sum() for part in share) + torch.zeros(
            (), device=self.device
        )
        # DDP takes the mean of the workers' gradients, the loss is the mean over all pixels.
        count = total(labelled) / size
        most = None if has_batch_norm(self.model) else self.config.micro_batch
        parts = [cut for part in share for cut in part.parts(most, self.passes)]
        self.optimizer.zero_grad(set_to_none=True)
        whole = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            alone = isinstance(forward, DistributedDataParallel) and number < len(parts) - 1
            with (
                forward.no_sync() if alone else nullcontext(),  # type: ignore[operator]
                arithmetic(self.precision, self.device),
            ):
                self._key_dropouts(part.places)
                output = forward(part.images.to(torch.float32, memory_format=torch.channels_last))
                with torch.autocast(self.device.type, enabled=False):
                    loss = self._loss(output, part.labels, part.subclasses, count)
                    loss.backward()
                whole += loss.detach()
        self._rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        return total(whole) / size

    def _on_device(self, batch: Batch) -> Batch:
        # Small integers travel, and without waiting for them: the feed pinned them.
        images, labels, subclasses, places = (
            part.to(self.device, non_blocking=True) for part in batch
        )
        return Batch(images, labels.long(), subclasses.long(), places)

    def _key_dropouts(self, places: Tensor) -> None:
        step = len(self.history) + len(self.unread)
        for number, layer in enumerate(self.dropouts):
            layer.keys = mask_keys(self.config.seed, step, number, places)

    def _loss(
        self, output: Tensor | tuple[Tensor, Tensor], labels: Tensor, subclasses: Tensor,
        count: Tensor,
    ) -> Tensor:  # fmt: skip
        if not isinstance(output, Tensor):
            scores, w = output
            alpha = self.config.alpha
            return hierarchical_loss(scores.float(), subclasses, labels, w, alpha, self.void, count)
        if self.phase.target == "subclass":
            return masked_cross_entropy(output.float(), subclasses, labels != self.void, count)
        return label_loss(output.float(), labels, self.void, count)

    def _tell(self, position: Position, loss: Tensor, waited: float, seconds: float) -> None:
        """Note a step; what lies on the device is read later."""
        row = {
            "step": len(self.history) + len(self.unread) + 1,
            "phase": self.phase.name,
            "epoch": position.epoch - position.first_epoch + 1,
            "loss": 0.0,
            "learning_rate": self._rate,
            "waited": waited,
            "seconds": seconds,
        }
        found = {"loss": loss}
        if isinstance(self.model, HierarchicalNetwork):
            found |= self.model.drift()
        self.unread.append((row, found))

    def _read(self) -> None:
        """Wait for the device, complete the rows of the steps since the last time, hand them on."""
        unread, self.unread, self.read = self.unread, [], time.monotonic()
        if not unread:
            return
        asked = time.perf_counter()
        values = torch.stack([value for _, found in unread for value in found.values()]).tolist()
        # What the device still had to do belongs to all of these steps.
        more = (time.perf_counter() - asked) / len(unread)
        for row, found in unread:
            row |= dict(zip(found, values[: len(found)], strict=True))
            row["seconds"] += more
            del values[: len(found)]
            self.history.append(row)
            self.on_step(row, self.total)

    def _keep(self, position: Position) -> None:
        self._read()
        if self.checkpoints is not None:
            self.checkpoints.save(position, self.model, self.optimizer, self.schedule, self.history)


def _solver(
    parameters: list[nn.Parameter], config: TrainConfig, learning_rate: float, device: torch.device
) -> torch.optim.Optimizer:
    if config.solver == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        parameters,
        learning_rate,
        weight_decay=config.weight_decay,
        # One kernel for all tensors; CPUs keep torch's usual way.
        fused=True if device.type == "cuda" else None,
    )


def _schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig, learning_rate: float, length: int
) -> lr_scheduler.LRScheduler:
    if config.schedule == "steps":
        return lr_scheduler.StepLR(optimizer, config.step_size, gamma=0.1)
    return lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=length + 1, pct_start=0.15, cycle_momentum=False
    )
