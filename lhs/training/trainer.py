"""The training loop of one phase: epochs, steps, micro-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from lhs.config import TrainConfig
from lhs.errors import UserError
from lhs.networks.finite import non_finite
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork
from lhs.networks.patch import BatchDropout, mask_keys
from lhs.networks.precision import Precision, arithmetic
from lhs.training.batch_norm import single_values_explained
from lhs.training.checkpoints import Checkpoints, TrainState
from lhs.training.data_source import Batch, DataSource
from lhs.training.losses import (
    auxiliary_loss,
    hierarchical_loss,
    label_loss,
    masked_cross_entropy,
    pixel_count,
)
from lhs.training.parallel import has_batch_norm, shared, total, world
from lhs.training.phases import Phase, learning_rate_setting

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

History = list[dict[str, Any]]
"""One row per step: step, phase, epoch, loss, learning_rate, seconds, waited (for data).

A GPU works asynchronously: not the seconds of a single step count, but their sum over
`train.log_every` steps."""

LONGEST_UNREAD = 5.0
"""Seconds after which losses are read from the device, even before `train.log_every` steps."""


@dataclass
class PhaseTrainer:
    """One phase, from any state to its end."""

    phase: Phase
    length: int
    total: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: LRScheduler
    config: TrainConfig
    void: int
    data: DataSource
    device: torch.device
    precision: Precision
    history: History
    on_step: Callable[[dict[str, Any], int], None]
    on_epoch: Callable[[int, Phase, nn.Module], None]
    checkpoints: Checkpoints | None
    cycle: int
    """Steps of the learning-rate cycle: of the phase, or of all that share an optimizer."""
    average: ModelEmaV3 | None = None
    """The moving average of the weights, which the cycle ends with."""
    class_weights: Tensor | None = None
    subclass_weights: Tensor | None = None
    """Of pixels in the loss, (L,) and (n,); None: all equal."""
    log: Callable[[str], None] = lambda text: None
    unread: list[tuple[dict[str, Any], dict[str, Tensor]]] = field(default_factory=list)
    """Rows whose loss, and distance of W from the hierarchy, are still on the device."""
    last_read: float = field(default_factory=time.monotonic)

    def train(self, state: TrainState) -> TrainState:
        """Run the rest of the phase."""
        self.parallel_model = shared(
            torch.compile(self.model) if self.config.compile else self.model,  # type: ignore[arg-type]
            self.device,
        )
        self.dropouts = dropouts_of(self.model)
        given = self.config.micro_batch
        self.micro_batch = state.micro_batch if isinstance(given, str) else given
        while state.done < self.length:
            asked = time.perf_counter()
            for shard in self.data.batches(state.epoch, state.place):
                started = time.perf_counter()
                learning_rate = self.optimizer.param_groups[0]["lr"]
                loss = self.train_step(shard)
                state = replace(state, done=state.done + 1, place=state.place + 1)
                if self.config.micro_batch == "auto":
                    state = replace(state, micro_batch=self.micro_batch)
                if self.average is not None:
                    self.average.update(self.model, self.lr_scheduler.last_epoch)
                self._record(
                    epoch=state.epoch - state.first_epoch + 1,
                    loss=loss,
                    learning_rate=learning_rate,
                    waited=started - asked,
                    seconds=time.perf_counter() - asked,
                )
                late = time.monotonic() - self.last_read > LONGEST_UNREAD
                if late or len(self.unread) >= self.config.log_every:
                    self._read_losses()
                if state.done == self.length:
                    break
                if self.checkpoints is not None and self.checkpoints.due(state.done):
                    self._save_checkpoint(state)
                asked = time.perf_counter()
            else:
                state = self._end_epoch(state)
        if self.average is not None and self.lr_scheduler.last_epoch == self.cycle:
            self.model.load_state_dict(self.average.module.state_dict())
        if state.place:
            # The next phase begins with an epoch of its own.
            state = self._end_epoch(state)
        self._save_checkpoint(state)
        return state

    def _end_epoch(self, state: TrainState) -> TrainState:
        self._read_losses()
        epoch = state.epoch + 1
        model = self.model if self.average is None else self.average.module
        modes = [(part, part.training) for part in model.modules()]
        self.on_epoch(epoch, self.phase, model)
        for part, mode in modes:
            part.training = mode
        return replace(state, epoch=epoch, place=0)

    def _gradient_accumulation_steps(self) -> int:
        """Fewest micro-batches of a step.

        Workers with synchronised batch norm wait for each other in each forward pass, so all must
        make equally many.
        """
        if self.micro_batch is None or not has_batch_norm(self.model):
            return 1
        size, workers = self.data.batch_size, world()[1]
        largest = -(-size // workers)
        return min(-(-largest // self.micro_batch), size // workers)

    def train_step(self, shard: list[Batch]) -> Tensor:
        """One step of the optimizer on this worker's shard of a global batch; the global loss.

        Raises
        ------
        UserError
            If a GPU is out of memory, or batch norm has a single value of each channel.
        """
        try:
            return self._train_step(shard)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(shard, error) from None

    def _train_step(self, shard: list[Batch]) -> Tensor:
        workers = world()[1]
        shard = [self._to_device(batch) for batch in shard]
        labelled = torch.zeros((), device=self.device)
        for batch in shard:
            counted = batch.labels != self.void
            labelled = labelled + pixel_count(batch.labels, counted, self.class_weights)
        # DDP averages the workers' gradients; the loss is the mean over all labelled pixels.
        count = total(labelled) / workers
        loss = self._accumulate(shard, count)
        self.optimizer.step()
        self.lr_scheduler.step()
        return total(loss) / workers

    def _accumulate(self, shard: list[Batch], count: Tensor) -> Tensor:
        """The gradients of a shard; with `train.micro_batch=auto` in smaller parts, if needed."""
        if self.config.micro_batch != "auto":
            return self._accumulate_parts(shard, count)
        # A forward pass that fails half way has moved running statistics.
        buffers = list(self.model.buffers()) if has_batch_norm(self.model) else []
        before = [buffer.clone() for buffer in buffers]
        while True:
            try:
                return self._accumulate_parts(shard, count)
            except torch.OutOfMemoryError:
                size = self._at_once(shard)
                if size == 1 or world()[1] > 1:
                    raise
            # Only here are the failed pass's tensors free.
            self.micro_batch = -(-size // 2)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.log(
                f"out of memory with {size} examples at a time: train.micro_batch=auto goes on "
                f"with {self.micro_batch}"
            )

    def _at_once(self, shard: list[Batch]) -> int:
        """Most examples that go through the network at once."""
        largest = max(len(batch.labels) for batch in shard)
        return largest if self.micro_batch is None else min(largest, self.micro_batch)

    def _accumulate_parts(self, shard: list[Batch], count: Tensor) -> Tensor:
        most = None if has_batch_norm(self.model) else self.micro_batch
        steps = self._gradient_accumulation_steps()
        micro_batches = [part for batch in shard for part in batch.micro_batches(most, steps)]
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for number, batch in enumerate(micro_batches):
            # DDP communicates in the last backward pass alone.
            local = isinstance(self.parallel_model, DistributedDataParallel) and (
                number < len(micro_batches) - 1
            )
            with self.parallel_model.no_sync() if local else nullcontext():  # type: ignore[operator]
                loss += self.forward_backward_step(batch, count)
        return loss

    def forward_backward_step(self, batch: Batch, count: Tensor) -> Tensor:
        """Add the gradients of a micro-batch; its part of the loss, a mean over `count` pixels."""
        with arithmetic(self.precision, self.device):
            step = len(self.history) + len(self.unread)
            for number, layer in enumerate(self.dropouts):
                layer.keys = mask_keys(self.config.seed, step, number, batch.places)
            images = batch.images.to(torch.float32, memory_format=torch.channels_last)
            with single_values_explained(self.config, images.shape):
                output = self.parallel_model(images)
            with torch.autocast(self.device.type, enabled=False):
                loss = self._loss(output, batch.labels, batch.subclasses, count)
                loss.backward()
        return loss.detach()

    def _to_device(self, batch: Batch) -> Batch:
        # Copies are small integers, and asynchronous from pinned memory.
        images, labels, subclasses, places = (
            part.to(self.device, non_blocking=True) for part in batch
        )
        return Batch(images, labels.long(), subclasses.long(), places)

    def _loss(
        self, output: Tensor | tuple[Tensor, Tensor], labels: Tensor, subclasses: Tensor,
        count: Tensor,
    ) -> Tensor:  # fmt: skip
        common = self.config.alpha, self.void, count, self.class_weights, self.subclass_weights
        if isinstance(self.model, AuxiliaryNetwork):
            scores, fine = (each.float() for each in output)
            return auxiliary_loss(scores, fine, subclasses, labels, *common)
        if not isinstance(output, Tensor):
            scores, w = output
            return hierarchical_loss(scores.float(), subclasses, labels, w, *common)
        if self.phase.target == "subclass":
            counted = labels != self.void
            return masked_cross_entropy(
                output.float(), subclasses, counted, count, self.subclass_weights
            )
        return label_loss(output.float(), labels, self.void, count, self.class_weights)

    def _record(
        self, *, epoch: int, loss: Tensor, learning_rate: float, waited: float, seconds: float
    ) -> None:
        """Note a step; values on the device are read later."""
        row = {
            "step": len(self.history) + len(self.unread) + 1,
            "phase": self.phase.name,
            "epoch": epoch,
            "loss": 0.0,
            "learning_rate": learning_rate,
            "waited": waited,
            "seconds": seconds,
        }
        found = {"loss": loss}
        if isinstance(self.model, HierarchicalNetwork):
            found |= self.model.drift()
        self.unread.append((row, found))

    def _read_losses(self) -> None:
        """Wait for the device, then complete and report the rows of all steps since last time.

        Raises
        ------
        UserError
            If a loss or W is not finite.
        """
        unread, self.unread, self.last_read = self.unread, [], time.monotonic()
        if not unread:
            return
        asked = time.perf_counter()
        values = torch.stack([value for _, found in unread for value in found.values()]).tolist()
        # The device's remaining work belongs to all of these steps.
        more = (time.perf_counter() - asked) / len(unread)
        for row, found in unread:
            row |= dict(zip(found, values[: len(found)], strict=True))
            row["seconds"] += more
            del values[: len(found)]
            bad = [name for name in found if not math.isfinite(row[name])]
            if bad:
                raise self._diverged(f"{bad[0]} is {row[bad[0]]} at step", row)
            self.history.append(row)
            self.on_step(row, self.total)

    def _save_checkpoint(self, state: TrainState) -> None:
        """Write a checkpoint, if there is where; only of weights that are finite.

        Raises
        ------
        UserError
            If a loss, W, weights or running statistics are not finite.
        """
        self._read_losses()
        models = (self.model,) if self.average is None else (self.model, self.average.module)
        bad = [name for model in models for name in non_finite(model.state_dict())]
        if bad:
            raise self._diverged(f"{bad[0]} is not finite after step", self.history[-1])
        if self.checkpoints is not None:
            self.checkpoints.save(
                state, self.model, self.optimizer, self.lr_scheduler, self.history, self.average
            )

    def _out_of_memory(self, shard: list[Batch], error: torch.OutOfMemoryError) -> UserError:
        size, step = self._at_once(shard), len(self.history) + len(self.unread) + 1
        first = (str(error) or type(error).__name__).splitlines()[0]
        less = (
            "train on smaller images (crops: train.crop_height, train.crop_width), with "
            "train.precision=bfloat16, or with more workers"
        )
        if size > 1:
            # Not "auto" where it was given: several workers have to agree on a number.
            auto = ", or train.micro_batch=auto, which finds a number" * (world()[1] == 1)
            less = f"set train.micro_batch={-(-size // 2)}{auto}"
        return UserError(
            f"the GPU is out of memory in step {step} of {self.total} with {size} examples at a "
            f"time (train.micro_batch = {self.config.micro_batch}): {less} ({first})"
        )

    def _diverged(self, what: str, row: dict[str, Any]) -> UserError:
        setting = learning_rate_setting(self.config, self.phase)
        factor = self.config.w_factor
        also = f" or train.w_factor ({factor:g} now)" if self.phase.learns_w and factor > 1 else ""
        return UserError(
            f"the training diverged: {what} {row['step']} of {self.total} (phase {row['phase']}, "
            f"learning rate {row['learning_rate']:g}): lower {setting} "
            f"({self.phase.learning_rate:g} now){also} and start again"
        )


def dropouts_of(model: nn.Module) -> list[BatchDropout]:
    """All dropout layers, in order."""
    return [module for module in model.modules() if isinstance(module, BatchDropout)]
