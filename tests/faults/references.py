"""Undisturbed runs, and how a run is waited for."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock

from tests.faults.runs import LIMIT, Run, make_data

NOWHERE = "lhs.data.archive:_write_member"
"""Where no process is to stand still."""


class Lost(AssertionError):
    """The case is lost, and why."""


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
        if code != run.code:
            raise Lost(f"the undisturbed run of {run.command}: exit code {code}\n{tail(log)}")
        done.touch()

    def model(self) -> Path:
        """The model folder of the undisturbed run of H."""
        (weights,) = self("hierarchical").storage.glob("stages/model/*/model/weights.safetensors")
        return weights.parent


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


def tail(log: Path, characters: int = 6000) -> str:
    """The end of what a run said."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else ""
