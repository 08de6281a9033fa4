"""A sweep's page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lhs.report import figures
from lhs.report.compared import Setting, verdicts
from lhs.report.content import ReportFigure, ReportTable, Section
from lhs.report.drawing import draw
from lhs.report.page import render
from lhs.report.sensitivity import (
    SCORES,
    SIZES,
    Trial,
    difference_frame,
    sensitivity_figure,
    setting_frame,
    sharing_frame,
    trial_frame,
)
from lhs.report.side_by_side import Items, Load, setting_items
from lhs.report.wording import NOTHING, share


def render_sweep(
    *,
    title: str,
    subtitle: str,
    recipe: str,
    trials: Sequence[Trial],
    agreement: pd.DataFrame | None,
    paths: Mapping[str, str],
    created: str,
    metric: str | None = None,
    compared: Sequence[Setting] = (),
    load: Load = lambda settings, ids: None,
    importance: Mapping[str, float] | None = None,
) -> str:
    """Write a sweep's page.

    Parameters
    ----------
    title, subtitle, created
        Text at the top.
    recipe
        What the trials change.
    trials
        The trials, the first one being what the others are compared with.
    agreement
        See `agreement`; None where there are no two hierarchies to compare.
    paths
        From a short label to the path.
    metric
        Of a search, the score that it maximizes; its trials come best first.
    compared
        The settings of the trials that were scored on test images, or on those of a search.
    load
        Reads these images.
    importance
        Of a search, the share of each setting in the score's variation.

    Returns
    -------
    str
        One HTML document, as self-contained as a run's.
    """
    settings, differences = setting_frame(trials), difference_frame(trials)
    written = settings.rename(columns={f"{key}_std": f"{key} ±" for key in SCORES})
    for key in (*SIZES, *(f"{name} ±" for name in SCORES)):
        if key in written:
            written[key] = [_short(value) for value in written[key]]
    # With intervals, scores are in another table.
    together = len(compared) == len(settings)
    if together:
        written = written.drop(columns=[*SCORES, *(f"{key} ±" for key in SCORES)], errors="ignore")
    items: Items = setting_items(compared, load) if compared else []
    items.append(sensitivity_figure(trials, metric or "per_pixel", search=metric is not None))
    if importance:
        items.append(importance_figure(importance, metric or "", trials))
    if metric is None:
        # The trials of a search are its settings.
        items.append(
            ReportTable(
                key="settings", title="Settings", frame=written,
                formats=dict.fromkeys(SCORES, "score"),
                caption="What the settings are." if together
                else "Means over runs, with the sample standard deviation (±) of several.",
            )
        )  # fmt: skip
    if metric is None and len(differences) and not compared:
        table = ReportTable(
            key="differences", title="Differences from the first setting", frame=differences,
            formats=dict.fromkeys(SCORES, "difference"),
            caption="Means over pairs of one seed and fold, with 95 % intervals by Student's t "
            "where there are two pairs or more. Folds are not independent of each other.",
        )  # fmt: skip
        items.append(table)
    failed = [trial for trial in trials if trial.error]
    if failed:
        rows = [{"trial": t.number, "changes": t.name, "reason": t.error} for t in failed]
        table = ReportTable(
            key="failed", title="Failed trials", frame=pd.DataFrame(rows),
            caption="They have no scores; `lhs sweep --resume` tries them again.",
        )  # fmt: skip
        items.insert(0, table)
    if agreement is not None:
        table = ReportTable(
            key="agreement", title="How far the hierarchies agree",
            frame=agreement.rename_axis("setting").reset_index(),
            formats=dict.fromkeys(agreement.columns, "score"),
            caption="Adjusted Rand index of the subclasses that two settings give the same "
            "samples: 1 is the same division, 0 what chance gives.",
        )  # fmt: skip
        items.append(table)
    items += [_trials_table(trials, folded=metric is None), _sharing_table(trials)]
    note = ""
    if metric is not None:
        stopped = sum(trial.stopped_after is not None for trial in trials)
        note = (
            f"Scores are those of training images that were kept out, by {metric}; {stopped} of "
            f"{len(trials)} trials were stopped early and show what they had reached."
        )
    elif settings["runs"].min() < 2 and any(trial.scores for trial in trials):
        note = "A setting with one seed proves nothing: differences may come from the seed alone."
    section = Section(
        key="sweep", title="What it found", intro=f"Trials of {recipe}, {len(settings)} settings.",
        items=tuple(items), points=verdicts(compared),
    )  # fmt: skip
    return render(
        "sweep.html", title=title, subtitle=subtitle, note=note, section=section, paths=paths,
        created=created,
    )  # fmt: skip


def importance_figure(
    importance: Mapping[str, float], metric: str, trials: Sequence[Trial]
) -> ReportFigure:
    """How much each setting of a search matters."""
    counted = sum(metric in trial.scores for trial in trials)
    return draw(
        figures.importance, importance,
        key="importance", title="What matters in this search",
        caption=f"The share of the variation of {metric} that each setting explains in the "
        f"searched space, by Optuna (fANOVA of {counted} trials; those that were stopped count "
        "with what they had reached). Few trials tell little.",
        alt=", ".join(f"{name} {share(value)}" for name, value in importance.items()),
        data=pd.DataFrame(list(importance.items()), columns=["setting", "importance"]),
    )  # fmt: skip


def _trials_table(trials: Sequence[Trial], *, folded: bool) -> ReportTable:
    # Errors have a table of their own.
    frame = trial_frame(trials).drop(columns="error", errors="ignore").astype(object)
    frame = frame.rename(columns={"run_id": "MLflow run"})
    scored = [key for key in SCORES if key in frame]
    kept = frame.where(frame.notna(), NOTHING)
    # Missing scores stay numbers, so that the column sorts.
    kept[scored] = frame[scored].astype(float)
    return ReportTable(
        key="trials", title="Trials", frame=kept, folded=folded,
        links=[trial.href for trial in trials],
        caption="The number leads to the page of a trial's run.",
        formats=dict.fromkeys(scored, "score"),
    )  # fmt: skip


def _sharing_table(trials: Sequence[Trial]) -> ReportTable:
    return ReportTable(
        key="sharing", title="What sharing saved", frame=sharing_frame(trials),
        formats={"needed": "count", "built": "count"}
        | dict.fromkeys(("seconds", "alone", "saved"), "seconds"),
        caption="What results cost when they were made; alone: had each trial made its own.",
    )  # fmt: skip


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    return f"{value:.4f}" if isinstance(value, float) and value % 1 else f"{value:g}"
