"""Ray: the cluster this program runs in, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

STORE_SHARE = 0.2
"""Of the memory that is available: what Ray's object store may take."""
STORE_LEAST, STORE_MOST = 200_000_000, 16_000_000_000
SHM_SHARE = 0.8
"""Of what /dev/shm has free; Ray takes the store elsewhere, and warns, where it is larger."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Its errors are of no use to a person: one is printed for every pool of actors.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Trials of a sweep see relative paths as their user does.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A stage runs in the processes that the last one left, also after a training between them: one
    # takes a second to start, and two to import torch.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # Four times as many processes are told to the user as a fault. Those of two trainings are more
    # than for two cores.
    "RAY_worker_maximum_startup_concurrency": str(max(8, os.cpu_count() or 1)),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@contextmanager
def connected() -> Iterator[None]:
    """Join the running cluster, or start one on this machine for as long as the block runs."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise a user's mistake that a mapped function finds comes back as text only.
    context.raise_original_map_exception = True
    # Tune prints a traceback for every process of a trial that dies, also where it goes on.
    for chatty in ("ray.data", "ray.tune"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        # Two CPUs at least: a worker that trains and a task beside it. Not address="auto": that
        # would take any Ray of this machine, even the one that another run started for itself.
        ray.init(
            num_cpus=max(2, cores()),
            include_dashboard=False,
            object_store_memory=object_store_bytes(),
            **options,
        )
    except ValueError:
        # There is a cluster, RAY_ADDRESS's or `ray start`'s, which has resources of its own.
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def object_store_bytes(shm: str = "/dev/shm", cgroup: str = "/sys/fs/cgroup") -> int:
    """Size of the object store of a Ray that is started here, by this machine's memory."""
    wanted = min(STORE_MOST, max(STORE_LEAST, int(STORE_SHARE * available_memory(cgroup))))
    if not os.path.isdir(shm):
        # Ray keeps the store in a file, and asks before it makes a large one.
        return min(wanted, 2_000_000_000)
    free = int(SHM_SHARE * shutil.disk_usage(shm).free)
    # In a container with a /dev/shm of Docker's 64 MB the store lies on its disk.
    return min(wanted, free) if free >= STORE_LEAST else STORE_LEAST


def available_memory(cgroup: str = "/sys/fs/cgroup") -> int:
    """Bytes that this process and its children may still take, also in a container."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = ((Path(cgroup) / name).read_text().strip()
                       for name in ("memory.max", "memory.current"))  # fmt: skip
    except OSError:
        return available
    return available if limit == "max" else max(0, min(available, int(limit) - int(used)))


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
