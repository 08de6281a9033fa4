"""Checkpoints of a training: everything that its next step depends on."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


@dataclass
class TrainState:
    """How far a training is; the field names are stored.

    Attributes
    ----------
    phase
        Index of the phase.
    done
        Finished steps of the phase.
    epoch
        Epoch of the next batch, counted over all phases.
    place
        Used batches of that epoch.
    first_epoch
        First epoch of the phase.
    micro_batch
        What `train.micro_batch=auto` has come to; None for whole batches.
    """

    phase: int = 0
    done: int = 0
    epoch: int = 0
    place: int = 0
    first_epoch: int = 0
    micro_batch: int | None = None


class Checkpoints:
    """Keeps one checkpoint, the newest.

    Parameters
    ----------
    read
        Gives the stored bytes, or None.
    write
        Replaces the stored bytes atomically; None on workers that only read.
    minutes, steps
        Longest time, and if set most steps, between two checkpoints.
    """

    def __init__(
        self,
        read: Callable[[], bytes | None],
        write: Callable[[bytes], None] | None,
        minutes: float,
        steps: int | None,
    ) -> None:
        self.read, self.write = read, write
        self.seconds, self.steps = 60 * minutes, steps
        self.written = time.monotonic()

    def due(self, done: int) -> bool:
        """Whether to write one after so many steps of a phase."""
        if self.write is None:
            return False
        late = time.monotonic() - self.written > self.seconds
        return late or (self.steps is not None and done % self.steps == 0)

    def save(
        self,
        train_state: TrainState,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler,
        history: list[dict[str, Any]],
        average: nn.Module | None = None,
    ) -> None:
        """Write the state of a training, if this worker writes."""
        if self.write is None:
            return
        stream = io.BytesIO()
        state = {
            "position": asdict(train_state),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": lr_scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "history": history,
        }
        if average is not None:
            state["average"] = average.state_dict()
        torch.save(state, stream)
        self.write(stream.getvalue())
        self.written = time.monotonic()

    def load(self) -> Mapping[str, Any] | None:
        """The stored state, on the CPU."""
        content = self.read()
        if content is None:
            return None
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def restore(
    state: Mapping[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    average: nn.Module | None = None,
) -> None:
    """Load a stored state into new objects of its phase."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    lr_scheduler.load_state_dict(state["schedule"])
    if average is not None:
        average.load_state_dict(state["average"])
    torch.set_rng_state(state["random"])
