"""Ctrl-C and SIGTERM in the driver: Ray Train ends the process at the one, Ray at the other."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger("lhs")


@contextmanager
def stoppable() -> Iterator[None]:
    """Around Ray Train: Ctrl-C is a KeyboardInterrupt, in the block and after it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        # Its handler aborts the training and exits with code 0, as if all were well.
        raise KeyboardInterrupt from None
    finally:
        # In the processes of trials Ray Train trains in another thread, and sets no handler.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def announce_stop() -> None:
    """Let Ctrl-C print a line before its present handler, that of Ray Train, is called: this one
    waits until all workers of a training have started, and does not say so."""
    handler = signal.getsignal(signal.SIGINT)

    def announced(number: int, frame: FrameType | None) -> None:
        logger.info("stopping: waiting for the processes of the training")
        if callable(handler):
            handler(number, frame)

    signal.signal(signal.SIGINT, announced)


@contextmanager
def sigterm_stops() -> Iterator[None]:
    """In a driver with Ray, entered after its start: SIGTERM, by which Slurm, Kubernetes and `kill`
    end a job, stops it as Ctrl-C does; Ray's own handler prints a stack and ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    # Ray Train's, during a training; where Ctrl-C is ignored, as behind `nohup`, there is none.
    if callable(handler):
        handler(signal.SIGINT, frame)
    raise KeyboardInterrupt
