"""Servers that tests start: a port for them, and the wait until they answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ObjectStore:
    """A running server of S3's protocol, with one bucket."""

    bucket: str
    address: str
    log: Path

    @property
    def query(self) -> str:
        """What stands behind a URI for this server instead of Amazon's."""
        return f"?endpoint_override={self.address}&scheme=http&region=us-east-1"

    def uri(self, folder: str) -> str:
        """Of a folder in the bucket."""
        return f"s3://{self.bucket}/{folder}{self.query}"

    def requests(self) -> int:
        """How many it has answered."""
        return self.log.read_text().count("HTTP/1.1")


@contextmanager
def object_store(log: Path, bucket: str = "bucket", **variables: str) -> Iterator[ObjectStore]:
    """A server of S3's protocol (moto's) with one empty bucket; it writes its requests to `log`."""
    port = free_port()
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=lines, stderr=lines, env=os.environ | variables,
        )  # fmt: skip
    try:
        wait_for(process, port)
        make = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(make).close()
        yield ObjectStore(bucket, f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait()


SECRETS = {
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
"""What a client of it needs in its environment."""


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
