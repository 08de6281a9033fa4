"""Lines a person can follow, from the driver and, through one small actor, from every worker."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

EVERY = 5.0
"""Seconds between two lines of the same work."""


def say(text: str) -> None:
    """Print a line for people; stdout stays free for results."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class State:
    """Items finished, a worker's last words, the last mistake of the user's that one met."""

    finished: int = 0
    text: str = ""
    mistake: str = ""


class Desk:
    """Keeps what workers tell, by their work. Runs as an actor, one for all that a process follows:
    a process of Ray's takes a second to start."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.lines: dict[str, list[str]] = {}

    def open(self, work: str) -> None:
        """Begin to listen for a work."""
        self.states[work], self.lines[work] = State(), []

    def close(self, work: str) -> None:
        """Forget a work; who still speaks of it is not heard."""
        self.states.pop(work, None)
        self.lines.pop(work, None)

    def change(self, work: str, finished: int = 0, **words: str) -> None:
        """So many items more are finished; others of `State`'s words."""
        if work in self.states:
            state = self.states[work]
            self.states[work] = replace(state, finished=state.finished + finished, **words)

    def state(self, work: str) -> State:
        """What is known of a work that is open."""
        return self.states[work]

    def add_line(self, work: str, line: str) -> None:
        """A line for the driver to print as it is."""
        if work in self.lines:
            self.lines[work].append(line)

    def take_lines(self, work: str) -> list[str]:
        """All lines since they were last taken."""
        taken, self.lines[work] = self.lines[work], []
        return taken


@dataclass(frozen=True)
class Progress:
    """Speaks of one work to its desk; travels to workers."""

    desk: Any
    work: str

    def add(self, count: int) -> None:
        """So many items are finished."""
        self.desk.change.remote(self.work, finished=count)

    def tell(self, text: str) -> None:
        """What a worker is at, in its own words."""
        self.desk.change.remote(self.work, text=text)

    def met(self, mistake: str) -> None:
        """A worker met a mistake of the user's; returns once that is known."""
        ray.get(self.desk.change.remote(self.work, mistake=mistake))

    def state(self, timeout: float | None = None) -> State:
        """What is known by now."""
        state: State = ray.get(self.desk.state.remote(self.work), timeout=timeout)
        return state

    def say(self, line: str) -> None:
        """Let the driver print a line."""
        self.desk.add_line.remote(self.work, line)

    def said(self) -> list[str]:
        """All lines since they were last asked for."""
        lines: list[str] = ray.get(self.desk.take_lines.remote(self.work))
        return lines


_desks: dict[str, Any] = {}
"""The desk of this process, by the process's number in Ray: another after each `ray.init`."""


def use_desk_of(progress: Progress) -> None:
    """Let what this process follows from now on be kept at the desk of a work of its driver's."""
    _desks.clear()
    _desks[ray.get_runtime_context().get_worker_id()] = progress.desk


@contextmanager
def opened() -> Iterator[Progress]:
    """A work at this process's desk, which is made where there is none or it was killed."""
    here, work = ray.get_runtime_context().get_worker_id(), uuid.uuid4().hex
    try:
        desk = _desks[here]
        ray.get(desk.open.remote(work))
    except (KeyError, ray.exceptions.RayActorError):
        desk = _new_desk()
        ray.get(desk.open.remote(work))
        _desks.clear()
        _desks[here] = desk
    progress = Progress(desk, work)
    try:
        yield progress
    finally:
        desk.close.remote(work)


def _new_desk() -> Any:
    # On the node of who asks: it is not lost with any other.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()


@contextmanager
def followed(title: str, total: int) -> Iterator[Progress]:
    """Print how far workers are, every few seconds, while the block runs.

    Parameters
    ----------
    title
        What is being done.
    total
        How many items there are; 0 where workers speak in their own words.

    Yields
    ------
    Progress
        To hand to workers.
    """
    with opened() as progress, meanwhile(partial(_follow, title, total, progress)):
        yield progress


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do some work in a thread while the block runs; it is to end soon after the event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _follow(title: str, total: int, progress: Progress, stop: threading.Event) -> None:
    started, said = time.monotonic(), ""
    while not stop.wait(EVERY):
        try:
            state = progress.state(timeout=EVERY)
        except ray.exceptions.RayError:
            continue
        line = f"{title}: {state.text or _rate(state.finished, total, started)}"
        if line != said and (state.finished or state.text):
            say(line)
            said = line


def _rate(finished: int, total: int, started: float) -> str:
    speed = finished / (time.monotonic() - started)
    left = clock((total - finished) / speed) if speed else "?"
    return f"{finished} of {total}, {speed:.1f} a second, {left} left"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
