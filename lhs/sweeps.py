"""What a sweep is: a recipe, and trials that change some of its settings by their dotted names."""

from __future__ import annotations

import itertools
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lhs.config import Config
from lhs.errors import UserError
from lhs.loading import load_config

Changes = Mapping[str, Any]
"""Values of settings by dotted name, as in `--set`."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A question to the method: one recipe under several settings.

    Attributes
    ----------
    name
        Of the sweep's folder and of its run in MLflow.
    recipe
        Name of a packaged recipe, or a YAML file.
    trials
        What each trial changes. The first one is the setting that the others are compared with.
    """

    name: str
    recipe: str
    trials: Sequence[Changes]


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep.

    Attributes
    ----------
    number
        Its place, from 1.
    changes
        What it changes.
    config
        All of its settings.
    """

    number: int
    changes: Changes
    config: Config

    @property
    def name(self) -> str:
        """What it changes in short, such as `rho=0.95 k_scale=1`."""
        return " ".join(
            f"{key.rpartition('.')[2]}={_text(value)}" for key, value in self.changes.items()
        )


def grid(space: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], ...]:
    """Every combination of values of some settings, the last setting changing first.

    Examples
    --------
    >>> grid({"hierarchy.rho": [0.9, 0.95], "train.seed": [0]})
    ({'hierarchy.rho': 0.9, 'train.seed': 0}, {'hierarchy.rho': 0.95, 'train.seed': 0})
    """
    return tuple(
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    )


def read_sweep(path: str) -> Sweep:
    """The `SWEEP` of a Python file.

    Raises
    ------
    UserError
        If there is no such file, it fails, or it has no such sweep.
    """
    if not Path(path).is_file():
        raise UserError(f"sweep {path}: no such file")
    try:
        found = runpy.run_path(path).get("SWEEP")
    except Exception as error:
        raise UserError(f"sweep {path}: {type(error).__name__}: {error}") from None
    if not isinstance(found, Sweep):
        raise UserError(f"sweep {path}: found no SWEEP = Sweep(...) in it")
    if not re.fullmatch(r"[\w-]+", found.name):
        raise UserError(
            f"sweep {path}: name = {found.name!r}: allowed are letters, digits, - and _"
        )
    return found


def trials_of(sweep: Sweep, settings: Sequence[str] = (), recipe: str | None = None) -> list[Trial]:
    """The trials of a sweep with all their settings.

    Parameters
    ----------
    sweep
        The sweep.
    settings
        `key=value` texts that hold for all trials.
    recipe
        Another recipe than the sweep's own.

    Raises
    ------
    UserError
        For a bad setting, one that the sweep varies itself, or trials that are alike.
    """
    if not sweep.trials:
        raise UserError(f"sweep {sweep.name}: it has no trials")
    varied = {key for changes in sweep.trials for key in changes}
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in varied:
            raise UserError(f"--set {setting}: the sweep {sweep.name} varies {key} itself")
    trials: list[Trial] = []
    for number, changes in enumerate(sweep.trials, 1):
        own = [f"{key}={_text(value)}" for key, value in changes.items()]
        try:
            config = load_config(recipe or sweep.recipe, [*settings, *own])
        except UserError as error:
            raise UserError(f"sweep {sweep.name}, trial {number}: {error}") from None
        same = [trial.number for trial in trials if trial.config == config]
        if same:
            raise UserError(f"sweep {sweep.name}: trials {same[0]} and {number} are alike")
        trials.append(Trial(number, changes, config))
    return trials


def _text(value: Any) -> str:
    if value == float("inf"):
        return "inf"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
