"""Results of a sweep: tables, page, agreement of its hierarchies; written and logged in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs as arrow_fs

from lhs.data.dataset import Dataset
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import counts_in
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.stages.sample_index import row_subclasses
from lhs.engine.storage import Storage
from lhs.engine.tracking.comparison import load_pictures
from lhs.engine.tracking.reporting import stored_images
from lhs.engine.tracking.summary import compare_lines
from lhs.engine.tuning.importance import importance
from lhs.engine.tuning.sweep import STATE, SweepOutcome
from lhs.report.compared import ComparedRun, Setting, distinct
from lhs.report.sensitivity import (
    Trial,
    agreement,
    sensitivity_figure,
    setting_frame,
    setting_groups,
    setting_labels,
    sharing_frame,
    trial_frame,
)
from lhs.report.sweep import render_sweep

IMAGES = 60
"""Number of training images on whose samples hierarchies are compared."""
PAGE, SUMMARY, SETTINGS, SHARING = "sweep.html", "summary.csv", "settings.csv", "sharing.csv"
AGREEMENT, FIGURE = "agreement.csv", "sensitivity.png"


def write_results(
    outcome: SweepOutcome,
    name: str,
    recipe: str,
    scenes: CheckedScenes,
    metric: str | None = None,
) -> str:
    """Write a sweep's tables, figure and page into its folder, and log them in its run.

    Parameters
    ----------
    outcome
        The sweep.
    name, recipe
        Name of the sweep, and of the recipe that it changes.
    scenes
        The scenes of its first trial.
    metric
        For a search, the score that it optimizes.

    Returns
    -------
    str
        Path of the page.
    """
    storage, folder = outcome.storage, outcome.folder
    trials = [_trial(record) for record in outcome.records]
    alike = agreement_of(storage, trials, scenes)
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch)
        frame = trial_frame(trials)
        if metric is None:
            frame.insert(1, "setting", _setting_of_each(trials))
        frame.to_csv(local / SUMMARY, index=False)
        setting_frame(trials).to_csv(local / SETTINGS, index=False)
        sharing_frame(trials).to_csv(local / SHARING, index=False)
        if alike is not None:
            alike.to_csv(local / AGREEMENT)
        figure = sensitivity_figure(trials, metric or "per_pixel", search=metric is not None)
        (local / FIGURE).write_bytes(figure.png)
        shares = None
        if metric is not None:
            space = storage.read_json(f"{folder}/{STATE}")["search"]["space"]
            scored = [(one.changes, one.scores[metric]) for one in trials if metric in one.scores]
            shares = importance(space, scored)
        page = render_sweep(
            title=f"sweep {name}",
            subtitle=f"{len(trials)} trials of {recipe}"
            + f", {len(outcome.failed)} failed" * bool(outcome.failed),
            recipe=recipe,
            trials=trials,
            agreement=alike,
            paths={
                "sweep": storage.address(folder),
                "tracking store": outcome.tracker.uri,
                "MLflow run": outcome.tracker.run_id,
            },
            created=datetime.now().isoformat(sep=" ", timespec="minutes"),
            metric=metric,
            compared=_compared(storage, trials, scenes.dataset, search=metric is not None),
            load=partial(load_pictures, storage, lambda: scenes.dataset),
            importance=shares,
        )
        (local / PAGE).write_text(page, encoding="utf-8")
        storage.put_folder(local, folder)
        outcome.tracker.folder(local)
    # On the sweep's run too, with the trial's number as the step.
    for record in outcome.records:
        scores = {f"trial/{key}": value for key, value in record["scores"].items()}
        outcome.tracker.metrics(scores, step=record["number"])
    return storage.address(f"{folder}/{PAGE}")


def _compared(
    storage: Storage, trials: Sequence[Trial], dataset: Dataset, *, search: bool
) -> list[Setting]:
    """The settings of the trials that were scored, and the runs of each; those of a search have
    long names, so that its trials' numbers stand for them."""
    groups, found = setting_groups(trials), []
    for group, label in zip(groups, setting_labels(trials, groups), strict=True):
        runs = {}
        for repeat, place in group.members.items():
            trial = trials[place]
            if trial.error or "evaluation" not in trial.keys:
                continue
            path = storage.path("stages", "evaluation", trial.keys["evaluation"])
            if storage.exists(path):
                runs[repeat] = ComparedRun(
                    title=trial.name, dataset=dataset.name, class_names=tuple(dataset.classes),
                    confusion=counts_in(storage, path), config={}, evaluation=path,
                    images=stored_images(storage, path, len(dataset.classes)),
                )  # fmt: skip
        if runs:
            number = f"trial {trials[min(group.members.values())].number}"
            found.append((number if search else label or "all trials", runs))
    names = distinct([label for label, _ in found])
    return [Setting(name, runs) for name, (_, runs) in zip(names, found, strict=True)]


def _setting_of_each(trials: Sequence[Trial]) -> list[str]:
    """What the setting of each trial is called; repetitions have one name."""
    groups = setting_groups(trials)
    names = {
        place: label
        for group, label in zip(groups, setting_labels(trials, groups), strict=True)
        for place in group.members.values()
    }
    return [names[place] for place in range(len(trials))]


def _trial(record: Mapping[str, Any]) -> Trial:
    fields = ("number", "changes", "scores", "common_classes", "subclasses", "seconds", "keys")
    known = {key: record[key] for key in (*fields, "run_id", "stopped_after")}
    *_, name, page = ("", "", *str(record.get("report", "")).split("/"))
    return Trial(
        **known, variant=record.get("variant", ""), error=record.get("error", ""),
        href=f"../../runs/{quote(name)}/{page}" if name else "",
    )  # fmt: skip


def agreement_of(
    storage: Storage,
    trials: Sequence[Trial],
    scenes: CheckedScenes,
) -> pd.DataFrame | None:
    """Adjusted Rand index between the hierarchies of trials that have the same samples.

    It is computed on the samples of at most `IMAGES` unaugmented training images, evenly spaced.
    None if fewer than two hierarchies can be compared.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        # A hierarchy that the user gives needs no samples.
        if {"hierarchy", "samples"} <= set(trial.keys):
            first.setdefault(trial.keys["hierarchy"], trial)
    samples = next((trial.keys["samples"] for trial in first.values()), None)
    compared = [trial for trial in first.values() if trial.keys["samples"] == samples]
    if len(compared) < 2:
        return None
    train = scenes.split("train")
    chosen = [
        train[round(place)] for place in np.linspace(0, len(train) - 1, min(IMAGES, len(train)))
    ]
    places = {scene.id: scene for scene in chosen}
    found = {}
    for trial in compared:
        stage = "histograms" if "histograms" in trial.keys else "samples"
        rows = storage.path("stages", stage, trial.keys[stage], "rows")
        table = _rows(storage.filesystem, rows, list(places))
        hierarchy = read_hierarchy(
            storage, storage.path("stages", "hierarchy", trial.keys["hierarchy"])
        )
        dataset = scenes.dataset
        if "pseudo_labels" in trial.keys:
            maps = storage.path("stages", "pseudo_labels", trial.keys["pseudo_labels"])
            dataset = PseudoLabelMaps(storage, maps).add_to(dataset)
        names = {image: hierarchy.scene_of(scene) for image, scene in places.items()}
        images = [names[image] for image in table["image"].to_pylist()]
        # The rows are of unaugmented images, so no seed is used.
        found[trial.name] = row_subclasses(
            hierarchy, table, images, len(dataset.classes), dataset.scene, 0
        )
    return agreement(found)


def _rows(filesystem: arrow_fs.FileSystem, folder: str, images: list[str]) -> Any:
    wanted = pc.field("image").isin(images) & (pc.field("variant") == 0)
    table = ds.dataset(folder, filesystem=filesystem, format="parquet").to_table(filter=wanted)
    return table.sort_by([(key, "ascending") for key in ("image", "y", "x")]).combine_chunks()


def print_results(outcome: SweepOutcome, page: str) -> None:
    """Print a line per setting, paths, and how to compare the trials."""
    trials = [_trial(record) for record in outcome.records]
    # Only a search stops trials; its settings are not repeated with several seeds.
    stopped = any(trial.stopped_after is not None for trial in trials)
    frame = trial_frame(trials).drop(columns="run_id") if stopped else setting_frame(trials)
    frame = frame.dropna(axis=1, how="all").astype(object)
    frame = frame.where(frame.notna(), "")
    print()
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print()
    address = outcome.storage.address
    print(f"page      {page}")
    print(f"table     {address(f'{outcome.folder}/{SUMMARY}')}")
    print("\n".join(compare_lines(outcome.tracker)))


def failure_text(outcome: SweepOutcome) -> str:
    """What failed, a line a trial, with its reason."""
    failed = [_trial(record) for record in outcome.failed]
    lines = "\n".join(f"  trial {trial.number} ({trial.name}): {trial.error}" for trial in failed)
    return f"{len(failed)} of {len(outcome.records)} trials failed:\n{lines}"
