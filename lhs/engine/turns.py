"""Ray: whose turn it is to train, among trials that are begun before there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import ray

Turn = Callable[[float | None], AbstractContextManager[bool]]
"""Waits for so many seconds at most, or (None) for ever; tells whether the turn has come."""

HEAD = "node:__internal_head__"
"""A resource of 1 that only the head node has."""
TRIAL_SHARE = 0.001
"""What a trial books of it: what trains and reads books its CPUs itself, and a trial that held some
while it waits for them would stand in its own way."""
FOR_TURNS = 0.9


@contextmanager
def no_turn(patience: float | None = None) -> Iterator[bool]:
    """The turn of who has nobody to wait for."""
    yield True


@contextmanager
def turn(trainings: int, patience: float | None = None) -> Iterator[bool]:
    """Wait until fewer than so many trainings run; this one counts while the block runs.

    Their CPUs alone would not tell: trainings leave some free for those that read and decode. What
    books a turn is an actor, not a placement group, which would outlive a process that is killed.

    Parameters
    ----------
    trainings
        That may run at once, at least 1.
    patience
        Seconds to wait at most; None is for ever.

    Yields
    ------
    bool
        Whether the turn has come.
    """
    share = int(FOR_TURNS / trainings * 1e4) / 1e4
    booked = ray.remote(num_cpus=0, resources={HEAD: share}, scheduling_strategy="DEFAULT")
    holder = booked(_Holder).remote()
    try:
        come, _ = ray.wait([holder.begun.remote()], timeout=patience)
        ray.get(come)
        yield bool(come)
    finally:
        ray.kill(holder)


class _Holder:
    def begun(self) -> None:
        """Return once it is there."""
