"""Lines a person can follow, from the driver and, through one small actor, from every worker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

EVERY = 5.0
"""Seconds between two lines of the same work."""


def say(text: str) -> None:
    """Print a line for people; stdout stays free for results."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Counts what workers finished. Runs as an actor; a worker calls `add` or `tell`."""

    def __init__(self) -> None:
        self.finished = 0
        self.text = self.mistaken = ""

    def add(self, count: int) -> None:
        """So many items are finished."""
        self.finished += count

    def tell(self, text: str) -> None:
        """What a worker is at, in its own words."""
        self.text = text

    def met(self, mistake: str) -> None:
        """A worker met a mistake of the user's."""
        self.mistaken = mistake

    def mistake(self) -> str:
        """The last mistake that was met, or nothing."""
        return self.mistaken

    def state(self) -> tuple[int, str]:
        """Items finished, last words."""
        return self.finished, self.text


def beside_driver(kind: type) -> Any:
    """An actor on the node of who calls this: it is not lost with any other."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(kind).remote()


@contextmanager
def followed(title: str, total: int) -> Iterator[Any]:
    """Print how far workers are, every few seconds, while the block runs.

    Parameters
    ----------
    title
        What is being done.
    total
        How many items there are; 0 where workers speak in their own words.

    Yields
    ------
    ray.actor.ActorHandle
        A `Progress` to hand to workers.
    """
    actor = beside_driver(Progress)
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(title, total, actor, stop), daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        stop.set()
        thread.join(timeout=10)
        ray.kill(actor)


def _follow(title: str, total: int, actor: Any, stop: threading.Event) -> None:
    started, said = time.monotonic(), ""
    while not stop.wait(EVERY):
        try:
            finished, text = ray.get(actor.state.remote(), timeout=EVERY)
        except ray.exceptions.RayError:
            continue
        line = f"{title}: {text}" if text else _rate(title, finished, total, started)
        if line != said and (finished or text):
            say(line)
            said = line


def _rate(title: str, finished: int, total: int, started: float) -> str:
    speed = finished / (time.monotonic() - started)
    left = clock((total - finished) / speed) if speed else "?"
    return f"{title}: {finished} of {total}, {speed:.1f} a second, {left} left"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
