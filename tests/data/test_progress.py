"""Progress: lines now and then, or a bar on a terminal."""

from __future__ import annotations

import io
import logging
import sys
import time
from types import SimpleNamespace

import pytest

from lhs.data import progress

LOGGER = logging.getLogger("lhs")


def test_a_line_soon_and_then_a_minute_and_only_of_something_new(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lhs")
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with progress._lines("images read", 40) as show:
        now = 102.0
        show(5)
        assert not caplog.messages
        now = 110.0
        show(10)
        now = 120.0
        show(10)
        assert caplog.messages == ["images read: 10 of 40, 1.0 a second, 0:30 left"]
        show(10, "nearly there")
        assert len(caplog.messages) == 1
        now = 170.0
        show(10, "nearly there")
    assert caplog.messages[1:] == ["images read: nearly there"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_log_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from lhs.cli.main import StderrHandler
    from lhs.engine.runtime.logs import logging_to

    shown = Terminal()
    for name in ("NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", shown)
    with (
        logging_to(StderrHandler()),
        progress.in_stage(3, 6),
        progress.shown("images read", 40) as show,
    ):
        show(10, "[one]")
        LOGGER.info("a line with [brackets]")
        time.sleep(0.3)
    assert "stage 3 of 6, images read: [one]" in shown.getvalue()
    assert "10/40" in shown.getvalue()
    assert "a line with [brackets]\n" in shown.getvalue()


def test_a_training_says_how_many_steps_it_has_when_it_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = Terminal()
    for name in ("NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stderr", shown)
    with progress.shown("training lite baseline", 0) as show:
        for step in (10, 20, 30):
            show(step, f"loss {1 / step:.3f}", 90)
            time.sleep(0.15)
    assert "training lite baseline: loss 0.033" in shown.getvalue()
    assert "30/90" in shown.getvalue()
    assert "/s" in shown.getvalue()
    assert "stage" not in shown.getvalue()


def test_a_number_of_items_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lhs")
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with progress._lines("downloading set.zip, MB", 0) as show:
        now = 110.0
        show(25)
    assert caplog.messages == ["downloading set.zip, MB: 25 of ?, 2.5 a second, ? left"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text
