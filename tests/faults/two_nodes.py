"""A run of `lite` on Stanford Background on two raylets, which lose one of them twice.

    python -m tests.faults.two_nodes [--data-root DIR] [--set KEY=VALUE...]

The second node is lost while it samples, another takes its place, and that one is lost while it
trains. The undisturbed run is made on one raylet. Prints both hierarchies' digests and scores; exit
code 0 if the digests are equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.faults.nodes import lose, nodes, raylet_of
from tests.faults.references import end
from tests.faults.runs import PROJECT, environment

RECIPE = "stanford-lite-s-lc"
SHORT = ("train.max_steps=6", "train.batch_size=8", "train.checkpoint_steps=1", "data.max_test=24",
         "context.variants=1", "train.workers=2",
         "report.scenes=0", "report.baseline=none")  # fmt: skip
LIMIT = 1800.0
SAMPLER, TRAINER = "sample_batch", "RayTrainWorker"
"""What Ray calls the processes that sample and that train."""


def start(folder: Path, settings: list[str], **more: str) -> subprocess.Popen[bytes]:
    """Start the run; what it says goes to a file beside its storage."""
    words = ["run", RECIPE, "--json"]
    for setting in [*SHORT, *settings, f"storage={folder / 'storage'}"]:
        words += ["--set", setting]
    folder.mkdir(parents=True)
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lhs.run", *words],
            stdout=out, stderr=log, cwd=PROJECT, env=environment(**more), start_new_session=True,
        )  # fmt: skip


def finished(driver: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """What the run found."""
    code = driver.wait(timeout=LIMIT)
    assert code == 0, (folder / "log").read_text()[-4000:]
    found: dict[str, Any] = json.loads((folder / "out").read_text().splitlines()[-1])
    (made,) = folder.glob("storage/stages/hierarchy/*/hierarchy.json")
    (weights,) = folder.glob("storage/stages/model/*/model/weights.safetensors")
    return {
        "digest": json.loads(made.read_text())["digest"],
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "scores": {name: found["scores"][name] for name in ("per_pixel", "per_class", "mean_iou")},
    }


def busy(raylet: psutil.Process, title: str, driver: subprocess.Popen[bytes]) -> psutil.Process:
    """The process of that title on a node, once there is one."""
    limit = time.monotonic() + LIMIT
    while True:
        for process in raylet.children(recursive=True):
            try:
                if title in " ".join(process.cmdline()):
                    return process
            except psutil.Error:
                continue
        assert driver.poll() is None, "the run ended before the fault"
        assert time.monotonic() < limit, f"no {title} on the node in time"
        time.sleep(0.02)


def disturbed(folder: Path, settings: list[str]) -> dict[str, Any]:
    """Run on two nodes, and lose the second twice."""
    # One CPU on the head: the two workers of the training go to the second node together.
    with nodes(1, 2, environment=environment()) as cluster:
        driver = start(folder, settings, RAY_ADDRESS=cluster.address)
        try:
            wait(lambda: "images sampled: " in (folder / "log").read_text(), driver, folder)
            strike(busy(cluster.raylets()[1], SAMPLER, driver))
            cluster.add(2)
            training = folder / "storage" / "stages" / "model"
            wait(lambda: list(training.glob(".unfinished-*/state.pt")), driver, folder)
            strike(busy(cluster.raylets()[1], TRAINER, driver))
            cluster.add(2)
            return finished(driver, folder)
        finally:
            end(driver)


def wait(until: Callable[[], object], driver: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for what the run does."""
    limit = time.monotonic() + LIMIT
    while not until():
        assert driver.poll() is None, (folder / "log").read_text()[-4000:]
        assert time.monotonic() < limit, "the run takes too long"
        time.sleep(0.05)


def strike(process: psutil.Process) -> None:
    """Lose the node of a process."""
    title = " ".join(process.cmdline()).strip()
    raylet = raylet_of(process)
    lost = [child.name() for child in raylet.children(recursive=True)]
    lose(raylet)
    print(f"lost: the node of {title!r}, {len(lost)} processes and their raylet", flush=True)


def main() -> int:
    """Run both, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of all datasets")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    settings = [*chosen.set, *([f"data.root={chosen.data_root}"] if chosen.data_root else [])]
    with tempfile.TemporaryDirectory(prefix="lhs-two-nodes-") as scratch:
        found = {"disturbed": disturbed(Path(scratch) / "disturbed", settings)}
        with nodes(3, environment=environment()) as cluster:
            driver = start(Path(scratch) / "whole", settings, RAY_ADDRESS=cluster.address)
            try:
                found["undisturbed"] = finished(driver, Path(scratch) / "whole")
            finally:
                end(driver)
    for name, run in found.items():
        print(f"{name}: {json.dumps(run)}")
    return 0 if found["disturbed"]["digest"] == found["undisturbed"]["digest"] else 1


if __name__ == "__main__":
    sys.exit(main())
