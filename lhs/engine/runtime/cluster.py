"""Ray: the running cluster, or a new one on this machine."""

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
"""Share of the available memory that Ray's object store may take."""
STORE_LEAST, STORE_MOST = 200_000_000, 16_000_000_000
SHM_SHARE = 0.8
"""Share of the free space in /dev/shm; Ray puts a larger store elsewhere and warns."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Its errors do not help a user: each pool of actors prints one.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Relative paths in a sweep's trials mean the same as in the command.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Stages reuse idle worker processes, also after a training: a process takes a second to start
    # and two to import torch.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # Ray warns when four times as many processes start; two trainings on two cores start more.
    "RAY_worker_maximum_startup_concurrency": str(max(8, os.cpu_count() or 1)),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the running cluster, or start one on this machine while the block runs."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise a user error from a mapped function comes back as text only.
    context.raise_original_map_exception = True
    # Tune prints a traceback whenever a trial's process dies, even if it restarts the trial.
    for name in ("ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        # At least two CPUs: a training worker and a task beside it. Not address="auto": it would
        # join any Ray of this machine, even one that another run started for itself.
        ray.init(
            num_cpus=max(2, cores()),
            include_dashboard=False,
            object_store_memory=object_store_bytes(),
            **options,
        )
    except ValueError:
        # A cluster is running (RAY_ADDRESS or `ray start`) with its own resources.
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def object_store_bytes(shm: str = "/dev/shm", cgroup: str = "/sys/fs/cgroup") -> int:
    """Bytes for the object store of a Ray that is started here, from this machine's memory."""
    wanted = min(STORE_MOST, max(STORE_LEAST, int(STORE_SHARE * available_memory(cgroup))))
    if not os.path.isdir(shm):
        # Ray keeps the store in a file, and asks before it creates a large one.
        return min(wanted, 2_000_000_000)
    free = int(SHM_SHARE * shutil.disk_usage(shm).free)
    # With Docker's default /dev/shm of 64 MB Ray puts the store on disk.
    return min(wanted, free) if free >= STORE_LEAST else STORE_LEAST


def available_memory(cgroup: str = "/sys/fs/cgroup") -> int:
    """Bytes that this process and its children may still allocate, also in a container."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = ((Path(cgroup) / name).read_text().strip()
                       for name in ("memory.max", "memory.current"))  # fmt: skip
    except OSError:
        return available
    return available if limit == "max" else max(0, min(available, int(limit) - int(used)))


def cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
