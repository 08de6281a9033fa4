"""Finished runs by their settings: scores with intervals, differences, which is the best."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import t

from lhs.evaluation.metrics import Scores, scores
from lhs.report.changes import ImageCounts
from lhs.report.groups import grouped, used
from lhs.report.statistics import (
    PAGE_RESAMPLES,
    Changes,
    Difference,
    bootstrap,
    changes_of,
    paired_t,
    resampled,
)
from lhs.report.tables import dotted

HEADLINES = {
    "per_pixel": "per-pixel accuracy",
    "per_class": "per-class accuracy",
    "mean_iou": "mean IoU",
}


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished run, as a page of several shows it.

    Attributes
    ----------
    title, dataset
        As of `ReportData`.
    class_names
        L names.
    confusion
        (L, L) test pixel counts, rows truth.
    config
        Settings, nested or dotted.
    images
        Counts of each test image; None where an earlier version kept none.
    evaluation
        Folder of its evaluation.
    run_id, created
        In MLflow; when it ended, as text.
    href
        Address of its own page, relative to the page that it is shown on; empty gives no link.
    """

    title: str
    dataset: str
    class_names: tuple[str, ...]
    confusion: np.ndarray
    config: Mapping[str, Any]
    images: ImageCounts | None = None
    evaluation: str = ""
    run_id: str = ""
    created: str = ""
    href: str = ""

    @cached_property
    def scores(self) -> Scores:
        """Of all test images."""
        return scores(self.confusion)


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ in seed and fold alone, by what tells them apart: seed and fold first."""

    name: str
    runs: Mapping[tuple[Any, ...], ComparedRun]

    @property
    def first(self) -> ComparedRun:
        """The run that stands for it in pictures."""
        return next(iter(self.runs.values()))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(L, L) counts of all runs together."""
        return np.asarray(sum(run.confusion for run in self.runs.values()))

    @cached_property
    def ids(self) -> Sequence[str] | None:
        """The test images, None where runs have other ones or an earlier version kept none."""
        found = [None if one.images is None else list(one.images.ids) for one in self.runs.values()]
        return found[0] if all(ids == found[0] for ids in found) else None

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """Means over runs of what `resampled` gives; empty where `ids` is None."""
        if self.ids is None:
            return {}
        counts = [one.images.counts for one in self.runs.values() if one.images is not None]
        found = [resampled(one, resamples=PAGE_RESAMPLES) for one in counts]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}

    def values(self, field: str) -> list[float]:
        """A score of each run."""
        return [float(getattr(run.scores, field)) for run in self.runs.values()]

    def interval(self, field: str) -> tuple[float, float]:
        """The 95 % interval of the mean of a score: Student's t over runs, for one run the
        bootstrap over its test images, nan where neither can be had."""
        values = self.values(field)
        if len(values) > 1:
            reach = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1))
            reach /= math.sqrt(len(values))
            mean = float(np.mean(values))
            return max(mean - reach, 0.0), min(mean + reach, 1.0)
        if not self.drawn:
            return math.nan, math.nan
        low, high = np.nanquantile(self.drawn[field][1:], [0.025, 0.975])
        return float(low), float(high)


def settings_of(runs: Sequence[ComparedRun]) -> list[Setting]:
    """Runs grouped by all settings that their results depend on, but for seed and fold."""
    groups = grouped(
        [run.title for run in runs], [used(dotted(run.config)) for run in runs], twins=True
    )
    members = [{key: runs[place] for key, place in group.members.items()} for group in groups]
    names = distinct([_name(list(some.values())) for some in members])
    return [Setting(name, some) for name, some in zip(names, members, strict=True)]


def _name(runs: Sequence[ComparedRun]) -> str:
    """The title of its first run; of several, without their seeds and folds."""
    title = runs[0].title
    if len(runs) < 2:
        return title
    return re.sub(r"[ ,-]*\b(seed|fold)=\S+", "", title).strip() or title


def distinct(titles: Sequence[str]) -> list[str]:
    """Titles with a number where several are the same."""
    return [
        title if titles.count(title) == 1 else f"{title} ({titles[: i + 1].count(title)})"
        for i, title in enumerate(titles)
    ]


def difference(first: Setting, second: Setting, field: str) -> tuple[Difference | None, str]:
    """A score of one setting minus that of another, and what its interval rests on.

    Over pairs of runs of one seed and fold where there are two or more; otherwise over the test
    images, given these models. None where neither can be had.
    """
    keys = [key for key in first.runs if key in second.runs]
    if len(keys) > 1:
        pairs = [
            [float(getattr(one.runs[key].scores, field)) for key in keys] for one in (first, second)
        ]
        return paired_t(*pairs), f"{len(keys)} pairs of runs"
    if first.ids is not None and first.ids == second.ids:
        count = len(first.ids)
        given = bootstrap(first.drawn[field], second.drawn[field], count)
        return given, f"{count} test images, given these models"
    if keys:
        one, other = (getattr(some.runs[keys[0]].scores, field) for some in (first, second))
        return Difference(float(one - other), math.nan, math.nan, math.nan, 1), "one pair of runs"
    return None, "nothing in common"


def class_changes(first: Setting, second: Setting) -> Changes | None:
    """The changes of one setting against another by class, where their test images are one."""
    if first.ids is None or first.ids != second.ids:
        return None
    return changes_of(first.drawn, second.drawn, len(first.ids))


def best(settings: Sequence[Setting], field: str) -> int | None:
    """The place of the setting with the highest mean; None where no run has this score."""
    means = [float(np.mean(setting.values(field))) for setting in settings]
    if all(math.isnan(mean) for mean in means):
        return None
    return int(np.nanargmax(means))


def chosen(settings: Sequence[Setting], field: str, most: int) -> list[Setting]:
    """The first setting and those with the highest means, `most` in all, in their order."""
    means = [float(np.mean(setting.values(field))) for setting in settings]
    order = sorted(range(1, len(settings)), key=lambda place: -np.nan_to_num(means[place], nan=-1))
    return [settings[place] for place in [0, *sorted(order[: most - 1])]]


def verdicts(settings: Sequence[Setting]) -> list[str]:
    """Which setting is best by each score, and from which ones it can't be told apart."""
    found = []
    for field, label in HEADLINES.items():
        place = best(settings, field)
        if place is None or len(settings) < 2:
            continue
        leader, near, open_ = settings[place], [], []
        for other in (one for one in settings if one is not leader):
            gap, _ = difference(leader, other, field)
            if gap is None or math.isnan(gap.low):
                open_.append(other.name)
            elif gap.low <= 0:
                near.append(other.name)
        low, high = leader.interval(field)
        mean = float(np.mean(leader.values(field)))
        interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
        text = f"{label[0].upper()}{label[1:]}: {leader.name} is best with {mean:.3f}{interval}"
        if near:
            text += f"; the interval of its lead over {_listed(near)} includes zero"
        if open_:
            text += f"; nothing says how sure its lead over {_listed(open_)} is"
        found.append(f"{text}.")
    if found and len(settings) > 2:
        found.append("The best of several is chosen after the fact, so its score flatters it.")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{len(names)} others"
