"""What a killed training goes on from: all that the next step depends on."""

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
class Position:
    """How far a training is.

    Attributes
    ----------
    phase
        Number of the phase, from 0.
    done
        Steps of it that are done.
    epoch
        Epoch that the next batch comes from, counted over all phases.
    place
        Batches of that epoch that were used.
    first_epoch
        Epoch that the phase began with.
    """

    phase: int = 0
    done: int = 0
    epoch: int = 0
    place: int = 0
    first_epoch: int = 0


class Checkpoints:
    """Keeps one checkpoint, the newest.

    Parameters
    ----------
    read
        Gives the stored bytes, or None.
    write
        Stores bytes in place of those before, whole or not at all; None on workers that only read.
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
        """Whether one should be written after so many steps of a phase."""
        if self.write is None:
            return False
        late = time.monotonic() - self.written > self.seconds
        return late or (self.steps is not None and done % self.steps == 0)

    def save(
        self,
        position: Position,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler,
        history: list[dict[str, Any]],
    ) -> None:
        """Write the state of a training, where this worker does."""
        if self.write is None:
            return
        stream = io.BytesIO()
        state = {
            "position": asdict(position),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),
            "history": history,
        }
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
    state: Mapping[str, Any], model: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> None:
    """Put a loaded state into objects made anew for its phase."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
