"""What a stage is: its declaration, its inputs, its key and its result."""

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
        Of the folder that its results lie in.
    version
        Raised when its code gives other results, so that old ones are not taken for new.
    settings
        The part of the configuration that a result depends on, JSON-ready.
    inputs
        The stages that it takes, of this configuration or another.
    sources
        Digests of what it reads that no stage made: a dataset, a file of weights.
    build
        Writes a result into a folder and returns its facts.
    stale
        Why a finished result must be made again although nothing in its key has changed; an empty
        text where it need not.
    """

    name: str
    version: int = 1
    settings: Callable[[Config], dict[str, Any]] = _nothing
    inputs: Callable[[Config], Sequence[Input]] = lambda config: ()
    sources: Callable[[Config], dict[str, str]] = _nothing
    build: Callable[[Work, str], dict[str, Any]]
    stale: Callable[[Config, StageResult], str] = lambda config, result: ""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a stage takes from another.

    Attributes
    ----------
    role
        The input's name in the key and for the builder.
    stage, config
        Which result.
    told
        What of the made result enters the key, where that is not the result's own key: known only
        once it is made.
    suffix
        What is added to the result's own key, where only a part of the result is taken.
    apart
        Whether it belongs to another run, whose curves and table show it.
    implied
        Whether another input depends on it, so that it need not be in the key.
    """

    role: str
    stage: Stage
    config: Config
    told: Callable[[StageResult], str] | None = None
    suffix: str = ""
    apart: bool = False
    implied: bool = False


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


@dataclass(frozen=True)
class Key:
    """What a result depends on.

    Attributes
    ----------
    digest
        The sha256 of stage, version, settings and inputs. While `pending` names a stage, the key of
        that stage stands for what it will tell: the digest tells results apart, but is not yet the
        name of their folder.
    settings, inputs
        What it is the digest of.
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
    """The sha256 of a stage's slice of the configuration, its inputs' keys and its version."""
    whole = {"stage": name, "version": version, "settings": settings, "inputs": inputs}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Work:
    """What a builder gets: the configuration, its made inputs by role, and the run's stages, which
    give it what its inputs were made of, and nothing else."""

    name: str
    key: str
    config: Config
    inputs: Mapping[str, StageResult]
    stages: Stages

    @property
    def storage(self) -> Storage:
        """Where everything lies."""
        return self.stages.storage

    @property
    def unfinished(self) -> str:
        """A folder for what a killed attempt leaves to the next one; it goes when all is made."""
        return self.storage.path("stages", self.name, f".unfinished-{self.key}")
