"""Finished runs side by side: one page, and the paper's tables with their scores."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lhs.engine.storage import Storage
from lhs.engine.tracking.reporting import CONFUSION, FACTS, PAGE
from lhs.errors import UserError
from lhs.evaluation.metrics import scores
from lhs.loading import build_config
from lhs.report.content import ReportData
from lhs.report.page import render_comparison
from lhs.report.paper import Run, as_html, as_markdown, paper_tables

COMPARISON = "comparison.html"


def compare_runs(storage: Storage, runs: list[str]) -> str:
    """Write one page that compares finished runs.

    Parameters
    ----------
    storage
        Where the runs' folders are.
    runs
        MLflow run ids, their first letters, or names of folders below `runs/`.

    Returns
    -------
    str
        Path of the page.

    Raises
    ------
    UserError
        If a run does not exist, or several match a name.
    """
    reports = [_stored_report(storage, name) for name in find_runs(storage, runs)]
    page = storage.path("runs", COMPARISON)
    storage.write(page, render_comparison(reports).encode())
    return storage.address(page)


def find_runs(storage: Storage, runs: list[str]) -> list[str]:
    """Names of the runs' folders below `runs/`; arguments and errors as of `compare_runs`."""
    known = [name for name in storage.list(storage.path("runs")) if name != COMPARISON]
    found = []
    for run in runs:
        fitting = [name for name in known if name == run or name.rpartition("-")[2] == run[:8]] or [
            name for name in known if name.rpartition("-")[0] == run
        ]
        if len(fitting) > 1:
            raise UserError(f"run {run!r} may be any of {', '.join(fitting)}: give one of these")
        if not fitting:
            raise UserError(
                f"run {run!r} is not in {storage.uri}/runs; there are {', '.join(known) or 'none'}"
            )
        found += fitting
    return found


def write_tables(storage: Storage, runs: list[str], out: Path) -> list[Path]:
    """Write the paper's tables with the runs' scores to a folder: Markdown, CSV and HTML.

    Returns
    -------
    list of Path
        The files, the Markdown first.

    Raises
    ------
    UserError
        As of `compare_runs`, if two runs have the same settings, seed and fold, or if the folder
        cannot be written.
    """
    found = []
    for name in dict.fromkeys(find_runs(storage, runs)):
        facts = storage.read_json(f"{storage.path('runs', name)}/{FACTS}")
        config = build_config(facts["config"]).model_dump(mode="json")
        found.append(Run(config, facts["scores"], name))
    tables = paper_tables(found)
    files = {
        out / "tables.md": "\n".join(as_markdown(number, tables[number]) for number in tables),
        out / "tables.html": as_html(tables),
    } | {out / f"table-{number}.csv": tables[number].to_csv(index=False) for number in tables}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from None
    return list(files)


def _stored_report(storage: Storage, name: str) -> ReportData:
    folder = storage.path("runs", name)
    facts = storage.read_json(f"{folder}/{FACTS}")
    counts = np.load(io.BytesIO(storage.read(f"{folder}/{CONFUSION}")), allow_pickle=False)
    return ReportData(
        title=facts["title"],
        subtitle=facts["subtitle"],
        dataset=facts["dataset"],
        strategy=facts["strategy"],
        class_names=tuple(facts["classes"]),
        scores=scores(counts),
        baseline=None,
        sections=(),
        config=build_config(facts["config"]).model_dump(mode="json"),
        paths={},
        seeds=tuple(facts["seeds"]),
        created=facts["created"],
        href=f"{name}/{PAGE}",
    )
