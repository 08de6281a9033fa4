"""Runs that differ in seed and fold alone are repetitions; every other setting sets runs apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lhs.config import OF_H, OPERATIONAL, STRATEGIES
from lhs.errors import UserError
from lhs.sweeps import FOLD, SEED, Changes, name_of

HIERARCHY_SEED = "hierarchy.seed"
"""A repetition too where it is the training's seed in all runs."""
ELSEWHERE = (
    "description", "storage", "data.root", "data.cache_gb", "tracking.register",
    *(f"train.{name}" for name in OPERATIONAL),
)  # fmt: skip
"""Settings that say where and how a run is done; its result does not depend on them."""


@dataclass(frozen=True)
class Group:
    """Runs of the same settings.

    Attributes
    ----------
    settings
        What they share, by dotted name: neither seed nor fold.
    members
        The runs' positions by (seed, fold), each None where it is not set.
    """

    settings: Mapping[str, Any]
    members: Mapping[tuple[Any, ...], int]


def used(settings: Changes) -> dict[str, Any]:
    """Those of a run's settings, by dotted name, that its result depends on."""
    strategy = settings["train.strategy"]
    unused = ["report.", *(f"train.{name}." for name in STRATEGIES if name != strategy)]
    if strategy != "hierarchical":
        unused += [f"train.{name}" for name in OF_H]
    if strategy == "baseline":
        unused += ["hierarchy.", "unlabelled."]
    return {
        key: value
        for key, value in settings.items()
        if key not in ELSEWHERE and not key.startswith(tuple(unused))
    }


def grouped(
    names: Sequence[str], settings: Sequence[Changes], *, twins: bool = False
) -> list[Group]:
    """Runs by all of their settings but seed and fold, in the order of each group's first run.

    Parameters
    ----------
    names
        Of the runs, for messages.
    settings
        Of each run, by dotted name.
    twins
        Whether runs may have the same settings, seed and fold, as those of a search; the second one
        then also has its position in its key.

    Raises
    ------
    UserError
        If two runs have the same settings, seed and fold.
    """
    alike: dict[str, list[int]] = {}
    for place, one in enumerate(settings):
        rest = {k: v for k, v in one.items() if k not in (SEED, FOLD, HIERARCHY_SEED)}
        alike.setdefault(repr(sorted(rest.items())), []).append(place)
    groups: list[Group] = []
    for places in alike.values():
        follows = all(
            settings[place].get(HIERARCHY_SEED) in (None, settings[place].get(SEED))
            for place in places
        )
        left_out = (SEED, FOLD, HIERARCHY_SEED) if follows else (SEED, FOLD)
        parts: dict[Any, dict[tuple[Any, ...], int]] = {}
        for place in places:
            one = settings[place]
            part = parts.setdefault(None if follows else one.get(HIERARCHY_SEED), {})
            repeat = (one.get(SEED), one.get(FOLD))
            twin = part.setdefault(repeat, place)
            if twin != place and twins:
                part[(*repeat, place)] = place
            elif twin != place:
                raise UserError(
                    f"runs {names[twin]} and {names[place]} have the same settings, seed and fold: "
                    "leave one of them out"
                )
        for part in parts.values():
            first = settings[next(iter(part.values()))]
            rest = {key: value for key, value in first.items() if key not in left_out}
            groups.append(Group(rest, part))
    return sorted(groups, key=lambda group: min(group.members.values()))


def varied(settings: Sequence[Changes]) -> list[str]:
    """Names of the settings in which several differ."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({repr(one.get(key)) for one in settings}) > 1]


def labels(settings: Sequence[Changes]) -> list[str]:
    """What sets each of several settings apart from the others, in short; empty for one alone."""
    keys = varied(settings)
    return [name_of({key: one[key] for key in keys if key in one}) for one in settings]
