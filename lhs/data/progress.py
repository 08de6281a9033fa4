"""Progress of long file work, as lines on stderr."""

from __future__ import annotations

import sys
from typing import TextIO


class Progress:
    """Print the progress of a task of known or unknown length.

    On a terminal one line is written over and over; elsewhere a line is written every tenth.

    Parameters
    ----------
    task
        What is being done, the beginning of each line.
    total
        Its length in `unit`s; 0 where unknown.
    unit
        "MB" for counts of bytes, else a plural noun such as "images".
    stream
        stderr where None.
    """

    def __init__(
        self, task: str, total: int, unit: str = "MB", stream: TextIO | None = None
    ) -> None:
        self._task, self._total, self._unit = task, total, unit
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._done = 0
        self._said = 0

    def add(self, amount: int = 1) -> None:
        """Count work done: bytes or pieces."""
        self.reach(self._done + amount)

    def reach(self, done: int) -> None:
        """Set the amount done so far."""
        self._done = done
        step = self._percent() if self._total else self._done // (50 * 10**6)
        if step >= self._said + (1 if self._terminal or not self._total else 10):
            self._said = step
            self._say("\r" if self._terminal else "\n")

    def end(self) -> None:
        """Finish the line on a terminal."""
        if self._terminal and self._said:
            self._say("\n")

    def _percent(self) -> int:
        return min(100, 100 * self._done // self._total)

    def _say(self, ending: str) -> None:
        done, total = self._done, self._total
        if self._unit == "MB":
            done, total = done // 10**6, total // 10**6
        amount = f"{done} of {total} {self._unit}" if total else f"{done} {self._unit}"
        percent = f"{self._percent():3d} % " if self._total else ""
        print(f"{self._task}: {percent}({amount})", end=ending, file=self._stream, flush=True)
