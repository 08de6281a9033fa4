"""What workers tell, as the driver hears it."""

from __future__ import annotations

import time

import pytest
import ray

from lhs.engine.runtime import progress
from lhs.engine.runtime.progress import Progress, State, followed, opened
from lhs.engine.runtime.relay import Sender, heard

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=0)
def tells(works: list[Progress]) -> None:
    for count, work in enumerate(works, 1):
        work.add(count)
        work.add(10)
        work.tell(f"at {count}")
    works[0].met("wrong")


def test_works_at_one_desk_are_told_apart(cluster: None) -> None:
    with opened() as one, opened() as two:
        assert one.desk._actor_id == two.desk._actor_id
        ray.get(tells.remote([one, two]))
        assert one.state() == State(finished=11, text="at 1", mistake="wrong")
        assert two.state() == State(finished=12, text="at 2")


def test_who_speaks_of_a_work_that_is_over_does_no_harm(cluster: None) -> None:
    with opened() as over:
        pass
    over.add(3)
    over.say("late")
    with opened() as work:
        work.add(1)
        assert work.state() == State(finished=1)
        assert work.said() == []


def test_after_its_desk_was_killed_the_next_work_has_another(cluster: None) -> None:
    with opened() as work:
        ray.kill(work.desk)
    with opened() as other:
        other.add(2)
        assert other.state().finished == 2


def test_how_far_it_is_is_printed(
    cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.2)
    with followed("things made", 40) as work:
        work.add(10)
        time.sleep(1)
        work.tell("nearly there")
        time.sleep(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("things made: 10 of 40, ")
    assert lines[-1] == "things made: nearly there"


def test_what_a_trial_says_is_printed_by_the_driver(
    cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with heard() as lines:
        sender = Sender(lines, "[3 x] ")
        sender.write("one\ntw")
        sender.write("o\nthree")
    assert capsys.readouterr().err.splitlines() == ["[3 x] one", "[3 x] two"]
