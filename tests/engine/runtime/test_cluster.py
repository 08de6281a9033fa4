"""Which Ray the program takes, and user errors that come back through it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.data._internal.util import _annotate_exception_with_retry_context

from lhs.cli.main import user_error
from lhs.engine.runtime import cluster
from lhs.engine.runtime.cluster import (
    _held_lines,
    _init,
    _own_imports,
    check_sockets,
)
from lhs.errors import BadImageError, UserError
from tests.engine.conftest import isolated

CONNECT = """
import os, sys
import ray
from lhs.engine.runtime.cluster import connected, start

def address():
    with connected():
        start()
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


def test_only_the_line_about_the_log_level_is_left_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with _held_lines():
        os.write(2, b"one\nSet ray log level from environment variable ")
        os.write(2, b"RAY_BACKEND_LOG_LEVEL to 3\n")
        print("two", file=sys.stderr)
    print("three", file=sys.stderr)
    # In pytest, what is printed takes another way than what is written.
    assert sorted(capfd.readouterr().err.splitlines()) == ["one", "three", "two"]


@pytest.mark.thorough
def test_a_start_that_takes_long_is_told_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "QUIET_START", 0.05)
    with _held_lines():
        os.write(2, b"gcs_client.cc:210: Failed to connect to GCS\n")
        time.sleep(0.5)
        assert capfd.readouterr().err == "waiting for Ray to start\n"
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(cluster, "QUIET_START", 0.5)
    with _held_lines():
        pass
    time.sleep(1)
    assert capfd.readouterr().err == ""


def test_a_cluster_is_named_before_it_is_joined(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lhs")
    told: list[list[str]] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "running_cluster", lambda: "10.0.0.1:6379")
    monkeypatch.setattr(cluster, "check_answers", lambda address: None)
    monkeypatch.setattr(cluster, "start", lambda: told.append(caplog.messages[:]))
    with cluster.connected():
        assert told == [["joining the cluster at 10.0.0.1:6379"]]


@pytest.mark.slow
@pytest.mark.ray
def test_a_ray_that_starts_says_nothing() -> None:
    code = CONNECT.replace("own = address()", "print(address()); sys.exit()")
    done = subprocess.run(
        [sys.executable, "-c", code], env=isolated(), check=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_workers_get_this_process_s_imports_and_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/first", "/second"])
    job = _own_imports()
    assert job._py_driver_sys_path == ["/second", "/first"]
    # What Ray asks before it adds folders.
    assert job._runtime_env_has_working_dir()
    assert str(tmp_path).encode() not in job._serialize()


@pytest.mark.ray
@pytest.mark.slow
def test_a_folder_with_names_of_libraries_is_not_imported(tmp_path: Path) -> None:
    """`lhs hierarchy` typed where `lhs/`, `numpy.py` and `ray.py` are."""
    for name in ("lhs/__init__.py", "numpy.py", "ray.py", "pyarrow.py"):
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError('imported from the current folder')\n")
    sets = [f"--set=data.synthetic.{key}" for key in ("train=6", "test=2", "height=64", "width=80")]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lhs"), "hierarchy", "demo", *sets,
         "--set=hierarchy.n_star=5"],
        cwd=tmp_path / "here", env=isolated(LHS_STORAGE=str(tmp_path / "results")),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "current folder" not in done.stderr


def test_a_temporary_folder_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    check_sockets()
    monkeypatch.setenv("TMPDIR", f"/tmp/{'x' * 60}")
    with pytest.raises(UserError, match=r"TMPDIR = .*: 65 bytes .*; allowed are up to 3\d, as in"):
        check_sockets()


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_that_cannot_be_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(cluster, "MAX_SOCKET", 1000)
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/x")):
        monkeypatch.setenv(name, str(folder))
        with pytest.raises(
            UserError,
            match=f"^{name} = {folder}: Ray can make no files there.*; name another folder",
        ):
            check_sockets()
    monkeypatch.setenv(name, str(tmp_path / "new"))
    check_sockets()


RESOURCES = """
import ray
from lhs.engine.runtime.cluster import cluster_nodes, cluster_resources, connected, start
with connected():
    before = cluster_resources()["CPU"], len(cluster_nodes()), ray.is_initialized()
    start()
    after = cluster_resources()["CPU"], len(cluster_nodes()), ray.is_initialized()
print(before == (*after[:2], False) and after[2], ray.is_initialized())
"""


@pytest.mark.ray
def test_it_starts_when_it_is_needed_with_the_resources_that_were_said() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESOURCES],
        env=isolated(CUDA_VISIBLE_DEVICES=""),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "False"]


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
    # Ray Data puts its own advice below the message: it is left out.
    found = user_error(caught(lambda: ray.data.range(3).map_batches(rows).materialize()))
    assert str(found) == "label id 7 out of range"
    assert user_error(caught(lambda: ray.get(remote.remote("a defect")))) is None


def test_what_ray_data_adds_to_a_user_error_is_left_out() -> None:
    added = _annotate_exception_with_retry_context(
        UserError("a.png: damaged\nsecond line"), description="apply UDF transform", attempts=1,
        max_attempts=1, total_backoff_s=0.0, exception_str="",
    )  # fmt: skip
    assert "retried_map_errors" in str(added)
    assert str(user_error(added)) == "a.png: damaged\nsecond line"


def test_a_user_error_of_a_training_worker() -> None:
    from ray.train.v2.api.exceptions import WorkerGroupError

    mistake = UserError("weights do not fit")
    assert user_error(WorkerGroupError("1 worker failed", {0: mistake})) is mistake
    assert user_error(WorkerGroupError("1 worker failed", {0: ValueError()})) is None


LISTENING = """
import json, socket
import psutil
from lhs.engine.runtime.cluster import connected, start
answers = {}
with connected():
    start()
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        for one in process.net_connections("tcp"):
            if one.status != psutil.CONN_LISTEN:
                continue
            try:
                with socket.create_connection(("127.0.0.1", one.laddr.port), 5) as asked:
                    asked.settimeout(5)
                    asked.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                    answers[one.laddr.port] = asked.recv(4000).decode("latin1")
            except OSError:
                answers[one.laddr.port] = ""
print(json.dumps(answers))
"""


@pytest.mark.ray
def test_no_port_of_a_ray_of_our_own_shows_a_page() -> None:
    """Every port that its processes listen on, asked as a browser asks: there is no dashboard."""
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        env=isolated(),
        check=True,
        capture_output=True,
        text=True,
    )
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers
    assert not {port: text for port, text in answers.items() if "<html" in text.lower()}


def test_a_machine_too_busy_for_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match="Ray did not start on this machine"):
        _init()


def test_a_cluster_that_ray_cannot_join_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses resources for a cluster that is named, and then does not find it."""
    import ray

    def init(**options: object) -> None:
        raise ValueError("num_cpus") if "num_cpus" in options else ConnectionError("Failed")

    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"RAY_ADDRESS = 192\.0\.2\.1:6379: no cluster there"):
        _init()
