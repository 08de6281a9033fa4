"""Where the log lines of `lhs` go: nothing is set up at import, a program or a trial chooses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    """Send the log lines of `lhs`, INFO and above, to a handler alone while the block runs."""
    logger = logging.getLogger("lhs")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # Otherwise a handler that some library gives the root logger would print each line again.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
