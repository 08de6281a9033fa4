"""Which Ray the program takes, and user errors that come back through it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lhs.cli.main import user_error
from lhs.errors import BadImageError, UserError
from tests.engine.conftest import isolated

CONNECT = """
import os, sys
import ray
from lhs.engine.runtime.cluster import connected

def address():
    with connected():
        return ray.get_runtime_context().gcs_address
own = address()
os.environ["RAY_ADDRESS"] = sys.argv[1]
print(own, address())
"""


@pytest.mark.ray
def test_takes_its_own_ray_or_the_one_that_is_named(cluster: None) -> None:
    import ray

    running = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, running],
        env=isolated(),
        check=True,
        capture_output=True,
        text=True,
    )
    own, named = done.stdout.split()
    assert "Warning" not in done.stderr
    assert "WARN" not in done.stderr
    assert own != running
    assert named == running


@pytest.mark.ray
def test_nothing_to_do_where_ray_runs(cluster: None) -> None:
    import ray

    from lhs.engine.runtime.cluster import connected

    with connected():
        assert ray.is_initialized()
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_user_error_found_by_a_worker(cluster: None) -> None:
    import ray

    def task(kind: str) -> None:
        if kind == "mistake":
            raise UserError("label id 7 out of range")
        if kind == "bad image":
            raise BadImageError("a.jpg: truncated")
        raise ValueError("a defect")

    def rows(batch: dict) -> dict:
        task("mistake")
        return batch

    def outer() -> None:
        ray.get(ray.remote(task).remote("mistake"))

    def caught(call: object) -> BaseException:
        with pytest.raises(Exception) as info:  # noqa: PT011
            call()  # type: ignore[operator]
        return info.value

    remote = ray.remote(task)
    found = user_error(caught(lambda: ray.get(remote.remote("mistake"))))
    assert str(found) == "label id 7 out of range"
    found = user_error(caught(lambda: ray.get(remote.remote("bad image"))))
    assert str(found) == "a.jpg: truncated"
    found = user_error(caught(lambda: ray.get(ray.remote(outer).remote())))
    assert str(found) == "label id 7 out of range"
    # Ray Data puts its own advice below the message.
    found = user_error(caught(lambda: ray.data.range(3).map_batches(rows).materialize()))
    assert str(found).startswith("label id 7 out of range\n")
    assert user_error(caught(lambda: ray.get(remote.remote("a defect")))) is None


def test_a_user_error_of_a_training_worker() -> None:
    from ray.train.v2.api.exceptions import WorkerGroupError

    mistake = UserError("weights do not fit")
    assert user_error(WorkerGroupError("1 worker failed", {0: mistake})) is mistake
    assert user_error(WorkerGroupError("1 worker failed", {0: ValueError()})) is None
