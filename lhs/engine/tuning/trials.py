"""Trials of a sweep by Ray Tune, each a whole experiment that reuses finished stages."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.train import UserCallback

from lhs.engine.pipeline import run_one
from lhs.engine.runtime.cluster import connected
from lhs.engine.runtime.logs import logging_to
from lhs.engine.runtime.progress import Progress, ProgressHandler, forwarded_logs, share_actor
from lhs.engine.runtime.resources import trainings_that_fit
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage, explained, is_storage_error
from lhs.engine.tracking.keeping import kept_run
from lhs.engine.tracking.tracker import PARENT, TRACKING_URI, Tracker, find_runs, tracking_uri
from lhs.errors import UserError
from lhs.report.evidence import write_run
from lhs.sweeps import METRICS, Trial

logger = logging.getLogger("lhs")

TRIAL = "lhs.trial"
"""Tag of a trial's run in MLflow: its number."""
HEAD = "node:__internal_head__"
"""A resource of size 1 that only the head node has."""
TRIAL_SHARE = 0.001
"""A trial's share of it. It reserves no CPUs: its training workers and tasks reserve their own,
and a trial that held some would wait for itself."""
MAX_FAILURES = 3
"""How often a trial whose process dies is restarted."""


def run_trials(
    storage: Storage,
    folder: str,
    trials: Sequence[Trial],
    tags: Mapping[int, Mapping[str, str]],
    at_once: int | None,
    keep: str = "",
) -> dict[int, str]:
    """Run trials, several at a time; each writes its record to the folder.

    Parameters
    ----------
    storage, folder
        Where records go: see `record_path`.
    trials
        The trials to run.
    tags
        Tags of each trial's run in MLflow, by number. A run with these tags exists if the trial's
        process died before; it is continued.
    at_once
        Trials at a time, at most; None for as many as trainings fit.
    keep
        Folder that each finished trial is kept in, see `lhs.report.evidence`; empty for none.

    Returns
    -------
    dict of int to str
        Why trials failed, by number.
    """
    fitting = min(trainings_that_fit(trial.config) for trial in trials)
    by_number = {trial.number: trial for trial in trials}
    with forwarded_logs() as lines:
        results = run_tune(
            storage,
            folder,
            functools.partial(
                _trial,
                storage=storage,
                folder=folder,
                trials=by_number,
                tags=tags,
                lines=lines,
                keep=keep,
            ),
            param_space={"number": tune.grid_search(list(by_number))},
            max_concurrent_trials=min(at_once or fitting, fitting, len(trials)),
            # The next trial runs in the process of the last: its imports take five seconds.
            reuse_actors=True,
        )
    # Tune runs a grid's trials, and gives their results, in its order.
    return failures(storage, folder, dict(zip(by_number, results, strict=True)))


def run_tune(
    storage: Storage,
    folder: str,
    trainable: Callable[..., None],
    param_space: dict[str, Any] | None = None,
    **settings: Any,
) -> tune.ResultGrid:
    """Run trials by Ray Tune; its files in the sweep's folder are deleted at the end.

    Parameters
    ----------
    storage, folder
        Where the sweep's files are.
    trainable
        Runs a trial.
    param_space
        As of `ray.tune.Tuner`.
    **settings
        Of `ray.tune.TuneConfig`.

    Returns
    -------
    ResultGrid
        A result for each trial, also of those that failed.

    Raises
    ------
    UserError
        If the storage is full, closed or read-only.
    """
    here = functools.partial(
        _tracked_as_here, trainable=trainable, server=os.environ.get(TRACKING_URI)
    )
    tuner = tune.Tuner(
        tune.with_resources(here, {HEAD: TRIAL_SHARE}),
        param_space=param_space,
        tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: trial.trial_id, **settings),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder,
            storage_filesystem=storage.filesystem,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            verbose=0,
        ),
    )
    try:
        with _tune_explained(storage):
            return tuner.fit()
    finally:
        storage.delete(f"{folder}/tune")


def _tracked_as_here(
    parameters: dict[str, Any], trainable: Callable[..., None], server: str | None
) -> None:
    """Run a trial with the tracking server of the driver: a process of a cluster that was there
    before does not have its variables."""
    if server:
        os.environ[TRACKING_URI] = server
    trainable(parameters)


@contextlib.contextmanager
def _tune_explained(storage: Storage) -> Iterator[None]:
    """`explained`, also where Tune reads back an error that it could not write completely."""
    try:
        with explained(storage.uri):
            yield
    except Exception as error:
        # By name: nothing in this program itself imports pickle.
        if not isinstance(error, EOFError) and type(error).__name__ != "UnpicklingError":
            raise
        raise UserError(
            f"storage = {storage.uri}: probably no space left (what Tune wrote there about a "
            "failed trial is incomplete); no finished result is lost: free space and start again "
            "with --resume"
        ) from None


def record_path(folder: str, number: int) -> str:
    """Path of a finished trial's record."""
    return f"{folder}/trials/{number:03}.json"


def error_path(folder: str, number: int) -> str:
    """Path of the user error that stopped a trial."""
    return f"{folder}/trials/{number:03}-mistake.json"


def _trial(
    parameters: Mapping[str, int],
    storage: Storage,
    folder: str,
    trials: Mapping[int, Trial],
    tags: Mapping[int, Mapping[str, str]],
    lines: Progress,
    keep: str,
) -> None:
    trial = trials[parameters["number"]]
    run_trial(storage, folder, trial, tags[trial.number], lines, keep=keep)


def run_trial(
    storage: Storage,
    folder: str,
    trial: Trial,
    tags: Mapping[str, str],
    lines: Progress,
    callbacks: Sequence[UserCallback] = (),
    keep: str = "",
) -> None:
    """Run one trial in a process of Tune's, report its scores, write its record to the folder.

    Parameters
    ----------
    storage, folder, trial
        What to run, and where its record goes.
    tags
        Tags of its run in MLflow.
    lines
        Where its log lines go.
    callbacks
        Callbacks of Ray Train for its training.
    keep
        As of `run_trials`.
    """
    error_file = error_path(folder, trial.number)
    with connected(), logging_to(ProgressHandler(lines, f"[{trial.number} {trial.name}] ")):
        share_actor(lines)
        if storage.exists(error_file):
            storage.filesystem.delete_file(error_file)
        try:
            runs = find_runs(tracking_uri(storage), tags)
            run_id = runs[0].info.run_id if runs else None
            outcome = run_one(trial.config, trial.name, tags, run_id, callbacks)
            if keep:
                name = Path(outcome.report).parent.name
                write_run(Path(keep), kept_run(storage, name))
        except UserError as error:
            # Reported as a result, as Tune would retry a failed trial.
            storage.write_json(error_file, {"mistake": str(error)})
            tune.report({"failed": 1, **dict.fromkeys(METRICS, math.nan)})
            return
        except Exception as error:
            # Tune tries again, which deletes this file.
            with contextlib.suppress(UserError):
                storage.write_json(error_file, {"mistake": last_line(error)})
            raise
        scores = outcome.evaluation.scores
        record = record_of(trial, outcome.stages.done) | {
            "scores": scores.headline(),
            "run_id": outcome.tracker.run_id,
            "report": outcome.report,
        }
        storage.write_json(record_path(folder, trial.number), record)
    tune.report(scores.headline())


def failures(storage: Storage, folder: str, results: Mapping[int, tune.Result]) -> dict[int, str]:
    """Why trials failed, by number: what stopped each, or what Tune says of a process that died.

    Parameters
    ----------
    storage, folder
        Where the trials' files are.
    results
        Tune's result of each trial, by number.

    Raises
    ------
    UserError
        If what failed is the storage, which all trials write to.
    """
    failed = {}
    for number, result in results.items():
        if not result.error and "failed" not in (result.metrics or {}):
            continue
        path = error_path(folder, number)
        if storage.exists(path):
            failed[number] = str(storage.read_json(path)["mistake"])
        else:
            failed[number] = last_line(result.error or RuntimeError("its process died"))
        if is_storage_error(failed[number], storage.uri):
            raise UserError(f"trial {number}: {failed[number]}")
        if result.error:
            logger.error(f"trial {number}: {result.error}")
    return failed


def last_line(error: Exception) -> str:
    """The last line of an error's text, which may be a traceback of another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def failed_record(
    trial: Trial, done: Sequence[StageResult], reason: str, tracker: Tracker
) -> dict[str, Any]:
    """The record of a trial that failed; it is not stored, so that the trial is tried again."""
    runs = find_runs(tracker.uri, trial_tags(tracker, trial.number))
    run_id = runs[0].info.run_id if runs else ""
    return record_of(trial, done) | {"run_id": run_id, "error": reason}


def trial_tags(tracker: Tracker, number: int) -> dict[str, str]:
    """Tags that identify a trial's run."""
    return {PARENT: tracker.run_id, TRIAL: f"{number:03}", "lhs.stage": "trial"}


def record_of(trial: Trial, done: Sequence[StageResult]) -> dict[str, Any]:
    """The record of a trial: its changes, its stages, the size of its hierarchy."""
    facts = next((stage.facts for stage in done if stage.name == "hierarchy"), {})
    return {
        "number": trial.number,
        "variant": trial.variant,
        "changes": dict(trial.changes),
        "scores": {},
        "common_classes": facts.get("common_classes"),
        "subclasses": facts.get("subclasses"),
        "seconds": {stage.name: stage.seconds for stage in done},
        "keys": {stage.name: stage.key for stage in done},
        "run_id": "",
        "report": "",
        "stopped_after": None,
    }
