"""Ids of the trials that a search proposes, the same however often a trial is restarted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TrialIds:
    """Actor that gives each trial its number.

    Parameters
    ----------
    begun
        The changes of trials that an earlier, killed run of the search began, by number.
    free
        Numbers for new trials.
    """

    def __init__(self, begun: Mapping[int, Mapping[str, Any]], free: Sequence[int]) -> None:
        self.begun, self.free = dict(begun), list(free)
        self.assigned: dict[str, int] = {}

    def assign(self, trial_id: str, changes: Mapping[str, Any]) -> int:
        """The number of a trial: the one it had, or the next free one."""
        if trial_id not in self.assigned:
            same = [number for number, before in self.begun.items() if before == changes]
            self.assigned[trial_id] = same[0] if same else self.free.pop(0)
            self.begun.pop(self.assigned[trial_id], None)
        return self.assigned[trial_id]

    def all(self) -> dict[str, int]:
        """Numbers by Tune's trial id."""
        return self.assigned
