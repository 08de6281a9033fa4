"""Stages: pure functions whose results are kept under a key of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lhs.engine.progress import say
from lhs.engine.storage import Storage

SUCCESS = "_SUCCESS.json"

VERSIONS = {
    "scenes": 1,
    "filled": 1,
    "samples": 1,
    "histograms": 1,
    "descriptors": 1,
    "hierarchy": 1,
    "targets": 1,
    "model": 3,
    "evaluation": 1,
}
"""Raised when a stage's code gives other results, so that old ones are not taken for new."""


def stage_key(name: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The sha256 of a stage's slice of the configuration, its inputs' keys and its version.

    Parameters
    ----------
    name
        Stage.
    settings
        JSON-ready slice.
    inputs
        Keys of the stages (or the fingerprint of the dataset) it reads.
    """
    whole = {"stage": name, "version": VERSIONS[name], "settings": settings, "inputs": inputs}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes
    ----------
    name, key
        What it is.
    path
        Its folder in the storage.
    facts
        What the stage found, as `_SUCCESS.json` tells it.
    seconds
        What it cost when it was made.
    reused
        Whether it was there already.
    """

    name: str
    key: str
    path: str
    facts: dict[str, Any]
    seconds: float
    reused: bool


@dataclass
class Stages:
    """The stages of one run, in the order in which they were asked for."""

    storage: Storage
    done: list[StageResult] = field(default_factory=list)

    def find(
        self, name: str, settings: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> StageResult | None:
        """A finished result, if there is one."""
        key = stage_key(name, settings, inputs)
        path = self.storage.path("stages", name, key)
        if not self.storage.exists(f"{path}/{SUCCESS}"):
            return None
        success = self.storage.read_json(f"{path}/{SUCCESS}")
        return StageResult(name, key, path, success["facts"], success["seconds"], reused=True)

    def run(
        self,
        name: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[str], dict[str, Any]],
    ) -> StageResult:
        """Give the result of a stage, made now or reused.

        Parameters
        ----------
        name, settings, inputs
            What the result depends on.
        build
            Writes the result into the folder it is given and returns its facts. The folder
            becomes the result only when it is whole.
        """
        result = self.find(name, settings, inputs)
        if result is None:
            # Another run on this storage may be at the same stage: it is waited for.
            with self.storage.locked("locks", stage_key(name, settings, inputs)):
                result = self.find(name, settings, inputs)
                if result is None:
                    result = self._build(name, settings, inputs, build)
        if result.reused:
            say(f"{name}: reused (made in {result.seconds:.1f} s)")
        else:
            say(f"{name}: made in {result.seconds:.1f} s")
        self.done.append(result)
        return result

    def _build(
        self,
        name: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[str], dict[str, Any]],
    ) -> StageResult:
        storage, key = self.storage, stage_key(name, settings, inputs)
        path = storage.path("stages", name, key)
        partial = storage.path("stages", name, f".partial-{key[:16]}-{uuid.uuid4().hex[:8]}")
        started = time.perf_counter()
        storage.make_folder(partial)
        try:
            facts = build(partial)
            seconds = time.perf_counter() - started
            # A folder without its _SUCCESS is what a run left that was killed in this very spot.
            if storage.exists(path) and not storage.exists(f"{path}/{SUCCESS}"):
                storage.delete(path)
            if not storage.exists(path):
                storage.move(partial, path)
                success = {
                    "stage": name,
                    "version": VERSIONS[name],
                    "settings": settings,
                    "inputs": inputs,
                    "seconds": seconds,
                    "facts": facts,
                }
                storage.write_json(f"{path}/{SUCCESS}", success)
        finally:
            storage.delete(partial)
        return StageResult(name, key, path, facts, seconds, reused=False)

    def seconds(self) -> dict[str, float]:
        """What each stage cost when it was made."""
        return {result.name: result.seconds for result in self.done}

    def table(self) -> list[dict[str, Any]]:
        """A row per stage: stage, reused, seconds, key."""
        return [
            {"stage": r.name, "reused": r.reused, "seconds": r.seconds, "key": r.key}
            for r in self.done
        ]
