"""What a trial says in a process of its own, printed by the driver."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from lhs.engine.progress import beside_driver, say

TELL_EVERY = 0.5
"""Seconds between two looks at what was said."""


class Lines:
    """What others say, for the driver to print. Runs as an actor."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """A line of a trial."""
        self.lines.append(line)

    def take(self) -> list[str]:
        """All lines since they were last taken."""
        lines, self.lines = self.lines, []
        return lines


class Sender(io.TextIOBase):
    """A stream whose lines go to the driver, each behind a prefix."""

    def __init__(self, lines: Any, prefix: str) -> None:
        self.lines, self.prefix, self.begun = lines, prefix, ""

    def write(self, text: str) -> int:
        *whole, self.begun = (self.begun + text).split("\n")
        for line in whole:
            self.lines.add.remote(f"{self.prefix}{line}")
        return len(text)


@contextmanager
def heard() -> Iterator[Any]:
    """Print what others say while the block runs; yields the `Lines` to hand to a `Sender`."""
    actor = beside_driver(Lines)
    stop = threading.Event()

    def follow() -> None:
        while True:
            ended = stop.wait(TELL_EVERY)
            with contextlib.suppress(ray.exceptions.RayError):
                for line in ray.get(actor.take.remote()):
                    say(line)
            if ended:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        stop.set()
        thread.join(timeout=10)
        ray.kill(actor)
