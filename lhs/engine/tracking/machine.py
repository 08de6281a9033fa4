"""Use of this machine while a run lasts, for its page in MLflow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MONITORED_AFTER = 5.0
"""Seconds of a run after which use of the machine is logged."""


@contextmanager
def system_metrics(uri: str, run_id: str) -> Iterator[None]:
    """Log use of CPUs, memory, disk, network and GPUs of this machine while the block runs; not
    in its first seconds, so that a run that reuses everything does not wait for it."""
    monitors = []

    def begin() -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
        monitor.start()
        monitors.append(monitor)

    timer = threading.Timer(MONITORED_AFTER, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for monitor in monitors:
            monitor.finish()
