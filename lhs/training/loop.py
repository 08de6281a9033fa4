"""The training loop: phases, epochs, steps. Plain torch, alone or under DDP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from lhs.config import TrainConfig
from lhs.networks.base import SceneNetwork
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.training.checkpoints import Checkpoints, Position, restore
from lhs.training.features import FeatureStore, keep_features
from lhs.training.feed import Batch, Feed, RepeatingFeed
from lhs.training.losses import hierarchical_loss, label_loss, masked_cross_entropy
from lhs.training.parallel import act_as_one, total, world
from lhs.training.phases import Phase, phases

History = list[dict[str, Any]]
"""One row a step: step, phase, epoch, loss, learning_rate, seconds, waited (for data)."""


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
        Called after each step with its history row and the steps there will be in all.
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
    act_as_one(network)
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
            network.renew(classes if phase.target == "class" else _subclasses(matrix))
        _enter(model, network, phase)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = _solver(trainable, config, phase.learning_rate)
        schedule = _schedule(optimizer, config, phase.learning_rate, lengths[number])
        if state is not None:
            restore(state, model, optimizer, schedule)
            state = None
        run = _PhaseRun(
            phase, lengths[number], sum(lengths), model, network, optimizer, schedule, config, void,
            feed, device, history, on_step, on_epoch, checkpoints, say,
        )  # fmt: skip
        position = run(position)
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


@dataclass
class _PhaseRun:
    """One phase, from any position to its end."""

    phase: Phase
    length: int
    total: int
    model: nn.Module
    network: SceneNetwork
    optimizer: torch.optim.Optimizer
    schedule: lr_scheduler.LRScheduler
    config: TrainConfig
    void: int
    feed: Feed
    device: torch.device
    history: History
    on_step: Callable[[dict[str, Any], int], None]
    on_epoch: Callable[[int, Phase, nn.Module], None]
    checkpoints: Checkpoints | None
    say: Callable[[str], None]

    def __call__(self, position: Position) -> Position:
        self.precision = autocast_type(self.config.precision, self.device)
        store = self._features(self.length - position.done)
        model = self.model if store is None else _Upper(self.network)
        forward = model
        if world()[1] > 1:
            # Buffers are the same everywhere already: see `act_as_one`.
            forward = DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        done = position.done
        while done < self.length:
            asked = time.perf_counter()
            for share in self._shares(position, store):
                started = time.perf_counter()
                loss = self._step(forward, share, store)
                done += 1
                position = Position(
                    position.phase, done, position.epoch, position.place + 1, position.first_epoch
                )
                self._tell(position, loss, started - asked, time.perf_counter() - asked)
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
        if store is not None:
            store.delete()
        self._keep(position)
        return position

    def _next_epoch(self, position: Position, done: int) -> Position:
        epoch = position.epoch + 1
        modes = [(part, part.training) for part in self.model.modules()]
        self.on_epoch(epoch, self.phase, self.model)
        for part, mode in modes:
            part.training = mode
        return Position(position.phase, done, epoch, 0, position.first_epoch)

    def _features(self, steps: int) -> FeatureStore | None:
        """Features of the layers below, where only the last ones train and nothing is random, and
        the steps to come need some of them more than once."""
        moving = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        last = {id(p) for part in self.network.last_layers() for p in part.parameters()}
        alone = self.model is self.network and all(id(parameter) in last for parameter in moving)
        again = self.feed.repeats and steps > self.feed.steps_per_epoch
        if not (alone and again and self.config.features_gb):
            return None
        feed = cast(RepeatingFeed, self.feed)
        limit = self.config.features_gb * 1e9
        return keep_features(self.network, feed, limit, self.precision, self.device, self.say)

    def _shares(self, position: Position, store: FeatureStore | None) -> Iterator[list[Batch]]:
        if store is None:
            return self.feed.batches(position.epoch, position.place)
        return cast(RepeatingFeed, self.feed).owned_labels(position.epoch, position.place)

    def _step(self, forward: nn.Module, share: list[Batch], store: FeatureStore | None) -> float:
        """One step of the solver on this worker's share of a global batch; the global loss."""
        size = world()[1]
        labelled = sum((part.labels != self.void).sum() for part in share) + torch.zeros(())
        # DDP takes the mean of the workers' gradients, the loss is the mean over all pixels.
        count = total(labelled.to(self.device)) / size
        # As many forward passes on every worker, or those that talk to each other would wait.
        passes = -(-self.config.batch_size // size // (self.config.micro_batch or 2**31)) or 1
        parts = [cut for part in share for cut in part.parts(self.config.micro_batch, passes)]
        self.optimizer.zero_grad(set_to_none=True)
        whole = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            alone = isinstance(forward, DistributedDataParallel) and number < len(parts) - 1
            with forward.no_sync() if alone else nullcontext():  # type: ignore[operator]
                for labels, subclasses, output in self._scores(forward, part, store):
                    loss = self._loss(output, labels, subclasses, count)
                    loss.backward()
                    whole += loss.detach()
        self._rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        return float(total(whole)) / size

    def _scores(
        self, forward: nn.Module, part: Batch, store: FeatureStore | None
    ) -> Iterator[tuple[Tensor, Tensor, Any]]:
        with torch.autocast(self.device.type, dtype=self.precision, enabled=bool(self.precision)):
            if store is None:
                images = part.images.to(
                    self.device, torch.float32, memory_format=torch.channels_last
                )
                yield part.labels, part.subclasses, forward(images)
                return
            assert part.ids is not None
            for where, features in store.read(part.ids.numpy()):
                output = forward(*(level.to(self.device) for level in features))
                yield part.labels[where], part.subclasses[where], output

    def _loss(
        self, output: Tensor | tuple[Tensor, Tensor], labels: Tensor, subclasses: Tensor,
        count: Tensor,
    ) -> Tensor:  # fmt: skip
        labels, subclasses = labels.to(self.device), subclasses.to(self.device)
        if not isinstance(output, Tensor):
            scores, w = output
            alpha = self.config.alpha
            return hierarchical_loss(scores.float(), subclasses, labels, w, alpha, self.void, count)
        if self.phase.target == "subclass":
            return masked_cross_entropy(output.float(), subclasses, labels != self.void, count)
        return label_loss(output.float(), labels, self.void, count)

    def _tell(self, position: Position, loss: float, waited: float, seconds: float) -> None:
        row = {
            "step": len(self.history) + 1,
            "phase": self.phase.name,
            "epoch": position.epoch - position.first_epoch + 1,
            "loss": loss,
            "learning_rate": self._rate,
            "waited": waited,
            "seconds": seconds,
        }
        if isinstance(self.model, HierarchicalNetwork):
            row |= self.model.drift()
        self.history.append(row)
        self.on_step(row, self.total)

    def _keep(self, position: Position) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(position, self.model, self.optimizer, self.schedule, self.history)


class _Upper(nn.Module):
    """The last layers alone, on features."""

    def __init__(self, network: SceneNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *features: Tensor) -> Tensor:
        return self.network.upper(features)


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
