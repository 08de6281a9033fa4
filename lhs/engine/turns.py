"""Ray: whose turn it is to train, among trials that are begun before there is room for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

HEAD = "node:__internal_head__"
"""A resource of 1 that only the head node has."""
TRIAL_SHARE = 0.001
"""What a trial books of it: what trains and reads books its CPUs itself, and a trial that held some
while it waits for them would stand in its own way."""
FOR_TURNS = 0.9


@contextmanager
def turn(trainings: int) -> Iterator[None]:
    """Wait until fewer than so many trainings run; this one counts while the block runs.

    Their CPUs alone would not tell: trainings leave some free for those that read and decode. What
    books a turn is an actor, not a placement group, which would outlive a process that is killed.

    Parameters
    ----------
    trainings
        That may run at once, at least 1.
    """
    share = int(FOR_TURNS / trainings * 1e4) / 1e4
    booked = ray.remote(num_cpus=0, resources={HEAD: share}, scheduling_strategy="DEFAULT")
    holder = booked(_Holder).remote()
    try:
        ray.get(holder.begun.remote())
        yield
    finally:
        ray.kill(holder)


class _Holder:
    def begun(self) -> None:
        """Return once it is there."""
