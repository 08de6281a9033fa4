"""Numbers of trials that a search proposes, the same however often a trial is started again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Numbers:
    """Gives every trial its number. Runs as an actor.

    Parameters
    ----------
    begun
        What the trials change that an earlier life of the search began, by number.
    free
        Numbers for new ones.
    """

    def __init__(self, begun: Mapping[int, Mapping[str, Any]], free: Sequence[int]) -> None:
        self.begun, self.free = dict(begun), list(free)
        self.given: dict[str, int] = {}

    def of(self, trial_id: str, changes: Mapping[str, Any]) -> int:
        """The number of a trial: the one it had, or the next."""
        if trial_id not in self.given:
            same = [number for number, before in self.begun.items() if before == changes]
            self.given[trial_id] = same[0] if same else self.free.pop(0)
            self.begun.pop(self.given[trial_id], None)
        return self.given[trial_id]

    def all(self) -> dict[str, int]:
        """Numbers by Tune's name of the trial."""
        return self.given
