"""Ray: the running cluster, or one on this machine that starts when it is first needed."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from lhs.engine.runtime.stopping import sigterm_stops
from lhs.errors import UserError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Share of the available memory, and bytes, that the object store of a Ray started here may take
    # at most; Ray itself looks at cgroups and /dev/shm.
    "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.2",
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "16000000000",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Its errors do not help a user: each pool of actors prints one.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A Ray that starts itself would have other settings and outlive the block: see `start`.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Relative paths in a sweep's trials mean the same as in the command.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Stages reuse idle worker processes, also after a training: a process takes a second to start
    # and two to import torch.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # Ray warns when four times as many processes start; two trainings on two cores start more.
    "RAY_worker_maximum_startup_concurrency": str(max(8, os.cpu_count() or 1)),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # With its own handler Tune returns as if all trials had ended.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
QUIET_START = 15.0
"""Seconds after which a line says that Ray has not started yet."""
ANSWER = 10.0
"""Seconds in which the head of a cluster must answer."""
SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""The longest path of a socket that Ray makes below its temporary folder."""
MAX_SOCKET = 107
"""Bytes of a socket's path on Linux."""

logger = logging.getLogger("lhs")
_lock = threading.Lock()
_later: ExitStack | None = None
"""The block of `connected` whose Ray has not started yet."""


def set_quiet() -> None:
    """Set the variables that Ray and MLflow read when they are imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the running cluster, or start one on this machine once the block needs it.

    On a machine with GPUs it starts at once: only its workers know what the GPUs can do.

    Raises
    ------
    UserError
        If the cluster that is named does not answer, or no Ray can start here.
    """
    global _later
    set_quiet()
    import ray

    if ray.is_initialized() or _later is not None:
        if ray.is_initialized():
            _quiet_libraries()
        yield
        return
    with ExitStack() as stack:
        address = running_cluster()
        if address:
            check_answers(address)
            logger.info(f"joining the cluster at {address}")
        else:
            check_sockets()
        stack.callback(_forget)
        _later = stack
        if address or _gpus():
            start()
        yield


def start() -> None:
    """Start the Ray of the block of `connected`, if it has not started yet.

    Whoever is about to use Ray calls it: Ray would start itself otherwise, with other settings.
    """
    global _later
    with _lock:
        if _later is None:
            return
        import ray

        _quiet_libraries()
        with _held_lines():
            _init()
        _later.callback(ray.shutdown)
        _later.enter_context(sigterm_stops())
        _later = None


def not_started() -> bool:
    """Whether this is a block of `connected` whose Ray has not started: on CPUs of this machine."""
    return _later is not None


def _forget() -> None:
    global _later
    _later = None


def _init() -> None:
    import ray

    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if "://" not in os.environ.get("RAY_ADDRESS", ""):
        options["job_config"] = _own_imports()
    try:
        try:
            # Not address="auto": it would join any Ray of this machine, even one that another run
            # started for itself.
            ray.init(num_cpus=_own_cpus(), include_dashboard=False, **options)
        except ValueError:
            # A cluster is running (RAY_ADDRESS or `ray start`) with its own resources.
            ray.init(**options)
    except ConnectionError as error:
        named = os.environ.get("RAY_ADDRESS") or "that of `ray start`"
        raise UserError(f"RAY_ADDRESS = {named}: no cluster there: {error}") from None
    except Exception as error:
        # Ray's own class of error has no name.
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start on this machine in the time that it allows itself; other processes "
            "may keep all its CPUs busy: start again when there are fewer"
        ) from None


def _own_imports() -> Any:
    """A job whose workers import from where this process does, and from nowhere else.

    Ray adds the current folder, and a `numpy.py` there would be imported by all workers.
    """
    from ray.job_config import JobConfig

    class OwnImports(JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:
            # For such jobs Ray adds no folder.
            return True

    # Workers put one after the other in front of their own.
    return OwnImports(_py_driver_sys_path=[path or os.getcwd() for path in reversed(sys.path)])


@contextmanager
def _held_lines() -> Iterator[None]:
    """Leave out the line by which Ray says that it is quiet, and those of a head that does not
    answer, which an error tells; all others appear after the block, as it starts Ray."""
    sys.stderr.flush()
    before = os.dup(2)
    # Not a line of the logger, which would be held too.
    timer = threading.Timer(QUIET_START, os.write, [before, b"waiting for Ray to start\n"])
    timer.daemon = True
    timer.start()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            timer.cancel()
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            for line in held:
                if b"RAY_BACKEND_LOG_LEVEL" not in line and b"gcs_client.cc" not in line:
                    os.write(2, line)


def _quiet_libraries() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise a user error from a mapped function comes back as text only.
    context.raise_original_map_exception = True
    # Tune prints a traceback whenever a trial's process dies, even if it restarts the trial.
    for name in ("ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


# What there is.


def running_cluster() -> str:
    """Address of the cluster to join, by RAY_ADDRESS or `ray start`; empty where there is none."""
    from ray._private.services import find_bootstrap_address

    named = os.environ.get("RAY_ADDRESS", "")
    if named == "local":
        return ""
    return named if named not in ("", "auto") else find_bootstrap_address(None) or named


def check_answers(address: str) -> None:
    """Refuse a cluster whose head does not answer: Ray would wait for it without end.

    Raises
    ------
    UserError
        If it does not within `ANSWER` seconds, or the address is none.
    """
    if address == "auto":
        return
    place = address.rpartition("://")[2].partition("?")[0].partition("/")[0]
    host, _, port = place.rpartition(":")
    named = os.environ.get("RAY_ADDRESS")
    what = f"RAY_ADDRESS = {address}" if named else f"the cluster of `ray start` at {address}"
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"{what}: allowed is HOST:PORT, as in RAY_ADDRESS=10.0.0.1:6379, or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except OSError as error:
        advice = (
            "unset RAY_ADDRESS to work on this machine alone"
            if named
            else "start it again, or type RAY_ADDRESS=local to work without it"
        )
        raise UserError(f"{what}: does not answer ({error.strerror or error}); {advice}") from None


def check_sockets() -> None:
    """Refuse a temporary folder that can't be made or written, or whose path is too long for the
    sockets of Ray.

    Raises
    ------
    UserError
        With the variable that names it, and what is allowed.
    """
    from ray._common.utils import get_default_system_temp_dir

    folder = str(get_default_system_temp_dir())
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    most = MAX_SOCKET - len(SOCKET) - 1
    if len(os.fsencode(folder)) > most:
        raise UserError(
            f"{name} = {folder}: {len(os.fsencode(folder))} bytes are too many for Ray's sockets; "
            f"allowed are up to {most}, as in RAY_TMPDIR=/tmp"
        )
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{name} = {folder}: Ray can make no files there ({error.strerror or error}); name "
            f"another folder that can be written, as in {name}=/tmp"
        ) from None


def cluster_resources() -> Mapping[str, float]:
    """The cluster's resources by Ray's names; of one that has not started, those it will have."""
    if _later is not None:
        return {"CPU": float(_own_cpus())}
    import ray

    return dict(ray.cluster_resources())


def cluster_nodes() -> list[Mapping[str, float]]:
    """The resources of each node that is alive."""
    if _later is not None:
        return [cluster_resources()]
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _gpus() -> int:
    """Number of GPUs that a Ray started here would find."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    return int(manager.get_current_node_num_accelerators()) if manager else 0


def _own_cpus() -> int:
    """CPUs of a Ray started here: at least two, a training worker and a task beside it."""
    return max(2, cores())


def cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
