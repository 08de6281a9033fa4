"""A stage: its declaration, its inputs, its key and its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lhs.config import Config
from lhs.engine.storage import Storage

if TYPE_CHECKING:
    from lhs.engine.cache import Stages


def _nothing(config: Config) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of the paper, declared once; see `lhs.engine.graph` for all of them.

    Attributes
    ----------
    name
        Of the folder with its results.
    version
        Raised when its code gives other results, so that older results are not reused.
    settings
        The part of the configuration that a result depends on, JSON-ready.
    inputs
        The results it takes from other stages, of this configuration or another.
    sources
        Digests of files it reads that no stage made: a dataset, a file of weights.
    build
        Writes a result into a folder and returns its facts.
    stale
        Why a finished result must be made again although its key has not changed; an empty text if
        it need not.
    """

    name: str
    version: int = 1
    settings: Callable[[Config], dict[str, Any]] = _nothing
    inputs: Callable[[Config], Sequence[Input]] = lambda config: ()
    sources: Callable[[Config], dict[str, str]] = _nothing
    build: Callable[[Work, str], dict[str, Any]]
    stale: Callable[[Storage, Config, StageResult], str] = lambda storage, config, result: ""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A result that a stage takes from another.

    Attributes
    ----------
    role
        The input's name in the key and for the builder.
    stage, config
        Which result.
    key_from
        Computes what enters the key from the finished result, if that is not the result's own key.
        The key is then known only once the result is made.
    key_suffix
        Added to the result's own key if only a part of the result is used.
    in_key
        Whether it enters the key; not if another input depends on it already.
    other_run
        Whether it belongs to another run, which shows its curves and its row in the table.
    """

    role: str
    stage: Stage
    config: Config
    key_from: Callable[[StageResult], str] | None = None
    key_suffix: str = ""
    in_key: bool = True
    other_run: bool = False


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes
    ----------
    name, key
        The stage's name, and the key of this result.
    path
        Its folder in the storage.
    facts
        The builder's facts, as stored in `_SUCCESS.json`.
    seconds
        Time its builder took.
    reused
        Whether it was there already.
    """

    name: str
    key: str
    path: str
    facts: dict[str, Any]
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Key:
    """All that a result depends on.

    Attributes
    ----------
    digest
        The sha256 of stage, version, settings and inputs. While `pending` names a stage, that
        stage's key is used instead of its `key_from`: the digest distinguishes results, but is not
        yet the name of their folder.
    settings, inputs
        What the digest is made from.
    pending
        Stages to be made before the key is known.
    """

    digest: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    pending: tuple[str, ...] = ()


def stage_key(
    name: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """The sha256 of a stage's name, version, settings and inputs."""
    whole = {"stage": name, "version": version, "settings": settings, "inputs": inputs}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Work:
    """What a builder gets: the configuration, its finished inputs by role, and the run's stages,
    limited to those that its inputs were made from."""

    name: str
    key: str
    config: Config
    inputs: Mapping[str, StageResult]
    stages: Stages

    @property
    def storage(self) -> Storage:
        """Where results are stored."""
        return self.stages.storage

    @property
    def unfinished(self) -> str:
        """A folder for work that a killed attempt leaves to the next; deleted once all is made."""
        return self.storage.path("stages", self.name, f".unfinished-{self.key}")
