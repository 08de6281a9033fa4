"""A sweep's tables and figure: what its settings change, and what sharing of stages saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from lhs.report.content import ReportFigure
from lhs.report.drawing import draw
from lhs.report.figures.sensitivity import sensitivity
from lhs.report.groups import HIERARCHY_SEED, Group, grouped, labels, varied
from lhs.report.statistics import paired_t
from lhs.report.tables import mean_and_std
from lhs.sweeps import FOLD, SEED, trial_name

STAGES = (
    "scenes", "samples", "histograms", "descriptors", "hierarchy", "sample_index", "model",
    "evaluation",
)  # fmt: skip
SCORES = ("per_pixel", "per_class", "per_class_over_L", "mean_iou")
SIZES = ("common_classes", "subclasses")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that finished or failed.

    Attributes
    ----------
    number
        Its place in the sweep, from 1.
    changes
        What it changes, by dotted name.
    scores
        By name; empty where nothing was trained.
    common_classes, subclasses
        Of its hierarchy, None without one.
    seconds
        What each of its stages cost when it was made.
    keys
        Of its stages; stages of one key are one result.
    run_id
        In MLflow.
    stopped_after
        The epoch after which a search stopped it, None for one that ran to its end.
    variant
        What it is a repetition of, where the sweep names that.
    error
        Why it failed; empty for one that did not.
    href
        Address of its run's page, relative to the sweep's; empty without one.
    """

    number: int
    changes: Mapping[str, Any]
    scores: Mapping[str, float]
    common_classes: int | None
    subclasses: int | None
    seconds: Mapping[str, float]
    keys: Mapping[str, str]
    run_id: str
    stopped_after: int | None = None
    variant: str = ""
    error: str = ""
    href: str = ""

    @property
    def name(self) -> str:
        """As of `lhs.sweeps.Trial`."""
        return trial_name(self.changes, self.variant)


def trial_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row per trial: `number`, what it changes, its hierarchy's sizes, its scores, `run_id`; of a
    search also `stopped_after`, and where trials failed `error`."""
    rows: list[dict[str, Any]] = []
    for trial in trials:
        scores = {key: trial.scores[key] for key in SCORES if key in trial.scores}
        sizes = {key: getattr(trial, key) for key in SIZES}
        rows.append({"number": trial.number, **trial.changes, **sizes, **scores})
        rows[-1]["run_id"] = trial.run_id
    frame = pd.DataFrame(rows)
    if any(trial.stopped_after is not None for trial in trials):
        stopped = pd.Series([trial.stopped_after for trial in trials], dtype="Int64")
        frame.insert(len(frame.columns) - 1, "stopped_after", stopped)
    if any(trial.error for trial in trials):
        frame["error"] = [trial.error for trial in trials]
    return frame


def setting_groups(trials: Sequence[Trial]) -> list[Group]:
    """The trials by what they change, but for seed and fold."""
    names = [f"{trial.number} ({trial.name})" for trial in trials]
    return grouped(names, [trial.changes for trial in trials], twins=True)


def setting_labels(trials: Sequence[Trial], groups: Sequence[Group]) -> list[str]:
    """What each setting is called: its variant, or what sets it apart from the others."""
    variants = [trials[min(group.members.values())].variant for group in groups]
    apart = labels([group.settings for group in groups])
    if all(variants) and len(set(variants)) == len(variants):
        return variants
    return [f"{variant} {label}".strip() for variant, label in zip(variants, apart, strict=True)]


def setting_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row per setting: trials that differ only in seed and fold are one.

    Returns
    -------
    pandas.DataFrame
        What it is called where trials have names, the settings that vary, `common_classes` and
        `subclasses` (of the first trial), `runs` (that did not fail), and the mean and sample
        standard deviation of each score, which is nan for one run.
    """
    groups = setting_groups(trials)
    keys = varied([group.settings for group in groups]) or list(groups[0].settings)
    rows = []
    for group, label in zip(groups, setting_labels(trials, groups), strict=True):
        members = [trials[place] for place in group.members.values()]
        row: dict[str, Any] = {"variant": label} if members[0].variant else {}
        row |= {key: group.settings[key] for key in keys if key in group.settings}
        row |= {key: getattr(members[0], key) for key in SIZES}
        row["runs"] = sum(not trial.error for trial in members)
        for key in SCORES:
            values = [trial.scores[key] for trial in members if key in trial.scores]
            if values:
                row[key], row[f"{key}_std"] = mean_and_std(values)
        rows.append(row)
    return pd.DataFrame(rows)


def difference_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row a setting but the first: its scores minus the first one's, over common seeds and folds.

    Returns
    -------
    pandas.DataFrame
        `setting`, `runs` (pairs), and for each score a `Difference` by Student's t; no row where
        nothing was trained.
    """
    groups = setting_groups(trials)
    (base, *others), names = groups, setting_labels(trials, groups)
    rows = []
    for group, label in zip(others, names[1:], strict=True):
        pairs = [
            (trials[place].scores, trials[base.members[repeat]].scores)
            for repeat, place in group.members.items()
            if repeat in base.members
            and not trials[place].error
            and not trials[base.members[repeat]].error
        ]
        row: dict[str, Any] = {"setting": label, "runs": len(pairs)}
        for key in SCORES:
            both = [(one[key], other[key]) for one, other in pairs if key in one and key in other]
            if both:
                row[key] = paired_t(*zip(*both, strict=True))
        if len(row) > 2:
            rows.append(row)
    return pd.DataFrame(rows)


def _changes(trial: Trial) -> dict[str, Any]:
    """What a trial changes, without seed and fold."""
    repeats = (SEED, FOLD, HIERARCHY_SEED)
    return {key: value for key, value in trial.changes.items() if key not in repeats}


def agreement(assignments: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Adjusted Rand index between settings (Hubert and Arabie 1985): 1 for the same partition,
    about 0 for independent ones.

    Parameters
    ----------
    assignments
        Subclasses (N,) of the same N samples, by setting.
    """
    names = list(assignments)
    sets = list(assignments.values())
    table = [[adjusted_rand_score(one, other) for other in sets] for one in sets]
    return pd.DataFrame(table, index=names, columns=names)


def sharing_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row per stage: trials that `needed` it, results that were `built`, their `seconds`, the
    seconds `alone` without sharing, and what was `saved`; the last row is the sum."""
    names = {name for trial in trials for name in trial.seconds}
    order = [name for name in STAGES if name in names] + sorted(names - set(STAGES))
    rows: list[dict[str, Any]] = []
    for name in order:
        users = [trial for trial in trials if name in trial.seconds]
        cost = {trial.keys[name]: trial.seconds[name] for trial in users}
        seconds, alone = sum(cost.values()), sum(trial.seconds[name] for trial in users)
        rows.append(
            {"stage": name, "needed": len(users), "built": len(cost), "seconds": seconds,
             "alone": alone, "saved": alone - seconds}
        )  # fmt: skip
    total = {key: sum(row[key] for row in rows) for key in list(rows[0])[1:]} if rows else {}
    return pd.DataFrame([*rows, {"stage": "all", **total}])


def sensitivity_figure(
    trials: Sequence[Trial], score: str = "per_pixel", *, search: bool = False
) -> ReportFigure:
    """A panel for each number that the trials vary, a dot for each trial.

    Of a sweep, a panel holds the trials whose other settings are the first trial's; of a `search`,
    which varies all settings at once, it holds all trials. Where nothing was trained, the number of
    subclasses takes the place of the score.
    """
    what = score if search or any(score in trial.scores for trial in trials) else "subclasses"
    base = _changes(trials[0])
    panels = {}
    for key in base:
        points: dict[float, list[float]] = {}
        for trial in trials:
            if not search and any(trial.changes.get(n) != base[n] for n in base if n != key):
                continue
            value = _number(trial.changes.get(key))
            found = trial.scores.get(score) if what == score else trial.subclasses
            if value is not None and found is not None:
                points.setdefault(value, []).append(float(found))
        if len(points) > 1:
            panels[key] = dict(sorted(points.items()))
    held = ", ".join(f"{key} = {value}" for key, value in base.items())
    first = f"The settings that a panel does not vary are the first trial's: {held}. "
    return draw(
        sensitivity, panels, what, scattered=search,
        key="sensitivity",
        title=f"{what} against what the sweep varies",
        caption="Each dot is one trial; what the panel does not show varies too."
        if search
        else f"{first if held else ''}Each dot is one trial, the line their mean.",
        alt=f"{what} at each value of {', '.join(panels) or 'no number'}",
        data=pd.DataFrame(
            [
                (key, value, result)
                for key, points in panels.items()
                for value, found in points.items()
                for result in found
            ],
            columns=["setting", "value", what],
        ),
    )  # fmt: skip


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
