"""Progress of running tasks: workers report it to one actor, the driver shows and logs it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lhs.data.progress import Show, shown
from lhs.engine.runtime.cluster import start

logger = logging.getLogger("lhs")

POLL = 0.5
"""Seconds after which the driver asks the actor again."""


QUIET = 15.0
"""Seconds of nothing from a task's workers after which a line says so."""


@dataclass(frozen=True)
class TaskState:
    """Items finished, a worker's latest status text, the latest user error in a worker; steps done
    and their number, where a worker reports these."""

    finished: int = 0
    text: str = ""
    error: str = ""
    step: int = 0
    steps: int = 0


class ProgressActor:
    """Actor that stores the progress and the log lines of each task.

    One serves all tasks of a process: Ray takes a second to start an actor's process.
    """

    def __init__(self) -> None:
        self.states: dict[str, TaskState] = {}
        self.messages: dict[str, list[tuple[int, str]]] = {}

    def open(self, task: str) -> None:
        """Begin a task."""
        self.states[task], self.messages[task] = TaskState(), []

    def close(self, task: str) -> None:
        """Forget a task; later reports on it are ignored."""
        self.states.pop(task, None)
        self.messages.pop(task, None)

    def update(self, task: str, finished: int = 0, **changes: Any) -> None:
        """Count more finished items, and set other fields of the task's state."""
        if task in self.states:
            state = self.states[task]
            self.states[task] = replace(state, finished=state.finished + finished, **changes)

    def log(self, task: str, level: int, message: str) -> None:
        """Keep a log line for the driver."""
        if task in self.messages:
            self.messages[task].append((level, message))

    def state(self, task: str) -> TaskState:
        """The state of an open task."""
        return self.states[task]

    def poll(self, task: str) -> tuple[TaskState, list[tuple[int, str]]]:
        """The state of an open task, and its log lines since the last call."""
        messages, self.messages[task] = self.messages[task], []
        return self.states[task], messages


@dataclass(frozen=True)
class Progress:
    """Reports on one task to its actor; is sent to workers."""

    actor: Any
    task: str

    def add(self, count: int) -> None:
        """Count more finished items."""
        self.actor.update.remote(self.task, finished=count)

    def report(self, text: str, step: int = 0, steps: int = 0) -> None:
        """Set the status text, of which the driver shows the latest now and then, and the steps
        done of all."""
        self.actor.update.remote(self.task, text=text, step=step, steps=steps)

    def report_error(self, message: str) -> None:
        """Report an error of the user's; returns when the actor has it."""
        ray.get(self.actor.update.remote(self.task, error=message))

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Let the driver log a line."""
        self.actor.log.remote(self.task, level, message)

    def state(self) -> TaskState:
        """What was reported so far."""
        state: TaskState = ray.get(self.actor.state.remote(self.task))
        return state


class ProgressHandler(logging.Handler):
    """Sends log lines to the driver, each with a prefix."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        super().__init__()
        self.progress, self.prefix = progress, prefix

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self.progress.log(f"{self.prefix}{line}", record.levelno)


_actors: dict[tuple[str, str], Any] = {}
"""The actor of this process, by the cluster and the process's id, which the next one may repeat."""


def _process() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_session_name(), context.get_worker_id()


def share_actor(progress: Progress) -> None:
    """Use the actor of a task of the driver's for the tasks of this process too."""
    _actors.clear()
    _actors[_process()] = progress.actor


@contextmanager
def opened() -> Iterator[Progress]:
    """A new task at this process's actor, which is started where there is none or it died."""
    start()
    process, task = _process(), uuid.uuid4().hex
    try:
        actor = _actors[process]
        ray.get(actor.open.remote(task))
    except (KeyError, ray.exceptions.RayActorError):
        # On this process's own node, so that it is not lost with another.
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=node)(ProgressActor).remote()
        ready = actor.open.remote(task)
        if not ray.wait([ready], timeout=QUIET)[0]:
            logger.info("waiting for Ray to start a process")
        ray.get(ready)
        _actors.clear()
        _actors[process] = actor
    try:
        yield Progress(actor, task)
    finally:
        actor.close.remote(task)


@contextmanager
def followed(title: str, total: int) -> Iterator[Progress]:
    """Show a task's progress while the block runs: a bar on a terminal, otherwise log lines.

    Parameters
    ----------
    title
        What is being done.
    total
        How many items there are; 0 where workers report a text.

    Yields
    ------
    Progress
        To hand to workers.
    """
    with opened() as progress, shown(title, total) as show, _polled(progress, f"{title}: ", show):
        yield progress


@contextmanager
def forwarded_logs() -> Iterator[Progress]:
    """Log what the `ProgressHandler`s of other processes send while the block runs."""
    with opened() as progress, _polled(progress, "", lambda *_: None):
        yield progress


@contextmanager
def _polled(progress: Progress, prefix: str, show: Show) -> Iterator[None]:
    """Log a task's lines and show its state, in a thread and once more at the block's end; with a
    prefix also say once that workers are waited for."""
    stop, due = threading.Event(), time.monotonic() + QUIET

    def poll() -> None:
        ended, silent = False, bool(prefix)
        while not ended:
            ended = stop.wait(POLL)
            with suppress(ray.exceptions.RayError):
                state, messages = ray.get(progress.actor.poll.remote(progress.task))
                for level, message in messages:
                    logger.log(level, "%s%s", prefix, message)
                show(state.finished or state.step, state.text, state.steps)
                silent = silent and not messages and state == TaskState()
                if silent and not ended and time.monotonic() > due:
                    logger.info("%swaiting for Ray's workers to start and to report", prefix)
                    silent = False

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
