"""One case: a run is disturbed, goes on or stops with a message, and ends as an undisturbed one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.cases import FAULTS, STAGES, Stage
from tests.faults.nodes import lose, nodes, raylet_of
from tests.faults.places import can_mount, disk
from tests.faults.references import Lost, References, end, ended, tail
from tests.faults.runs import LIMIT, Run, environment, images_of
from tests.serving import TrackingServer

HELD = 70 * 2**20
GONE = 60.0
"""Seconds that the tracking server is away."""
MESSAGES = {
    "full": "no space left",
    "read-only": "read-only|no permission",
    "store": "object store",
}
"""What the message must say besides beginning with `lhs:`."""


@dataclass(frozen=True)
class Verdict:
    """How a case that passed went.

    Attributes
    ----------
    went_on
        Whether the disturbed run itself ended well.
    message
        The message with which it stopped.
    compared
        How many results were found equal.
    seconds
        That the case took.
    """

    went_on: bool
    message: str
    compared: int
    seconds: float


def attempt(stage: Stage, fault: str, references: References, scratch: Path) -> Verdict:
    """Try a case.

    Parameters
    ----------
    stage, fault
        Which: see `tests.faults.cases`.
    references
        What it must equal in the end.
    scratch
        An empty folder for all that is written.

    Raises
    ------
    Lost
        If the run ends in another way, or what it leaves is not equal.
    """
    started = time.monotonic()
    command = stage.command
    if command == "hierarchy" and fault == "mlflow":
        command = "hierarchical"
    reference = references(command)
    with ExitStack() as places:
        data, storage = scratch / "data", scratch / "storage"
        shutil.copytree(references.data, data)
        trouble = Trouble(fault, scratch, images_of(stage.name, data), places)
        _prepare(reference, stage, storage)
        run = Run(command, data, storage, reference.model)
        target = stage.on_node if fault == "raylet" and stage.on_node else stage.target
        marker, log = scratch / "halted", scratch / "log"
        if fault == "store":
            # It is too small from the start: no moment is waited for.
            marker.touch()
        held = HELD if fault == "store" else 0
        halt = (target, stage.call, marker)
        driver = run.start(log, halt, again=False, held=held, **trouble.environment)
        places.callback(end, driver)
        if fault != "store":
            halted = _wait_for_halt(driver, marker, log)
            try:
                trouble.strike(halted, driver)
            finally:
                with suppress(psutil.NoSuchProcess):
                    halted.resume()
        trouble.pass_by()
        code = ended(driver)
        message = tail(log)
        went_on = _judge(fault, code, run.code, message, trouble.message)
        trouble.lift()
        if not went_on:
            next_start = run.start(log, halt, again=True, **trouble.environment)
            places.callback(end, next_start)
            code = ended(next_start)
            if code != run.code:
                raise Lost(f"the next start: exit code {code}\n{tail(log)}")
        compared = _equal(run.results(), Run(command, data, reference.storage).results())
    messages = [line for line in message.splitlines() if line.startswith("lhs: ")]
    message = "" if went_on or not messages else messages[-1]
    return Verdict(went_on, message, compared, time.monotonic() - started)


class Trouble:
    """A fault: what it needs, how it strikes and how it is lifted.

    Parameters
    ----------
    fault
        Its name.
    scratch
        The case's folder.
    image
        The image to spoil.
    places
        What ends with the case.
    """

    def __init__(self, fault: str, scratch: Path, image: Path, places: ExitStack) -> None:
        self.fault, self.image = fault, image
        self.environment: dict[str, str] = {}
        if fault in ("full", "read-only"):
            self.disk = places.enter_context(disk(scratch / "storage"))
        if fault == "raylet":
            # The driver's node does no work: it is not the one that is lost.
            cluster = places.enter_context(nodes(0, 2, 2, environment=environment()))
            self.environment["RAY_ADDRESS"] = cluster.address
        if fault == "mlflow":
            self.server = TrackingServer(scratch)
            self.server.start()
            places.callback(self.server.stop)
            self.environment["MLFLOW_TRACKING_URI"] = self.server.uri
        self.message = re.escape(image.name) if fault == "image" else MESSAGES.get(fault, "")

    def strike(self, halted: psutil.Process, driver: subprocess.Popen[bytes]) -> None:
        """Bring it about, while a process stands still."""
        match self.fault:
            case "worker":
                halted.kill()
            case "raylet":
                lose(raylet_of(halted))
            case "driver":
                driver.kill()
            case "full":
                self.disk.fill()
            case "read-only":
                self.disk.close()
            case "mlflow":
                self.server.stop()
            case "image":
                cut(self.image)

    def pass_by(self) -> None:
        """Let it end, where it ends of itself."""
        if self.fault == "mlflow":
            time.sleep(GONE)
            self.server.start()

    def lift(self) -> None:
        """Repair what a person would repair before the next start."""
        match self.fault:
            case "full":
                self.disk.free()
            case "read-only":
                self.disk.open()
            case "image":
                mend(self.image)


def _prepare(reference: Run, stage: Stage, storage: Path) -> None:
    """Take what was made before the stage from the undisturbed run."""
    storage.mkdir(exist_ok=True)
    if stage.command in ("unpack", "predict"):
        return
    made = (*stage.made, "model", "evaluation") if stage.command == "sweep" else stage.made
    for path in (reference.storage / "stages").iterdir():
        if path.name not in made:
            shutil.copytree(path, storage / "stages" / path.name)


def _wait_for_halt(driver: subprocess.Popen[bytes], marker: Path, log: Path) -> psutil.Process:
    limit = time.monotonic() + LIMIT
    while not marker.exists():
        if driver.poll() is not None:
            raise Lost(f"ended before the fault: exit code {driver.returncode}\n{tail(log)}")
        if time.monotonic() > limit:
            raise Lost(f"did not come to the point of the fault\n{tail(log)}")
        time.sleep(0.05)
    return psutil.Process(int(marker.read_text()))


def _judge(fault: str, code: int, well: int, message: str, wanted: str) -> bool:
    """Whether the disturbed run went on to its end; it must, or stop as it should."""
    if "Traceback (most recent call last)" in message:
        raise Lost(f"a traceback, exit code {code}\n{message}")
    if fault == "driver":
        if code != -signal.SIGKILL:
            raise Lost(f"the driver was killed, exit code {code}\n{message}")
        return False
    if code == well:
        return True
    # 1: of a sweep, a trial failed.
    if code not in (1, 2) or "\nlhs: " not in message:
        raise Lost(f"no message: exit code {code}\n{message}")
    if not re.search(wanted, message):
        raise Lost(f"the message does not say {wanted!r}\n{message}")
    return False


def _equal(found: dict[str, str], wanted: dict[str, str]) -> int:
    differ = sorted(name for name in found.keys() | wanted.keys()
                    if found.get(name) != wanted.get(name))  # fmt: skip
    if differ or not found:
        raise Lost(f"results differ: {', '.join(differ) or 'none found'}")
    return len(found)


def cut(image: Path) -> None:
    """Cut a file short, and keep it whole beside."""
    shutil.copy2(image, image.with_name(f".{image.name}.whole"))
    # In place, so that it is cut for who has opened it already.
    os.truncate(image, image.stat().st_size // 2)


def mend(image: Path) -> None:
    """Put the whole file back."""
    image.with_name(f".{image.name}.whole").replace(image)


def cases() -> list[tuple[Stage, str]]:
    """All that make sense."""
    return [(stage, fault) for stage in STAGES for fault in FAULTS if fault not in stage.left_out]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="lhs-fault-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def needs_root(fault: str) -> bool:
    """Whether this user can't bring a fault about."""
    return fault in ("full", "read-only") and not can_mount()
