"""`lhs sweep` with a search: Optuna proposes trials, ASHA stops the worse ones early."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.runtime.cluster import start
from lhs.engine.runtime.progress import Progress, forwarded_logs
from lhs.engine.runtime.resources import preflight, trainings_that_fit
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage
from lhs.engine.tracking.tracker import Tracker, ended, find_runs
from lhs.engine.tuning.plan import check_scenes, make_shared, plan_text
from lhs.engine.tuning.sweep import SweepOutcome, begin, parent_run, settings_of
from lhs.engine.tuning.trial_ids import TrialIds
from lhs.engine.tuning.trials import (
    failed_record,
    failures,
    record_of,
    record_path,
    run_trial,
    run_tune,
    trial_tags,
)
from lhs.errors import UserError
from lhs.loading import build_config, put_setting
from lhs.report.sensitivity import SCORES
from lhs.sweeps import Between, Search, Trial, text_of

logger = logging.getLogger("lhs")

DIGITS = 3
"""Significant digits of a proposed number."""
REDUCTION_FACTOR = 3
"""ASHA's: one trial in three continues from a rung to the next, which is three times as long."""
MAX_EPOCHS = 10_000
"""More than any trial has: its own length ends it."""


def run_search(
    name: str,
    recipe: str,
    search: Search,
    base: Config,
    *,
    resume: bool = False,
    at_once: int | None = None,
) -> SweepOutcome:
    """Run the trials of a search that are not finished.

    A resumed search gives Optuna the finished trials and continues those that were begun.

    Parameters
    ----------
    name
        Name of the sweep's folder below `sweeps/` in the storage.
    recipe
        Name of the recipe, for log lines and the page.
    search
        The space, and the number of trials.
    base
        The configuration that all trials share.
    resume
        Continue a search that was stopped; a finished one gives its results.
    at_once
        Trials at a time, at most; None for as many as the cluster can run.

    Returns
    -------
    SweepOutcome
        Records, the best trial first; `stopped_after` is the epoch after which a trial was stopped,
        whose scores are those of that epoch.

    Raises
    ------
    UserError
        As `lhs.engine.tuning.sweep.run_sweep`.
    """
    storage = Storage(base.storage)
    folder = storage.path("sweeps", name)
    trainings_that_fit(base)
    logger.info(preflight(base))
    logger.info(f"== search {name}: {search.count} trials of {recipe}")
    stages = Stages(storage)
    check_scenes(stages, [base])
    state = begin(
        storage, folder, resume,
        {"name": name, "recipe": recipe, "until": "evaluation", "trials": [settings_of(base)],
         "search": _described(search)},
    )  # fmt: skip
    logger.info(plan_text(stages, [base], trained=True, searched=search.count))
    tracker = parent_run(storage, state, [base])
    with ended(tracker):
        [shared], errors = make_shared(stages, [base])
        if errors:
            raise UserError(errors[0])
        finished, begun = _so_far(storage, folder, search.count)
        if finished:
            logger.info(f"{len(finished)} trials are finished, {search.count - len(finished)} left")
        failed: list[dict[str, Any]] = []
        if len(finished) < search.count:
            failed = _run(storage, folder, search, base, shared, tracker, finished, begun, at_once)
        records = [*_so_far(storage, folder, search.count)[0].values(), *failed]
        records.sort(key=lambda record: -record["scores"].get(search.metric, -1))
    if failed:
        tracker.end("FAILED")
    return SweepOutcome(storage, folder, records, tracker)


def _described(search: Search) -> dict[str, Any]:
    space = {
        key: asdict(values) if isinstance(values, Between) else list(values)
        for key, values in search.space.items()
    }
    return {
        "count": search.count, "metric": search.metric, "patience": search.patience, "space": space,
    }  # fmt: skip


def _so_far(
    storage: Storage, folder: str, count: int
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Records of finished trials, and changes of those that were begun and not finished."""
    finished, begun = {}, {}
    for number in range(1, count + 1):
        if storage.exists(record_path(folder, number)):
            finished[number] = dict(storage.read_json(record_path(folder, number)))
        elif storage.exists(begun_path(folder, number)):
            begun[number] = dict(storage.read_json(begun_path(folder, number))["changes"])
    return finished, begun


def begun_path(folder: str, number: int) -> str:
    """Path of the file with a trial's changes, written when it begins."""
    return f"{folder}/trials/{number:03}-begun.json"


def _run(
    storage: Storage,
    folder: str,
    search: Search,
    base: Config,
    shared: Sequence[StageResult],
    tracker: Tracker,
    finished: Mapping[int, Mapping[str, Any]],
    begun: Mapping[int, Mapping[str, Any]],
    at_once: int | None,
) -> list[dict[str, Any]]:
    """Run the trials that are left; the records of those that failed."""
    left = search.count - len(finished)
    concurrent = min(at_once or left, trainings_that_fit(base), left)
    free = [n for n in range(1, search.count + 1) if n not in finished and n not in begun]
    start()
    ids = ray.remote(num_cpus=0)(TrialIds).remote(begun, free)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    proposals = OptunaSearch(
        {key: distribution(values) for key, values in search.space.items()},
        metric=search.metric, mode="max", points_to_evaluate=list(begun.values()),
        # The same seed would propose the same again.
        seed=len(finished),
    )  # fmt: skip
    for record in finished.values():
        proposals.add_evaluated_point(record["changes"], record["scores"][search.metric])
    with forwarded_logs() as lines:
        trainable = functools.partial(
            _searched, storage=storage, folder=folder, base=base, space=dict(search.space),
            ids=ids, tracker=tracker, lines=lines,
        )  # fmt: skip
        results = run_tune(
            storage, folder, trainable,
            search_alg=ConcurrencyLimiter(proposals, max_concurrent=concurrent),
            scheduler=ASHAScheduler(
                time_attr="epoch", metric=search.metric, mode="max", max_t=MAX_EPOCHS,
                grace_period=search.patience, reduction_factor=REDUCTION_FACTOR,
            ),
            num_samples=left,
            max_concurrent_trials=concurrent,
        )  # fmt: skip
    assigned = ray.get(ids.all.remote())
    by_number = {}
    for result in results:
        trial_id = Path(result.path).name
        if trial_id not in assigned:
            raise RuntimeError(f"trial {trial_id} ended before it began") from result.error
        by_number[assigned[trial_id]] = result
    reasons = failures(storage, folder, by_number)
    failed = []
    for number, result in by_number.items():
        if storage.exists(record_path(folder, number)):
            continue
        changes = storage.read_json(begun_path(folder, number))["changes"]
        trial = Trial(number, changes, base)
        if number in reasons:
            failed.append(failed_record(trial, shared, reasons[number], tracker))
        else:
            assert result.metrics is not None
            _record_stopped(storage, folder, trial, shared, tracker, result.metrics)
    return failed


def _searched(
    parameters: Mapping[str, Any],
    storage: Storage,
    folder: str,
    base: Config,
    space: Mapping[str, Any],
    ids: Any,
    tracker: Tracker,
    lines: Progress,
) -> None:
    changes = {key: _rounded(parameters[key], values) for key, values in space.items()}
    number = ray.get(ids.assign.remote(tune.get_context().get_trial_id(), changes))
    storage.write_json(begun_path(folder, number), {"changes": changes})
    trial = Trial(number, changes, changed(base, changes))
    run_trial(storage, folder, trial, trial_tags(tracker, number), lines, [TuneReportCallback()])


def changed(base: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with some settings changed, by dotted name."""
    tree = base.model_dump(mode="json")
    for key, value in changes.items():
        put_setting(tree, f"{key}={text_of(value)}")
    return build_config(tree)


def distribution(values: Sequence[Any] | Between) -> Any:
    """Optuna's distribution of a setting."""
    if not isinstance(values, Between):
        return CategoricalDistribution(list(values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _rounded(value: Any, values: Sequence[Any] | Between) -> Any:
    if not isinstance(values, Between) or isinstance(value, int):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), values.low), values.high)


def _record_stopped(
    storage: Storage,
    folder: str,
    trial: Trial,
    shared: Sequence[StageResult],
    tracker: Tracker,
    metrics: Mapping[str, Any],
) -> None:
    """Write the record of a trial that ASHA stopped, and end its run in MLflow."""
    scores = {key: metrics[key] for key in SCORES if key in metrics}
    record = record_of(trial, shared) | {"scores": scores, "stopped_after": metrics["epoch"]}
    for run in find_runs(tracker.uri, trial_tags(tracker, trial.number)):
        record["run_id"] = run.info.run_id
        stopped = Tracker(tracker.uri, run.info.run_id)
        stopped.tags({"lhs.stopped_after": metrics["epoch"]})
        stopped.end("KILLED")
    storage.write_json(record_path(folder, trial.number), record)
    logger.info(
        f"[{trial.number} {trial.name}] stopped after epoch {metrics['epoch']}: others score higher"
    )
