"""What workers report, as the driver shows and logs it."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from lhs.data import progress as display
from lhs.engine.runtime import progress
from lhs.engine.runtime.logs import logging_to
from lhs.engine.runtime.progress import (
    Progress,
    ProgressActor,
    ProgressHandler,
    TaskState,
    followed,
    forwarded_logs,
    opened,
)
from tests.engine.conftest import isolated

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
    monkeypatch.setattr(display, "INTERVAL", 0.2)
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
    with forwarded_logs() as task:
        handler = ProgressHandler(task, "[3 x] ")
        handler.handle(logging.makeLogRecord({"msg": "one", "levelno": logging.WARNING}))
        handler.handle(logging.makeLogRecord({"msg": "two", "levelno": logging.INFO}))
    assert [(level, text) for _, level, text in logged.record_tuples] == [
        (logging.WARNING, "[3 x] one"),
        (logging.INFO, "[3 x] two"),
    ]


@pytest.mark.parametrize("started", [True, False])
def test_a_process_that_ray_is_slow_to_start_is_told_of(
    started: bool, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    call = SimpleNamespace(remote=lambda *_: "done")
    actor = SimpleNamespace(open=call, close=call)
    made = SimpleNamespace(remote=lambda: actor)
    context = SimpleNamespace(get_node_id=lambda: 56 * "0")
    monkeypatch.setattr(progress, "start", lambda: None)
    monkeypatch.setattr(progress, "_process", lambda: ("session", "worker"))
    monkeypatch.setattr(progress, "_actors", {})
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    monkeypatch.setattr("ray.remote", lambda **_: lambda kind: made)
    monkeypatch.setattr("ray.get", lambda answer: answer)
    monkeypatch.setattr("ray.wait", lambda refs, timeout: (refs if started else [], []))
    with opened():
        assert logged.messages == ([] if started else ["waiting for Ray to start a process"])


@pytest.mark.thorough
def test_workers_that_report_nothing_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    reported = [TaskState()]
    poll = SimpleNamespace(remote=lambda task: (reported[-1], []))
    task = Progress(SimpleNamespace(poll=poll), "a")
    monkeypatch.setattr("ray.get", lambda answer: answer)
    monkeypatch.setattr(progress, "POLL", 0.01)
    monkeypatch.setattr(progress, "QUIET", 0.1)
    with progress._polled(task, "things made: ", lambda *_: None):
        time.sleep(0.5)
    assert logged.messages == ["things made: waiting for Ray's workers to start and to report"]
    logged.clear()
    reported.append(TaskState(finished=1))
    with progress._polled(task, "things made: ", lambda *_: None):
        time.sleep(0.5)
    reported.append(TaskState())
    with progress._polled(task, "", lambda *_: None):
        time.sleep(0.5)
    assert not logged.messages


TWICE = """
from lhs.engine.runtime.cluster import connected, start
from lhs.engine.runtime.progress import opened
for number in range(2):
    with connected():
        start()
        with opened() as progress:
            progress.report_error(str(number))
            print(progress.state().error)
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_process_that_starts_ray_again_has_a_new_actor(tmp_path: Path) -> None:
    # Its id in Ray is the same both times.
    done = subprocess.run(
        [sys.executable, "-c", TWICE], env=isolated(), cwd=tmp_path, text=True, timeout=300,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1"])
