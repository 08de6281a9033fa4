"""The cache of stages: each result is stored under a key of everything it depends on."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lhs.config import Config
from lhs.data.progress import in_stage
from lhs.engine.runtime.cluster import start
from lhs.engine.stage import Key, Stage, StageResult, Work, stage_key
from lhs.engine.storage import Storage

if TYPE_CHECKING:
    from ray.train import UserCallback

    from lhs.engine.tracking.tracker import Tracker

logger = logging.getLogger("lhs")

SUCCESS = "_SUCCESS.json"

Opened = TypeVar("Opened")


@dataclass
class _Known:
    """Computed or read once: parts of keys, keys, finished and stale results, opened objects."""

    own: dict[tuple[Stage, str], tuple[dict[str, Any], dict[str, str]]] = field(
        default_factory=dict
    )
    keys: dict[tuple[Stage, str], Key] = field(default_factory=dict)
    found: dict[str, StageResult] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stages:
    """The stages of one run: their keys, and their results in the order they were requested.

    Attributes
    ----------
    storage
        Where results are stored.
    tracker, callbacks
        The run in MLflow, where training workers reach it, and Ray Train's callbacks for its
        training, if there are any.
    done
        The run's results so far.
    total
        How many the run will have; 0 where that is not known.
    """

    storage: Storage
    tracker: Tracker | None = None
    callbacks: Sequence[UserCallback] = ()
    done: list[StageResult] = field(default_factory=list)
    total: int = 0
    _known: _Known = field(default_factory=lambda: _Known())
    _made: dict[str, StageResult] = field(default_factory=dict)
    _builds: str = ""

    def key(self, stage: Stage, config: Config) -> Key:
        """The key of a result, as far as it is known now; nothing is made."""
        place = (stage, config.model_dump_json())
        known = self._known
        if place in known.keys:
            return known.keys[place]
        if place not in known.own:
            # Expensive: reads files of weights and asks GPUs for their precision.
            known.own[place] = stage.settings(config), stage.sources(config)
        settings, sources = known.own[place]
        inputs, pending = dict(sources), list[str]()
        for taken in stage.inputs(config):
            if not taken.in_key:
                continue
            key = self.key(taken.stage, taken.config)
            inputs[taken.role] = key.digest + taken.key_suffix
            pending += key.pending
            if taken.key_from is not None:
                found = self._finished(taken.stage, taken.config, key)
                if found is None:
                    pending.append(taken.stage.name)
                else:
                    inputs[taken.role] = taken.key_from(found)
        digest = stage_key(stage.name, stage.version, settings, inputs)
        key = Key(digest, settings, inputs, tuple(dict.fromkeys(pending)))
        if not pending:
            known.keys[place] = key
        return key

    def find(self, stage: Stage, config: Config) -> StageResult | None:
        """A finished result, if there is one; nothing is made."""
        return self._finished(stage, config, self.key(stage, config))

    def make(self, stage: Stage, config: Config) -> StageResult:
        """Return a result, reused or made now together with its inputs."""
        key = self.key(stage, config)
        if not key.pending and key.digest in self._made:
            return self._made[key.digest]
        assert not self._builds, f"{self._builds} takes {stage.name}, which it does not declare"
        inputs = {}
        for taken in stage.inputs(config):
            maker = self.aside() if taken.other_run else self
            inputs[taken.role] = maker.make(taken.stage, taken.config)
        key = self.key(stage, config)
        assert not key.pending, f"{stage.name}: the key still needs {key.pending}"
        work = Work(stage.name, key.digest, config, inputs, self._inside(stage, config))
        result = self._finished(stage, config, key)
        if result is None:
            # Another run on this storage may be making the same stage: wait for it.
            with self.storage.locked("locks", key.digest):
                self._known.stale.pop(key.digest, None)
                result = self._finished(stage, config, key)
                if result is None:
                    result = self._build(stage, key, work)
        self.storage.delete(work.unfinished)
        how = "reused (made" if result.reused else "made"
        self._made[key.digest] = result
        self.done.append(result)
        place = f" [{len(self.done)} of {self.total}]" if self.total else ""
        end = ")" * result.reused
        logger.info(f"{stage.name}: {how} in {result.seconds:.1f} s{end}{place}")
        return result

    def aside(self) -> Stages:
        """Stages for something else, such as another run: they see the results made here, and what
        they make is not listed here."""
        return Stages(self.storage, _known=self._known, _made=dict(self._made))

    def _inside(self, stage: Stage, config: Config) -> Stages:
        """The stages that the builder of a stage may use: those its inputs were made of."""
        needed = {key.digest for _, _, key in self.needed(stage, config)}
        made = {digest: result for digest, result in self._made.items() if digest in needed}
        return replace(self, done=[], _made=made, _builds=stage.name)

    def once(self, name: str, open_it: Callable[[], Opened]) -> Opened:
        """Open an object the first time, and keep it for the run."""
        if name not in self._known.opened:
            self._known.opened[name] = open_it()
        opened: Opened = self._known.opened[name]
        return opened

    def needed(
        self, stage: Stage, config: Config, *, other_runs: bool = False
    ) -> Iterator[tuple[Stage, Config, Key]]:
        """All stages of a result and its own, each once, inputs first; with `other_runs` also those
        that belong to other runs."""
        seen: set[str] = set()

        def visit(stage: Stage, config: Config) -> Iterator[tuple[Stage, Config, Key]]:
            for taken in stage.inputs(config):
                if other_runs or not taken.other_run:
                    yield from visit(taken.stage, taken.config)
            key = self.key(stage, config)
            if key.digest not in seen:
                seen.add(key.digest)
                yield stage, config, key

        return visit(stage, config)

    def count(self, stage: Stage, config: Config) -> int:
        """The number of stages of a result and its own; no key is computed."""
        seen: set[tuple[Stage, str]] = set()

        def visit(stage: Stage, config: Config) -> None:
            place = (stage, config.model_dump_json())
            if place not in seen:
                seen.add(place)
                for taken in stage.inputs(config):
                    if not taken.other_run:
                        visit(taken.stage, taken.config)

        visit(stage, config)
        return len(seen)

    def _finished(self, stage: Stage, config: Config, key: Key) -> StageResult | None:
        known = self._known
        if key.pending or key.digest in known.stale:
            return None
        if key.digest in known.found:
            return known.found[key.digest]
        path = self.storage.path("stages", stage.name, key.digest)
        if not self.storage.exists(f"{path}/{SUCCESS}"):
            return None
        try:
            success = self.storage.read_json(f"{path}/{SUCCESS}")
            facts, seconds = dict(success["facts"]), float(success["seconds"])
        except (ValueError, TypeError, KeyError):
            file = self.storage.address(f"{path}/{SUCCESS}")
            known.stale[key.digest] = f"{file} is damaged: made again"
            return None
        result = StageResult(stage.name, key.digest, path, facts, seconds, reused=True)
        why = stage.stale(self.storage, config, result)
        if why:
            known.stale[key.digest] = why
            return None
        known.found[key.digest] = result
        return result

    def _build(self, stage: Stage, key: Key, work: Work) -> StageResult:
        storage, digest = self.storage, key.digest
        path = storage.path("stages", stage.name, digest)
        partial = storage.path(
            "stages", stage.name, f".partial-{digest[:16]}-{uuid.uuid4().hex[:8]}"
        )
        if digest in self._known.stale:
            logger.info(f"{stage.name}: {self._known.stale.pop(digest)}")
            storage.delete(path)
        # Only now: a run that reuses everything needs no Ray.
        start()
        started = time.perf_counter()
        storage.make_folder(partial)
        try:
            with in_stage(len(self.done) + 1, self.total) if self.total else nullcontext():
                facts = stage.build(work, partial)
            seconds = time.perf_counter() - started
            # A folder without _SUCCESS: a run was killed between the two writes below.
            if storage.exists(path) and not storage.exists(f"{path}/{SUCCESS}"):
                storage.delete(path)
            if not storage.exists(path):
                storage.move(partial, path)
                success = {
                    "stage": stage.name,
                    "version": stage.version,
                    "settings": key.settings,
                    "inputs": key.inputs,
                    "seconds": seconds,
                    "facts": facts,
                }
                storage.write_json(f"{path}/{SUCCESS}", success)
        finally:
            storage.delete(partial)
        result = StageResult(stage.name, digest, path, facts, seconds, reused=False)
        self._known.found[digest] = result
        return result

    def seconds(self) -> dict[str, float]:
        """The seconds that each stage took when it was made."""
        return {result.name: result.seconds for result in self.done}

    def table(self) -> list[dict[str, Any]]:
        """A row per stage, for the report: stage, reused, seconds, key."""
        return [
            {"stage": r.name, "reused": r.reused, "seconds": r.seconds, "key": r.key}
            for r in self.done
        ]
