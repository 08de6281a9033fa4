"""Finished runs side by side: one page, and the paper's tables with their scores."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from lhs.data import open_dataset
from lhs.data.dataset import Dataset
from lhs.data.resizing import resized_nearest
from lhs.engine.stages.evaluation import predictions_in
from lhs.engine.storage import REASONS, Storage
from lhs.engine.tracking.provenance import stage_paths
from lhs.engine.tracking.reporting import stored_images
from lhs.engine.tracking.run_files import CONFUSION, PAGE, run_facts
from lhs.errors import UserError
from lhs.loading import stored_config
from lhs.report.compared import ComparedRun, Setting
from lhs.report.comparison import render_comparison
from lhs.report.paper import Run, as_html, as_markdown, paper_tables, unfitting
from lhs.report.side_by_side import SideBySide

logger = logging.getLogger("lhs")

COMPARISON = "comparison.html"
"""Of earlier versions, among the runs."""
FOLDER = "comparisons"
SHOWN = ("title", "dataset", "classes", "config", "stages", "run_id", "created")
"""What a run's facts must hold to be compared."""


def compare_runs(storage: Storage, runs: list[str]) -> str:
    """Write one page that compares finished runs.

    Parameters
    ----------
    storage
        Where the runs' folders are.
    runs
        MLflow run ids, their first letters, names of folders below `runs/`, or paths of these
        folders or of the pages in them.

    Returns
    -------
    str
        Path of the page; the same runs in the same order have the same page.

    Raises
    ------
    UserError
        If a run does not exist, or several match a name.
    """
    names = list(dict.fromkeys(find_runs(storage, runs)))
    html = render_comparison([_compared(storage, name) for name in names], partial(_load, storage))
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    page = storage.path(FOLDER, f"comparison-{digest}.html")
    storage.make_folder(storage.path(FOLDER))
    storage.write(page, html.encode())
    return storage.address(page)


def find_runs(storage: Storage, runs: list[str]) -> list[str]:
    """Names of the runs' folders below `runs/`; arguments and errors as of `compare_runs`."""
    known = [name for name in storage.list(storage.path("runs")) if name != COMPARISON]
    found = []
    for given in runs:
        run = _name_in(storage, given)
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


def storage_in(runs: list[str]) -> str | None:
    """The storage that the first path among names of runs lies in; None without a path."""
    return next((place for place, _ in map(_parts, runs) if place), None)


def _parts(run: str) -> tuple[str, str]:
    """Storage and folder of a path such as `STORAGE/runs/NAME/report.html`; else no storage."""
    folder, _, name = run.rstrip("/").removesuffix(f"/{PAGE}").rpartition("/")
    storage, _, runs = folder.rpartition("/")
    return (os.path.expanduser(storage), name) if runs == "runs" and storage else ("", run)


def _name_in(storage: Storage, run: str) -> str:
    """What `find_runs` looks for."""
    place, name = _parts(run)
    if place and Storage(place).root != storage.root:
        raise UserError(f"run {run}: it is not in {storage.uri}: give --storage {place}")
    return name


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
        facts = run_facts(storage, storage.path("runs", name), ("config", "scores"))
        config = stored_config(facts["config"]).model_dump(mode="json")
        found.append(Run(config, facts["scores"], name))
    tables, note = paper_tables(found), unfitting(found)
    texts = [as_markdown(number, tables[number]) for number in tables]
    files = {
        # Last, as this file is printed.
        out / "tables.md": "\n".join([*texts, *([f"{note}\n"] if note else [])]),
        out / "tables.html": as_html(tables, note),
    } | {out / f"table-{number}.csv": tables[number].to_csv(index=False) for number in tables}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = REASONS.get(error.errno or 0, error.strerror)
        raise UserError(f"--out {out}: {reason}") from None
    return list(files)


def _compared(storage: Storage, name: str) -> ComparedRun:
    folder = storage.path("runs", name)
    facts = run_facts(storage, folder, SHOWN)
    counts = storage.read_array(f"{folder}/{CONFUSION}")
    evaluation = stage_paths(storage, facts["stages"]).get("evaluation", "")
    return ComparedRun(
        title=facts["title"],
        dataset=facts["dataset"],
        class_names=tuple(facts["classes"]),
        confusion=counts,
        config=stored_config(facts["config"]).model_dump(mode="json"),
        images=stored_images(storage, evaluation, len(facts["classes"])),
        evaluation=evaluation,
        run_id=facts["run_id"],
        created=facts["created"],
        href=f"../runs/{quote(name)}/{PAGE}",
    )


def _load(storage: Storage, settings: Sequence[Setting], ids: Sequence[str]) -> SideBySide | None:
    config = stored_config(settings[0].first.config)
    return load_pictures(storage, lambda: open_dataset(config.data), settings, ids)


def load_pictures(
    storage: Storage, opened: Callable[[], Dataset], settings: Sequence[Setting], ids: Sequence[str]
) -> SideBySide | None:
    """Test images with what the first run of each setting predicts; None, and a warning, where the
    dataset can't be read any more."""
    try:
        dataset = opened()
        pairs = [dataset.scene(id).load() for id in ids]
    except (UserError, OSError) as error:
        logger.warning(f"the page shows no test images, as they can't be read: {error}")
        return None
    found = {one.name: predictions_in(storage, one.first.evaluation) for one in settings}
    return SideBySide(
        ids=ids,
        images=[image for image, _ in pairs],
        truths=[truth for _, truth in pairs],
        # Predictions have the full size, images that of `data.long_side`.
        predictions={
            name: [
                resized_nearest(maps[id], truth.shape)
                for id, (_, truth) in zip(ids, pairs, strict=True)
            ]
            for name, maps in found.items()
        },
        colours=dataset.colours,
        void=dataset.void,
    )
