"""Ctrl-C in the driver: Ray Train ends the process instead, and leaves its handler behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
