"""The page that sets finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lhs.report.compared import HEADLINES, ComparedRun, Setting, settings_of, verdicts
from lhs.report.content import ReportTable, Section
from lhs.report.page import render
from lhs.report.side_by_side import Load, setting_items
from lhs.report.tables import differing_settings, dotted
from lhs.report.wording import NOTHING, plural
from lhs.sweeps import FOLD, SEED


def render_comparison(runs: Sequence[ComparedRun], load: Load) -> str:
    """Write one page that sets several runs side by side, grouped by dataset.

    Parameters
    ----------
    runs
        In the order they are shown; those that differ in seed and fold alone are one setting.
    load
        Reads test images.

    Returns
    -------
    str
        One HTML document, as self-contained as a run's.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault((run.dataset, run.class_names), []).append(run)
    sections = [
        _dataset_section(members, load, "" if number == 1 else f"{number}-")
        for number, members in enumerate(groups.values(), 1)
    ]
    title = f"{plural(len(runs), 'run')} side by side"
    return render("comparison.html", title=title, sections=sections)


def _dataset_section(runs: Sequence[ComparedRun], load: Load, prefix: str) -> Section:
    settings = settings_of(runs)
    items = setting_items(settings, load, prefix)
    items.append(_runs_table(settings, prefix))
    by_name = {one.name: _shown_settings(one) for one in settings}
    differing = differing_settings(by_name)
    if len(differing):
        items.append(
            ReportTable(
                key=f"{prefix}differing", title="Settings that differ", frame=differing,
                caption="Under the names they have in a recipe and in --set; seed and fold are in "
                "the table of runs.",
            )
        )  # fmt: skip
    trust = ""
    if any(len(setting.runs) < 2 for setting in settings):
        trust = (
            "Settings with one run are no evidence for small differences: these can come from the "
            "seed alone."
        )
    return Section(
        key=f"{prefix}dataset", title=runs[0].dataset, intro=trust, points=verdicts(settings),
        items=tuple(items),
    )  # fmt: skip


def _shown_settings(setting: Setting) -> dict[str, object]:
    config = dotted(setting.first.config)
    return {key: value for key, value in config.items() if key not in (SEED, FOLD, "description")}


def _runs_table(settings: Sequence[Setting], prefix: str) -> ReportTable:
    rows, links = [], []
    folded = settings[0].first.dataset == "stanford"
    for setting in settings:
        for run in setting.runs.values():
            config = dotted(run.config)
            row = {"run": run.title, "setting": setting.name, "seed": config.get(SEED, NOTHING)}
            if folded:
                row["fold"] = config.get(FOLD, NOTHING)
            row |= {label: getattr(run.scores, field) for field, label in HEADLINES.items()}
            row |= {"ended": run.created, "MLflow run": run.run_id[:8]}
            rows.append(row)
            links.append(run.href)
    return ReportTable(
        key=f"{prefix}runs", title="Runs", frame=pd.DataFrame(rows), links=links,
        caption="Each leads to its own page, which has the whole id of its run in MLflow.",
        formats=dict.fromkeys(HEADLINES.values(), "score"),
    )  # fmt: skip
