"""A cluster of several raylets on this machine, each a node that can be lost.

`python -m tests.faults.nodes CPUS...`: the first node is the head; prints the address and then, for
each line it reads, adds a node of so many CPUs. It ends, and all nodes with it, when nothing more
is to be read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROJECT = Path(__file__).parents[2]


class Nodes:
    """The cluster, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.address = self._said()

    def _said(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("node "):
                return line.split()[1]
        raise AssertionError("the cluster did not start")

    def add(self, cpus: int) -> None:
        """Add a node, and wait until it is there."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{cpus}\n")
        self.process.stdin.flush()
        self._said()

    def raylets(self) -> list[psutil.Process]:
        """The raylets that run, the head's first."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        alive = [
            process
            for process in found
            if process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE
        ]
        return sorted(alive, key=psutil.Process.create_time)


@contextmanager
def nodes(*cpus: int, environment: dict[str, str]) -> Iterator[Nodes]:
    """Run a cluster while the block runs.

    Parameters
    ----------
    cpus
        Of each node, the head first.
    environment
        Of its processes, and so of all workers.
    """
    # A folder of its own: others on this machine must not find this Ray. Short, since sockets lie
    # in it.
    with tempfile.TemporaryDirectory(prefix="lhs-", ignore_cleanup_errors=True) as scratch:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nodes", *map(str, cpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            cwd=PROJECT, env=environment | {"RAY_TMPDIR": scratch},
        )  # fmt: skip
        try:
            yield Nodes(process)
        finally:
            everyone = psutil.Process(process.pid).children(recursive=True)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
            for left in [*everyone, process]:
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    left.kill()
            process.wait()


def raylet_of(worker: psutil.Process) -> psutil.Process:
    """The raylet of the node that a worker runs on."""
    return next(parent for parent in worker.parents() if parent.name() == "raylet")


def lose(raylet: psutil.Process) -> None:
    """Kill a node as a machine dies: the raylet and all it started, at once."""
    everyone = [raylet, *raylet.children(recursive=True)]
    for process in everyone:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main(*cpus: str) -> int:
    from ray.cluster_utils import Cluster

    head, *others = cpus
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": int(head), "include_dashboard": False},
    )
    for count in others:
        cluster.add_node(num_cpus=int(count))
    print("node", cluster.address, flush=True)
    for line in sys.stdin:
        cluster.add_node(num_cpus=int(line))
        print("node", cluster.address, flush=True)
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    sys.exit(main(*sys.argv[1:]))
