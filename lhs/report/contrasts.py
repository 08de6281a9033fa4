"""Variants of kept runs, and the differences between them that a protocol asks for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lhs.errors import UserError
from lhs.evaluation.metrics import Scores, scores
from lhs.report.evidence import KeptRun, Planned, read_planned, read_runs
from lhs.report.groups import grouped, labels, used
from lhs.report.paper import FOLDS
from lhs.report.statistics import SCORES, Difference, bootstrap, holm, paired_t, resampled
from lhs.report.wording import MINUS


@dataclass(frozen=True)
class Variant:
    """The runs of one variant, all of the same settings, by (seed, fold).

    Attributes
    ----------
    place
        The data and the network; only variants of one place are compared.
    """

    name: str
    variant: str
    place: str
    runs: Mapping[tuple[Any, ...], KeptRun]
    drawn: dict[Any, dict[str, np.ndarray]] = field(default_factory=dict)

    def resampled(self, seed: Any) -> dict[str, np.ndarray]:
        """Scores of the model of a seed on resamples of its images, drawn once."""
        if seed not in self.drawn:
            self.drawn[seed] = resampled(self.models[seed][1])
        return self.drawn[seed]

    @cached_property
    def scored(self) -> list[Scores]:
        """Scores of each run."""
        return [scores(run.counts.sum(axis=0)) for run in self.runs.values()]

    @cached_property
    def folded(self) -> bool:
        """Whether a model is five networks, each scored on its fold."""
        settings = next(iter(self.runs.values())).settings
        return (settings["data.dataset"], settings["data.stanford.split"]) == ("stanford", "folds")

    @cached_property
    def models(self) -> dict[Any, tuple[list[str], np.ndarray]]:
        """Test images and their counts by seed, of seeds with all folds; folds are pooled."""
        found = {}
        for seed in sorted({key[0] for key in self.runs}):
            parts = [run for key, run in sorted(self.runs.items()) if key[0] == seed]
            if not self.folded or len(parts) == FOLDS:
                images = [image for run in parts for image in run.images]
                found[seed] = images, np.concatenate([run.counts for run in parts])
        return found


@dataclass(frozen=True)
class Contrast:
    """One variant's score minus another's.

    Attributes
    ----------
    name
        `first - second`.
    score
        `per_pixel` or `per_class`.
    difference
        With its interval: by Student's t over seeds, or a bootstrap over the images of all folds.
    given
        The same by a bootstrap over test images, so for these models only; None where that is
        the first one.
    rests_on
        Seeds, and images of folds.
    primary
        Whether the protocol is for it.
    p
        Of a primary one, corrected by Holm; else nan.
    """

    name: str
    score: str
    difference: Difference
    given: Difference | None
    rests_on: str
    primary: bool
    p: float


@dataclass(frozen=True)
class Evidence:
    """The kept runs of one dataset, and what they are for."""

    runs: Sequence[KeptRun]
    planned: Planned

    @cached_property
    def variants(self) -> list[Variant]:
        """In the order of the plan."""
        return _variants(self.runs, self.planned)

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Of variants that have a seed in common, primary ones first."""
        return _contrasts(self.variants, self.planned)


def read_evidence(folder: Path) -> dict[str, Evidence]:
    """The kept runs in a folder, by dataset.

    Raises
    ------
    UserError
        If the folder holds no runs and no plan, or a file is damaged.
    """
    found = {
        below.name: Evidence(read_runs(below), read_planned(below))
        for below in sorted(folder.iterdir())
        if below.is_dir() and any(below.glob("*.json"))
    }
    if not found:
        raise UserError(
            f"{folder}: found no kept runs (DATASET/RUN.json); `lhs tables --keep` writes them"
        )
    return found


def _variants(runs: Sequence[KeptRun], planned: Planned) -> list[Variant]:
    groups = grouped([run.run for run in runs], [used(run.settings) for run in runs])
    by_variant: dict[str, list[Any]] = {variant: [] for variant, *_ in planned.runs}
    for group in groups:
        variant = runs[min(group.members.values())].variant
        by_variant.setdefault(variant, []).append(group)
    rows = []
    for variant, some in by_variant.items():
        for group, label in zip(some, labels([one.settings for one in some]), strict=True):
            place = {
                key: value
                for key, value in group.settings.items()
                if key.startswith(("data.", "network.", "evaluation."))
            }
            members = {key: runs[position] for key, position in group.members.items()}
            name = f"{variant}: {label}" if label else variant
            rows.append(Variant(name, variant, repr(sorted(place.items())), members))
    return rows


def _contrasts(rows: Sequence[Variant], planned: Planned) -> list[Contrast]:
    found = []
    for place in dict.fromkeys(row.place for row in rows):
        here = [row for row in rows if row.place == place]
        compared = [
            (name, key, *_difference(first, second, key), is_primary)
            for pairs, is_primary in ((planned.primary, True), (planned.further, False))
            for name, first, second in _pairs(here, pairs)
            for key in SCORES
        ]
        # A contrast that is not there yet counts in the correction too.
        p_values = [difference.p for _, _, difference, *_, is_primary in compared if is_primary]
        padding = len(planned.primary) * len(SCORES) - len(p_values)
        corrected = iter(holm(p_values + [math.nan] * max(0, padding)))
        found += [Contrast(*one, next(corrected) if one[-1] else math.nan) for one in compared]
    return found


def _pairs(
    rows: Sequence[Variant], pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, Variant, Variant]]:
    """Rows to compare that have a seed in common."""
    for pair in pairs:
        both = ([row for row in rows if row.variant == variant] for variant in pair)
        for first, second in itertools.product(*both):
            if first.models.keys() & second.models.keys():
                yield f"{first.name} {MINUS} {second.name}", first, second


def _difference(
    first: Variant, second: Variant, key: str
) -> tuple[Difference, Difference | None, str]:
    """A difference, the same given the models (if that is another), and what it rests on."""
    seeds = [seed for seed in first.models if seed in second.models]
    for seed in seeds:
        if first.models[seed][0] != second.models[seed][0]:
            raise UserError(
                f"{first.name} and {second.name}, seed {seed}: scored on different test images"
            )
    images = len(first.models[seeds[0]][0])
    drawn = [
        np.mean([row.resampled(seed)[key] for seed in seeds], axis=0) for row in (first, second)
    ]
    given = bootstrap(drawn[0], drawn[1], images)
    plural = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if first.folded:
        return given, None, f"{images} images, {plural}"
    pairs = [
        [getattr(scores(row.models[seed][1].sum(axis=0)), key) for seed in seeds]
        for row in (first, second)
    ]
    return paired_t(*pairs), given, plural
