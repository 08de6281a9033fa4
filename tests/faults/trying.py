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
from filelock import FileLock

from tests.faults.cases import FAULTS, STAGES, Stage
from tests.faults.nodes import lose, nodes, raylet_of
from tests.faults.places import can_mount, disk
from tests.faults.runs import LIMIT, Run, environment, images_of, make_data
from tests.serving import TrackingServer

NOWHERE = "lhs.data.archive:_Writer.file"
"""Where no process is to stand still."""
HELD = 70 * 2**20
GONE = 60.0
"""Seconds that the tracking server is away."""
TOLD = {
    "full": "no space left",
    "read-only": "read-only|no permission",
    "image": None,
    "store": "object store",
}
"""What the message must say besides beginning with `lhs:`."""


class Lost(AssertionError):
    """The case is lost, and why."""


@dataclass(frozen=True)
class Verdict:
    """How a case that passed went.

    Attributes
    ----------
    went_on
        Whether the disturbed run itself ended well.
    told
        The message with which it stopped.
    compared
        How many results were found equal.
    seconds
        That the case took.
    """

    went_on: bool
    told: str
    compared: int
    seconds: float


class References:
    """Undisturbed runs, each made when it is first needed.

    Parameters
    ----------
    folder
        Where they lie; those that are there already are taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        # Two tables may be made at once.
        self.lock = FileLock(folder / "lock")
        with self.lock:
            self._make_data()

    def _make_data(self) -> None:
        if not (self.data / "done").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self.data.mkdir(parents=True)
            make_data(self.data)
            (self.data / "done").touch()

    def __call__(self, command: str) -> Run:
        """The undisturbed run of a command."""
        wanted = "hierarchical" if command == "hierarchy" else command
        storage = self.folder / wanted
        done = self.folder / f"{wanted}.done"
        run = Run(wanted, self.data, storage, self.model() if command == "predict" else None)
        with self.lock:
            if not done.exists():
                self._undisturbed(run, done)
        return Run(command, self.data, storage, run.model)

    def _undisturbed(self, run: Run, done: Path) -> None:
        shutil.rmtree(run.storage, ignore_errors=True)
        log = done.with_suffix(".log")
        log.unlink(missing_ok=True)
        process = run.start(log, (NOWHERE, 0, done), again=False)
        code = ended(process)
        # The archive is no true SIFTFlow: the check that follows says so.
        if code != (1 if run.command == "unpack" else 0):
            raise Lost(f"the undisturbed run of {run.command}: exit code {code}\n{tail(log)}")
        done.touch()

    def model(self) -> Path:
        """The model folder of the undisturbed run of H."""
        (weights,) = self("hierarchical").storage.glob("stages/model/*/model/weights.safetensors")
        return weights.parent


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
        data = scratch / "data"
        shutil.copytree(references.data, data)
        storage = scratch / "storage"
        place = places.enter_context(disk(storage)) if fault in ("full", "read-only") else None
        _prepare(reference, stage, storage)
        run = Run(command, data, storage, reference.model)
        more: dict[str, str] = {}
        server = None
        if fault == "raylet":
            more["RAY_ADDRESS"] = places.enter_context(
                nodes(0, 2, 2, environment=environment())
            ).address
        if fault == "mlflow":
            server = TrackingServer(scratch)
            server.start()
            places.callback(server.stop)
            more["MLFLOW_TRACKING_URI"] = server.uri
        target = stage.on_node if fault == "raylet" and stage.on_node else stage.target
        halt = (target, stage.call, scratch / "halted")
        log = scratch / "log"
        if fault == "store":
            (scratch / "halted").touch()
        driver = run.start(log, halt, again=False, held=HELD * (fault == "store"), **more)
        places.callback(end, driver)
        spoiled = images_of(stage.name, data) if fault == "image" else None
        if fault != "store":
            halted = _wait_for_halt(driver, scratch / "halted", log)
            try:
                if fault == "worker":
                    halted.kill()
                elif fault == "raylet":
                    lose(raylet_of(halted))
                elif fault == "driver":
                    os.kill(driver.pid, signal.SIGKILL)
                elif fault == "full":
                    assert place is not None
                    place.fill()
                elif fault == "read-only":
                    assert place is not None
                    place.close()
                elif fault == "mlflow":
                    assert server is not None
                    server.stop()
                elif fault == "image":
                    assert spoiled is not None
                    cut(spoiled)
            finally:
                with suppress(psutil.NoSuchProcess):
                    halted.resume()
            if server is not None:
                time.sleep(GONE)
                server.start()
        code = ended(driver)
        told = tail(log)
        went_on = _judge(stage, fault, code, told, spoiled)
        if fault == "full":
            assert place is not None
            place.free()
        if fault == "read-only":
            assert place is not None
            place.open()
        if spoiled is not None:
            mend(spoiled)
        if not went_on:
            code = ended(run.start(log, halt, again=True, **more))
            if code != (1 if stage.command == "unpack" else 0):
                raise Lost(f"the next start: exit code {code}\n{tail(log)}")
        compared = _equal(run.results(), Run(command, data, reference.storage).results())
    message = (
        ""
        if went_on
        else next((line for line in reversed(told.splitlines()) if line.startswith("lhs: ")), "")
    )
    return Verdict(went_on, message, compared, time.monotonic() - started)


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


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a run, once it has ended."""
    try:
        return process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        end(process)
        raise Lost(f"stands still: not ended after {LIMIT:g} s") from None


def end(process: subprocess.Popen[bytes]) -> None:
    """End a run and all that it started, if it is still there."""
    everyone = []
    with suppress(psutil.NoSuchProcess):
        everyone = psutil.Process(process.pid).children(recursive=True)
    for left in everyone:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()


def _judge(stage: Stage, fault: str, code: int, told: str, spoiled: Path | None) -> bool:
    """Whether the disturbed run went on; it must, or stop as it should."""
    if "Traceback (most recent call last)" in told:
        raise Lost(f"a traceback, exit code {code}\n{told}")
    if fault == "driver":
        if code != -signal.SIGKILL:
            raise Lost(f"the driver was killed, exit code {code}\n{told}")
        return False
    if code == 0 or (code == 1 and stage.command == "unpack"):
        return True
    wanted = TOLD.get(fault, "")
    if spoiled is not None:
        wanted = re.escape(spoiled.name)
    lines = [line for line in told.splitlines() if line.startswith("lhs: ")]
    if code != 2 or not lines:
        raise Lost(f"no message: exit code {code}\n{told}")
    if not re.search(wanted or "", "\n".join(told.splitlines())):
        raise Lost(f"the message does not say {wanted!r}\n{told}")
    return False


def _equal(found: dict[str, str], wanted: dict[str, str]) -> int:
    differ = sorted(name for name in found.keys() | wanted.keys()
                    if found.get(name) != wanted.get(name))  # fmt: skip
    if differ or not found:
        raise Lost(f"results differ: {', '.join(differ) or 'none found'}")
    return len(found)


def cut(image: Path) -> None:
    """Cut a file short, and keep it whole beside."""
    content = image.read_bytes()
    image.rename(image.with_name(f".{image.name}.whole"))
    image.write_bytes(content[: len(content) // 2])


def mend(image: Path) -> None:
    """Put the whole file back."""
    image.with_name(f".{image.name}.whole").replace(image)


def tail(log: Path, characters: int = 6000) -> str:
    """The end of what a run said."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else ""


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
