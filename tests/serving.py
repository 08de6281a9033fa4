"""Servers that tests start: a port for them, and the wait until they answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests


def free_port() -> int:
    """A port of loopback that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(
    process: subprocess.Popen[Any], port: int, seconds: float = 60, address: str = "127.0.0.1"
) -> None:
    """Wait until a process takes connections on a port, of loopback if no other is named."""
    limit = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < limit, "the server does not answer"
        time.sleep(0.1)


class TrackingServer:
    """A real MLflow server on a SQLite file, to be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri, self.folder = f"http://127.0.0.1:{self.port}", folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options,
             "--backend-store-uri", f"sqlite:///{self.folder / 'served.db'}",
             "--artifacts-destination", str(self.folder / "artifacts")],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        limit = time.monotonic() + 90
        while time.monotonic() < limit:
            try:
                if requests.get(f"{self.uri}/health", timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
