"""Servers that tests start: a port for them, and the wait until they answer."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Any


def free_port() -> int:
    """A port of loopback that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(process: subprocess.Popen[Any], port: int, seconds: float = 60) -> None:
    """Wait until a process takes connections on a port of loopback."""
    limit = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < limit, "the server does not answer"
        time.sleep(0.1)
