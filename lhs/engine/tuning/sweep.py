"""`lhs sweep`: shared stages once, then the trials by Ray Tune; resumed or cleaned."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import annotated_scenes
from lhs.engine.runtime.resources import preflight, trainings_that_fit
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage
from lhs.engine.tracking.parameters import origin_tags, parameters
from lhs.engine.tracking.tracker import (
    Tracker,
    begin_run,
    close_unfinished,
    ended,
    find_runs,
    go_on,
    tracking_uri,
)
from lhs.engine.tuning.kept import not_kept, planned
from lhs.engine.tuning.plan import check_scenes, make_shared, plan_text
from lhs.engine.tuning.trials import (
    failed_record,
    record_of,
    record_path,
    run_trials,
    trial_tags,
)
from lhs.errors import UserError
from lhs.report.evidence import write_planned
from lhs.sweeps import Protocol, Trial

logger = logging.getLogger("lhs")

STATE = "sweep.json"
TOKEN = "lhs.sweep"
"""Tag of a sweep's run in MLflow: its token."""
SHOWN = 5
"""Differences that an error message lists."""


@dataclass(frozen=True)
class SweepOutcome:
    """A finished sweep.

    Attributes
    ----------
    storage, folder
        Where its files are.
    records
        A mapping for each trial, see `lhs.engine.tuning.trials.record_of`; one that failed has
        `error`.
    tracker
        The sweep's run, the parent of the trials' runs.
    """

    storage: Storage
    folder: str
    records: list[dict[str, Any]]
    tracker: Tracker

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Records of the trials that failed."""
        return [record for record in self.records if "error" in record]


def run_sweep(
    name: str,
    recipe: str,
    trials: Sequence[Trial],
    *,
    resume: bool = False,
    until: str = "evaluation",
    at_once: int | None = None,
    keep: str = "",
    protocol: Protocol | None = None,
) -> SweepOutcome:
    """Run the trials of a sweep that are not finished.

    Parameters
    ----------
    name
        Name of the sweep's folder below `sweeps/` in the storage.
    recipe
        Name of the recipe, for log lines and the page.
    trials
        All trials.
    resume
        Continue a sweep that was stopped; a finished one gives its results.
    until
        `evaluation`, or `hierarchy` to train nothing.
    at_once
        Trials at a time, at most; None for as many as the cluster can run.
    keep
        Folder that each finished trial is kept in, see `lhs.report.evidence`; a trial whose
        evaluation is there already is not run. Empty for none.
    protocol
        What the trials are to show; written to that folder.

    Raises
    ------
    UserError
        If the sweep exists and `resume` is false, its trials differ from those begun, the cluster
        cannot run a trial. What stops single trials is in their records.
    """
    storage = Storage(trials[0].config.storage)
    folder = storage.path("sweeps", name)
    if until == "evaluation":
        for trial in trials:
            trainings_that_fit(trial.config)
        logger.info(preflight(trials[0].config))
    configs = [trial.config for trial in trials]
    logger.info(f"== sweep {name}: {len(trials)} trials of {recipe}")
    stages = Stages(storage)
    check_scenes(stages, configs)
    # Only now, so that a user error up to here leaves nothing to clean.
    state = begin(
        storage, folder, resume,
        {"name": name, "recipe": recipe, "until": until,
         "trials": [settings_of(config) for config in configs]},
    )  # fmt: skip
    logger.info(plan_text(stages, configs, trained=until == "evaluation"))
    tracker = parent_run(storage, state, configs)
    with ended(tracker):
        left = [t for t in trials if not storage.exists(record_path(folder, t.number))]
        if len(left) < len(trials):
            logger.info(f"{len(trials) - len(left)} trials are finished, {len(left)} left")
        failed: dict[int, dict[str, Any]] = {}
        if left:
            shared, errors = make_shared(
                stages, [trial.config for trial in left], trained=until == "evaluation"
            )
            for place, reason in errors.items():
                trial = left[place]
                failed[trial.number] = failed_record(trial, shared[place], reason, tracker)
            shared = [done for place, done in enumerate(shared) if place not in errors]
            left = [trial for place, trial in enumerate(left) if place not in errors]
            if keep and until == "evaluation":
                # Absolute: the processes of trials have another current folder.
                keep = str(Path(keep).absolute())
                kept = Path(keep) / annotated_scenes(stages, configs[0]).dataset.name
                if protocol is not None:
                    write_planned(kept, planned(protocol, trials))
                left, shared = not_kept(stages, folder, left, shared, kept)
            if left:
                failed |= _run(storage, folder, left, shared, tracker, until, at_once, keep)
        records = [
            failed.get(trial.number) or storage.read_json(record_path(folder, trial.number))
            for trial in trials
        ]
    if failed:
        tracker.end("FAILED")
    return SweepOutcome(storage, folder, records, tracker)


def clean_sweep(storage: Storage, name: str) -> int:
    """Delete a sweep's records and close its unfinished runs in MLflow.

    Stages and the runs of finished trials stay.

    Returns
    -------
    int
        Number of runs that were closed.

    Raises
    ------
    UserError
        If there is no such sweep.
    """
    folder = storage.path("sweeps", name)
    if not storage.exists(f"{folder}/{STATE}"):
        raise UserError(f"sweep {name}: there is none in {storage.uri}")
    uri = tracking_uri(storage)
    parents = find_runs(uri, {TOKEN: storage.read_json(f"{folder}/{STATE}")["token"]})
    closed = [run_id for parent in parents for run_id in close_unfinished(uri, parent.info.run_id)]
    storage.delete(folder)
    return len(closed)


def begin(storage: Storage, folder: str, resume: bool, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write a new sweep's description to its folder, or check that a resumed one is the same.

    Parameters
    ----------
    storage, folder
        Where the sweep's files are.
    resume
        Whether it was begun before.
    wanted
        `name`, `recipe`, `until`, `trials` (the settings of each, or those that all share) and,
        for a search, `search`.

    Returns
    -------
    dict
        The stored description, with a unique `token`.

    Raises
    ------
    UserError
        If it exists and `resume` is false, does not exist and `resume` is true, or differs.
    """
    path, name = f"{folder}/{STATE}", wanted["name"]
    if not storage.exists(path):
        if resume:
            raise UserError(f"--resume: no sweep {name} was begun in {storage.uri}")
        state = {**wanted, "token": uuid.uuid4().hex}
        storage.make_folder(f"{folder}/trials")
        storage.write_json(path, state)
        return state
    before = storage.read_json(path)
    if not resume:
        raise UserError(
            f"sweep {name} was begun already in {storage.uri}: --resume continues it, "
            "--clean deletes it, --name gives this one another name"
        )
    # Through JSON, as what was written.
    differences = _differences(before, json.loads(json.dumps(wanted)))
    if differences:
        raise UserError(
            f"--resume: the sweep {name} was begun with other settings:\n" + "\n".join(differences)
        )
    return dict(before)


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that must be the same when a sweep is resumed."""
    dotted = config.dotted()
    # Whether models are registered changes no result.
    apart = ("description", "storage", "tracking.register")
    return {key: dotted[key] for key in dotted if key not in apart}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["until"] != now["until"]:
        return [f"  --until: found {now['until']}, begun with {before['until']}"]
    if len(before["trials"]) != len(now["trials"]):
        return [f"  trials: found {len(now['trials'])}, begun with {len(before['trials'])}"]
    trials = zip(before["trials"], now["trials"], strict=True)
    pairs = {"search": (before.get("search", {}), now.get("search", {}))}
    pairs |= {f"trial {number}": pair for number, pair in enumerate(trials, 1)}
    lines = [
        f"  {name}: {key}: found {new.get(key)}, begun with {old.get(key)}"
        for name, (old, new) in pairs.items()
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more"]


def parent_run(storage: Storage, state: Mapping[str, Any], configs: Sequence[Config]) -> Tracker:
    """The sweep's run in MLflow, new or continued; runs that a kill left running are closed.

    Parameters
    ----------
    storage
        Where the sweep's files are.
    state
        The sweep's description from `begin`.
    configs
        Of all trials, or the one that a search changes: what they share are the run's parameters.
    """
    uri = tracking_uri(storage)
    found = find_runs(uri, {TOKEN: state["token"]})
    if not found:
        first, *others = (parameters(config) for config in configs)
        same = {
            key: value
            for key, value in first.items()
            if all(other.get(key) == value for other in others)
        }
        count = state["search"]["count"] if "search" in state else len(state["trials"])
        tags = {TOKEN: state["token"], "lhs.recipe": state["recipe"], "lhs.trials": str(count)}
        dataset, name = configs[0].data.dataset, f"sweep {state['name']}"
        return Tracker(uri, begin_run(uri, dataset, name, origin_tags() | tags, same))
    tracker = Tracker(uri, found[0].info.run_id)
    close_unfinished(uri, tracker.run_id)
    go_on(uri, tracker.run_id)
    return tracker


def _run(
    storage: Storage,
    folder: str,
    left: Sequence[Trial],
    shared: Sequence[Sequence[StageResult]],
    tracker: Tracker,
    until: str,
    at_once: int | None,
    keep: str,
) -> dict[int, dict[str, Any]]:
    """Run trials; the records of those that failed, by number."""
    if until == "hierarchy":
        for trial, done in zip(left, shared, strict=True):
            storage.write_json(record_path(folder, trial.number), record_of(trial, done))
        return {}
    tags = {trial.number: trial_tags(tracker, trial.number) for trial in left}
    reasons = run_trials(storage, folder, left, tags, at_once, keep)
    return {
        trial.number: failed_record(trial, done, reasons[trial.number], tracker)
        for trial, done in zip(left, shared, strict=True)
        if trial.number in reasons
    }
