"""Ray: the running cluster, or a new one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        ray.init(num_cpus=max(2, cores()), include_dashboard=False, **options)
    except ValueError:
        # A cluster is running (RAY_ADDRESS or `ray start`) with its own resources.
        ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


def cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
