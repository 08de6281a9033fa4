"""What workers report, as the driver shows and logs it."""

from __future__ import annotations

import io
import logging
import sys
import time
from types import SimpleNamespace

import pytest
import ray

from lhs.engine.runtime import progress
from lhs.engine.runtime.logs import logging_to
from lhs.engine.runtime.progress import (
    Progress,
    ProgressActor,
    ProgressHandler,
    TaskState,
    followed,
    opened,
    relayed,
)

LOGGER = logging.getLogger("lhs")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="lhs")
    return caplog


def test_an_actor_keeps_tasks_apart_and_ignores_reports_on_closed_ones() -> None:
    actor = ProgressActor()
    actor.open("a")
    actor.open("b")
    actor.update("a", finished=2)
    actor.update("a", finished=3, text="reading")
    actor.update("b", error="wrong")
    actor.log("a", logging.INFO, "one")
    assert actor.poll("a") == (TaskState(5, "reading"), [(logging.INFO, "one")])
    assert actor.poll("a") == (TaskState(5, "reading"), [])
    assert actor.state("b") == TaskState(error="wrong")
    actor.close("a")
    actor.update("a", finished=1)
    actor.log("a", logging.INFO, "late")
    actor.open("a")
    assert actor.poll("a") == (TaskState(), [])


def test_a_line_at_most_every_few_seconds_and_only_of_something_new(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with progress._lines("images read", 40) as show:
        now = 102.0
        show(TaskState(finished=5))
        assert not logged.messages
        now = 110.0
        show(TaskState(finished=10))
        now = 120.0
        show(TaskState(finished=10))
        assert logged.messages == ["images read: 10 of 40, 1.0 a second, 0:30 left"]
        show(TaskState(finished=10, text="nearly there"))
    assert logged.messages[1:] == ["images read: nearly there"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_log_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from lhs.cli.main import StderrHandler

    shown = Terminal()
    for name in ("NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", shown)
    with logging_to(StderrHandler()), progress._bar("images read", 40) as show:
        show(TaskState(finished=10, text="[one]"))
        LOGGER.info("a line with [brackets]")
        time.sleep(0.3)
    assert "images read: [one]" in shown.getvalue()
    assert "10/40" in shown.getvalue()
    assert "a line with [brackets]\n" in shown.getvalue()


def test_a_handler_sends_each_line_with_its_prefix_and_level() -> None:
    sent: list[tuple[str, int]] = []
    handler = ProgressHandler(SimpleNamespace(log=lambda *line: sent.append(line)), "[3 x] ")  # type: ignore[arg-type]
    before = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    with logging_to(handler):
        LOGGER.info("one\ntwo %s", 2)
        logging.getLogger("lhs.hierarchy").warning("three")
        LOGGER.debug("not this")
    assert sent == [
        ("[3 x] one", logging.INFO),
        ("[3 x] two 2", logging.INFO),
        ("[3 x] three", logging.WARNING),
    ]
    assert (LOGGER.handlers, LOGGER.level, LOGGER.propagate) == before


@ray.remote(num_cpus=0)
def reports(tasks: list[Progress]) -> None:
    for count, task in enumerate(tasks, 1):
        task.add(count)
        task.add(10)
        task.report(f"at {count}")
    tasks[0].report_error("wrong")


@pytest.mark.ray
def test_tasks_of_a_process_share_an_actor(cluster: None) -> None:
    with opened() as one, opened() as two:
        assert one.actor._actor_id == two.actor._actor_id
        ray.get(reports.remote([one, two]))
        assert one.state() == TaskState(finished=11, text="at 1", error="wrong")
        assert two.state() == TaskState(finished=12, text="at 2")


@pytest.mark.ray
def test_after_its_actor_was_killed_the_next_task_has_another(cluster: None) -> None:
    with opened() as task:
        ray.kill(task.actor)
    with opened() as other:
        other.add(2)
        assert other.state().finished == 2


@pytest.mark.ray
def test_progress_and_log_lines_of_workers_are_logged_by_the_driver(
    cluster: None, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.2)
    monkeypatch.setattr(progress, "POLL", 0.1)
    with followed("things made", 40) as task:
        task.add(10)
        time.sleep(1)
        task.report("nearly there")
        time.sleep(1)
        task.log("a line")
    assert logged.messages[0].startswith("things made: 10 of 40, ")
    assert logged.messages[-2:] == ["things made: nearly there", "things made: a line"]


@pytest.mark.ray
def test_log_lines_of_a_trial_are_logged_by_the_driver(
    cluster: None, logged: pytest.LogCaptureFixture
) -> None:
    with relayed() as task:
        handler = ProgressHandler(task, "[3 x] ")
        handler.handle(logging.makeLogRecord({"msg": "one", "levelno": logging.WARNING}))
        handler.handle(logging.makeLogRecord({"msg": "two", "levelno": logging.INFO}))
    assert [(level, text) for _, level, text in logged.record_tuples] == [
        (logging.WARNING, "[3 x] one"),
        (logging.INFO, "[3 x] two"),
    ]
