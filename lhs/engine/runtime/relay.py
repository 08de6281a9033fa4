"""What a trial says in a process of its own, printed by the driver."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import ray

from lhs.engine.runtime.progress import Progress, meanwhile, opened, say

TELL_EVERY = 0.5
"""Seconds between two looks at what was said."""


class Sender(io.TextIOBase):
    """A stream whose lines go to the driver, each behind a prefix."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self.progress, self.prefix, self.begun = progress, prefix, ""

    def write(self, text: str) -> int:
        *whole, self.begun = (self.begun + text).split("\n")
        for line in whole:
            self.progress.say(f"{self.prefix}{line}")
        return len(text)


@contextmanager
def heard() -> Iterator[Progress]:
    """Print what others say while the block runs; yields what a `Sender` speaks to."""
    with opened() as progress, meanwhile(partial(_pass_on, progress)):
        yield progress


def _pass_on(progress: Progress, stop: threading.Event) -> None:
    ended = False
    while not ended:
        ended = stop.wait(TELL_EVERY)
        with contextlib.suppress(ray.exceptions.RayError):
            for line in progress.said():
                say(line)
