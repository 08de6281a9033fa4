"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

logger = logging.getLogger("lhs")

FIRST, INTERVAL = 5.0, 60.0
"""Seconds to the first line about some work where stderr is no terminal, then between two lines."""
MB = 10**6

Show = Callable[..., None]
"""Takes the number of finished items and, where they are known now, a status text and how many
items there are."""
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def in_stage(number: int, total: int) -> Iterator[None]:
    """Say at the bars that the block shows which stage of how many of a run it is."""
    token = _stage.set(f"stage {number} of {total}, ")
    try:
        yield
    finally:
        _stage.reset(token)


def shown(title: str, total: int) -> AbstractContextManager[Show]:
    """Show the progress of `total` items while the block runs; 0 if their number is unknown."""
    return (_bar if sys.stderr.isatty() else _lines)(title, total)


@contextmanager
def _lines(title: str, total: int) -> Iterator[Show]:
    started = time.monotonic()
    due = started + min(FIRST, INTERVAL)
    before = (0, "")

    def show(finished: int, text: str = "", known: int = 0) -> None:
        nonlocal before, due
        now = time.monotonic()
        if now >= due and (finished, text) != before:
            rate = finished / (now - started)
            left = clock((total - finished) / rate) if total and rate else "?"
            counted = f"{finished} of {total or '?'}, {rate:.1f} a second, {left} left"
            logger.info("%s: %s", title, text or counted)
            before, due = (finished, text), now + INTERVAL

    yield show


@contextmanager
def _bar(title: str, total: int) -> Iterator[Show]:
    # Here, as only a terminal needs it.
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    title = _stage.get() + title
    # What is printed to stderr meanwhile appears above the bar; stdout stays free for results.
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        Rate(),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    ) as progress:
        bar = progress.add_task(title, total=total or None)

        def show(finished: int, text: str = "", known: int = 0) -> None:
            described = f"{title}: {text}" if text else title
            progress.update(
                bar, completed=finished, total=known or total or None, description=described
            )

        yield show


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
