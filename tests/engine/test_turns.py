"""Turns: never more at once than may be, and none is lost with the process that had it."""

import os
import signal
import time
from pathlib import Path

import pytest
import ray

from lhs.engine.turns import turn

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=0)
def hold(turns: int, seconds: float, log: str) -> None:
    with turn(turns):
        with Path(log).open("a") as file:
            file.write("+\n")
        time.sleep(seconds)
        with Path(log).open("a") as file:
            file.write("-\n")


@pytest.mark.parametrize("turns", [1, 2])
def test_so_many_hold_a_turn_at_once(cluster, tmp_path, turns) -> None:
    log = tmp_path / "log"
    ray.get([hold.remote(turns, 0.5, str(log)) for _ in range(4)])
    at_once, most = 0, 0
    for line in log.read_text().split():
        at_once += 1 if line == "+" else -1
        most = max(most, at_once)
    assert (most, at_once) == (turns, 0)


def test_patience_ends_and_takes_nothing(cluster, tmp_path) -> None:
    with turn(1) as first:
        with turn(1, patience=0.5) as second:
            assert (first, second) == (True, False)
        with turn(2, patience=0.5) as beside:
            assert not beside, "a whole turn is taken, half of one is not left"
    with turn(1, patience=30) as third:
        assert third


def test_a_turn_ends_with_its_process(cluster, tmp_path) -> None:
    @ray.remote(num_cpus=0)
    class Killed:
        def hold(self) -> int:
            self.turn = turn(1)
            self.turn.__enter__()
            return os.getpid()

    holder = Killed.remote()
    os.kill(ray.get(holder.hold.remote()), signal.SIGKILL)
    ray.get(hold.remote(1, 0.0, str(tmp_path / "log")), timeout=60)
