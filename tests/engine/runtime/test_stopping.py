"""Ctrl-C while Ray Train trains."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lhs.engine.runtime.stopping import announce_stop, sigterm_stops, stoppable


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


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_sigterm_is_an_interruption_also_where_ctrl_c_is_ignored(
    handler: Callable[..., Any] | signal.Handlers,
) -> None:
    ctrl_c, before = signal.signal(signal.SIGINT, handler), signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_stops():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_training_sigterm_calls_the_handler_of_ray_train() -> None:
    called: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def handler(number: int, frame: Any) -> None:
        called.append(number)
        sys.exit(0)

    def train() -> None:
        signal.signal(signal.SIGINT, handler)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), sigterm_stops(), stoppable():
        train()
    assert called == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_line_before_the_handler_of_ray_train_which_may_wait(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lhs")
    before: list[list[str]] = []

    def handler(number: int, frame: Any) -> None:
        before.append(caplog.messages[:])
        sys.exit(0)

    def train() -> None:
        signal.signal(signal.SIGINT, handler)
        announce_stop()
        os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt), sigterm_stops(), stoppable():
        train()
    assert before == [["stopping: waiting for the processes of the training"]]
