"""What a sweep is: a recipe, and trials that change some of its settings by their dotted names.

Trials are listed one by one, or searched for in a space.
"""

from __future__ import annotations

import itertools
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lhs.config import Config
from lhs.errors import UserError
from lhs.loading import current_name, load_config

METRICS = ("per_pixel", "per_class", "mean_iou")
SEED, FOLD = "train.seed", "data.stanford.fold"
"""Settings by which runs are repetitions of one another."""
Changes = Mapping[str, Any]
"""Values of settings by dotted name, as in `--set`."""


@dataclass(frozen=True, kw_only=True)
class Between:
    """The values of a setting in a search: whole numbers where both bounds are.

    Attributes
    ----------
    low, high
        Bounds, both included.
    log
        Whether values are drawn on a logarithmic scale, as for learning rates.
    """

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Sequence[Any] | Between]
"""By dotted name: a list to choose from, or a range."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for the best settings in a space, each trial chosen by the results before it.

    Optuna proposes trials; those with low scores on held-out images are stopped early.

    Attributes
    ----------
    name, recipe
        As of a `Sweep`.
    space
        Settings of `train` that trials vary; the stages they share are made once, before.
    count
        Number of trials.
    metric
        Score on the held-out images, of `per_pixel`, `per_class` and `mean_iou`.
    patience
        No trial is stopped before this many epochs.
    always
        Settings of all trials, by dotted name; `data.held_out` must be one.
    """

    name: str
    recipe: str
    space: Space
    count: int
    metric: str = "per_class"
    patience: int = 1
    always: Changes


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the trials of a sweep are to show, fixed before they run.

    Attributes
    ----------
    variants
        What each trial is a repetition of, by its name in tables.
    primary, further
        Pairs of variants that are compared, first minus second; p-values are for the primary ones.
    keep
        Folder for the files of finished trials (`lhs tables --keep`); a trial whose evaluation is
        held there is not run again.
    """

    variants: Sequence[str]
    primary: Sequence[tuple[str, str]]
    further: Sequence[tuple[str, str]] = ()
    keep: str


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One recipe under several settings.

    Attributes
    ----------
    name
        Of the sweep's folder and of its run in MLflow.
    recipe
        Name of a packaged recipe, or a YAML file.
    trials
        What each trial changes. The first one is the setting that the others are compared with.
    always
        Settings of all trials, by dotted name, below those of the command line.
    protocol
        What they are to show, if that is fixed beforehand.
    """

    name: str
    recipe: str
    trials: Sequence[Changes]
    always: Changes = field(default_factory=dict)
    protocol: Protocol | None = None


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
    variant
        What it is a repetition of, where the sweep names that.
    """

    number: int
    changes: Changes
    config: Config
    variant: str = ""

    @property
    def name(self) -> str:
        """Its changes in short, such as `rho=0.95 k_scale=1` or `s-lc seed=0`."""
        return trial_name(self.changes, self.variant)


def name_of(changes: Changes) -> str:
    """A trial's changes in short, each setting by as much of its name as distinguishes it."""
    ends = [key.rpartition(".")[2] for key in changes]
    return " ".join(
        f"{end if ends.count(end) == 1 else '.'.join(key.split('.')[-2:])}={text_of(value)}"
        for end, (key, value) in zip(ends, changes.items(), strict=True)
    )


def trial_name(changes: Changes, variant: str) -> str:
    """A trial's changes in short; of one with a variant, this and its seed and fold."""
    if not variant:
        return name_of(changes)
    return f"{variant} {name_of({key: changes[key] for key in (SEED, FOLD) if key in changes})}"


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


def read_sweep(path: str, recipe: str | None = None) -> Sweep | Search:
    """The `SWEEP` of a Python file; of several, the one of this recipe, or the first.

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
    if isinstance(found, tuple) and found and all(isinstance(one, Sweep) for one in found):
        by_recipe = {one.recipe: one for one in found}
        recipe = found[0].recipe if recipe is None else recipe
        if recipe not in by_recipe:
            raise UserError(f"--recipe {recipe}: {path} has a sweep for {', '.join(by_recipe)}")
        found = by_recipe[recipe]
    if not isinstance(found, Sweep | Search):
        raise UserError(f"sweep {path}: found no SWEEP = Sweep(...) or Search(...) in it")
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
    _refuse_varied(settings, f"sweep {sweep.name}", {k for c in sweep.trials for k in c})
    trials: list[Trial] = []
    for number, changes in enumerate(sweep.trials, 1):
        always, own = _texts(sweep.always), _texts(changes)
        try:
            config = load_config(recipe or sweep.recipe, [*always, *settings, *own])
        except UserError as error:
            raise UserError(f"sweep {sweep.name}, trial {number}: {error}") from None
        same = [trial.number for trial in trials if trial.config == config]
        if same:
            raise UserError(f"sweep {sweep.name}: trials {same[0]} and {number} are alike")
        changes = {current_name(key): value for key, value in changes.items()}
        variant = sweep.protocol.variants[number - 1] if sweep.protocol else ""
        trials.append(Trial(number, changes, config, variant))
    return trials


def search_base(search: Search, settings: Sequence[str] = (), recipe: str | None = None) -> Config:
    """The configuration that all trials of a search share.

    Raises
    ------
    UserError
        For a bad setting or space, or one that is both given and searched.
    """
    if search.metric not in METRICS:
        raise UserError(
            f"search {search.name}: metric = {search.metric!r}: allowed are {', '.join(METRICS)}"
        )
    if search.count < 1 or not search.space:
        raise UserError(
            f"search {search.name}: count = {search.count} trials of {len(search.space)} settings: "
            "allowed are 1 or more"
        )
    _refuse_varied(settings, f"search {search.name}", search.space)
    texts = [*_texts(search.always), *settings]
    config = load_config(recipe or search.recipe, texts)
    for key, values in search.space.items():
        if not key.startswith("train."):
            raise UserError(
                f"search {search.name}: space of {key}: allowed are settings of train; the stages "
                "before it are shared by all trials"
            )
        if isinstance(values, Between) and not (
            values.low < values.high and (values.low > 0 or not values.log)
        ):
            raise UserError(
                f"search {search.name}: {key} between {values.low} and {values.high}: allowed is "
                "a lower bound below the upper one, and above 0 on a logarithmic scale"
            )
        ends = (values.low, values.high) if isinstance(values, Between) else values
        if not ends:
            raise UserError(f"search {search.name}: {key}: found no value to choose from")
        for value in ends:
            load_config(recipe or search.recipe, [*texts, f"{key}={text_of(value)}"])
    if config.train.validate_every is None:
        raise UserError(
            f"search {search.name}: train.validate_every: found none; a search needs it, and "
            "data.held_out"
        )
    return config


def _refuse_varied(settings: Sequence[str], name: str, varied: Iterable[str]) -> None:
    """Refuse a `key=value` text of a setting that trials vary."""
    names = {current_name(key) for key in varied}
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if current_name(key) in names:
            raise UserError(f"--set {setting}: the {name} varies {key} itself")


def _texts(changes: Changes) -> list[str]:
    """`key=value` of each, as `--set` takes it."""
    return [f"{key}={text_of(value)}" for key, value in changes.items()]


def text_of(value: Any) -> str:
    """A value as `--set` takes it."""
    if value == float("inf"):
        return "inf"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
