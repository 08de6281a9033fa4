"""Ctrl-C while Ray Train trains."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from lhs.engine.runtime.stopping import stoppable


def test_what_ray_train_makes_of_it_is_an_interruption() -> None:
    """Its handler, as it is: it ends the process with code 0, and stays after the training."""
    before = signal.getsignal(signal.SIGINT)

    def train() -> None:
        def handler(number: int, frame: Any) -> None:
            sys.exit(0)

        signal.signal(signal.SIGINT, handler)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stoppable():
        train()
    assert signal.getsignal(signal.SIGINT) is before
    with stoppable():
        signal.signal(signal.SIGINT, lambda number, frame: None)
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_pass() -> None:
    with pytest.raises(ValueError, match="a defect"), stoppable():
        raise ValueError("a defect")
