"""Progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

logger = logging.getLogger("lhs")

INTERVAL = 5.0
"""Least seconds between two lines about the same work."""
MB = 10**6

Show = Callable[..., None]
"""Takes the number of finished items and, if there is one, a status text."""


def shown(title: str, total: int) -> AbstractContextManager[Show]:
    """Show the progress of `total` items while the block runs; 0 if their number is unknown."""
    return (_bar if sys.stderr.isatty() else _lines)(title, total)


@contextmanager
def _lines(title: str, total: int) -> Iterator[Show]:
    started = logged = time.monotonic()
    before = (0, "")

    def show(finished: int, text: str = "") -> None:
        nonlocal before, logged
        now = time.monotonic()
        if now - logged >= INTERVAL and (finished, text) != before:
            rate = finished / (now - started)
            left = clock((total - finished) / rate) if total and rate else "?"
            counted = f"{finished} of {total or '?'}, {rate:.1f} a second, {left} left"
            logger.info("%s: %s", title, text or counted)
            before, logged = (finished, text), now

    yield show


@contextmanager
def _bar(title: str, total: int) -> Iterator[Show]:
    # Here, as only a terminal needs it.
    from rich import progress as bars
    from rich.console import Console

    # What is printed to stderr meanwhile appears above the bar; stdout stays free for results.
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        *([bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn()] * bool(total)),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    ) as progress:
        bar = progress.add_task(title, total=total or None)
        yield lambda finished, text="": progress.update(
            bar, completed=finished, description=f"{title}: {text}" if text else title
        )


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
