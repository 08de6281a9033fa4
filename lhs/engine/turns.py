"""Ray: whose turn it is to train, among trials that are begun before there is room for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util.placement_group import placement_group, remove_placement_group

HEAD = "node:__internal_head__"
"""A resource of 1 that only the head node has."""
TRIAL_SHARE = 0.001
"""What a trial books of it: what trains and reads books its CPUs itself, and a trial that held some
while it waits for them would stand in its own way."""
FOR_TURNS = 0.9


@contextmanager
def turn(trainings: int) -> Iterator[None]:
    """Wait until fewer than so many trainings run; this one counts while the block runs.

    Their CPUs alone would not tell: trainings leave some free for those that read and decode. A
    turn ends with the process that has it, however that one ends.

    Parameters
    ----------
    trainings
        That may run at once, at least 1.
    """
    share = int(FOR_TURNS / trainings * 1e4) / 1e4
    group = placement_group([{HEAD: share}])
    try:
        ray.get(group.ready())
        yield
    finally:
        remove_placement_group(group)
