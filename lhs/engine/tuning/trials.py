"""Ray Tune: the trials of a sweep, each a whole experiment that reuses what is made."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ray import tune
from ray.train import UserCallback

from lhs.engine.pipeline import run_one
from lhs.engine.runtime.cluster import connected
from lhs.engine.runtime.progress import Progress, use_desk_of
from lhs.engine.runtime.relay import Sender, heard
from lhs.engine.runtime.resources import trainings_that_fit
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage, explained
from lhs.engine.tracking.tracker import find_runs, tracking_uri
from lhs.errors import UserError
from lhs.sweeps import METRICS, Trial

HEAD = "node:__internal_head__"
"""A resource of 1 that only the head node has."""
TRIAL_SHARE = 0.001
"""What a trial books of it: what trains and reads books its CPUs itself, and a trial that held some
while it waits for them would stand in its own way."""
FAILURES = 3
"""Times that a trial whose process dies is started again."""


def run_trials(
    storage: Storage,
    folder: str,
    trials: Sequence[Trial],
    tags: Mapping[int, Mapping[str, str]],
    at_once: int | None,
) -> None:
    """Run trials, several at once; each leaves its record in the folder.

    Parameters
    ----------
    storage, folder
        Where records go: see `record_path`.
    trials
        Those to run.
    tags
        Of each trial's run in MLflow, by number. A run that bears them already was left by a trial
        whose process died, and is taken up again.
    at_once
        The most at a time; None is as many as trainings fit.

    Raises
    ------
    UserError
        If trials failed; all the others are run first.
    """
    fitting = min(trainings_that_fit(trial.config) for trial in trials)
    together = min(at_once or fitting, fitting, len(trials))
    by_number = {trial.number: trial for trial in trials}
    with heard() as lines:
        trainable = functools.partial(
            _trial, storage=storage, folder=folder, trials=by_number, tags=tags, lines=lines
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, {HEAD: TRIAL_SHARE}),
            param_space={"number": tune.grid_search(list(by_number))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=together,
                trial_dirname_creator=lambda trial: trial.trial_id,
                # The next trial runs in the process of the last: its imports take five seconds.
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=folder,
                storage_filesystem=storage.filesystem,
                failure_config=tune.FailureConfig(max_failures=FAILURES),
                verbose=0,
            ),
        )
        with told_by_tune(storage):
            errors = tuner.fit().errors
    check_results(storage, folder, by_number, errors)


@contextlib.contextmanager
def told_by_tune(storage: Storage) -> Iterator[None]:
    """`explained`, also where Tune reads back an error that it could not write whole.

    Raises
    ------
    UserError
        If the storage is full, closed or read-only.
    """
    try:
        with explained(storage.uri):
            yield
    except Exception as error:
        # By name: nothing of this program's own imports pickle.
        if not isinstance(error, EOFError) and type(error).__name__ != "UnpicklingError":
            raise
        raise UserError(
            f"storage = {storage.uri}: no space left, it seems (what Tune wrote there of a failed "
            "trial is cut off); nothing finished is lost: make room and start again with --resume"
        ) from None


def record_path(folder: str, number: int) -> str:
    """Where the record of a finished trial lies."""
    return f"{folder}/trials/{number:03}.json"


def mistake_path(folder: str, number: int) -> str:
    """Where a trial leaves the user's mistake that it met."""
    return f"{folder}/trials/{number:03}-mistake.json"


def _trial(
    parameters: Mapping[str, int],
    storage: Storage,
    folder: str,
    trials: Mapping[int, Trial],
    tags: Mapping[int, Mapping[str, str]],
    lines: Progress,
) -> None:
    trial = trials[parameters["number"]]
    run_trial(storage, folder, trial, tags[trial.number], lines)


def run_trial(
    storage: Storage,
    folder: str,
    trial: Trial,
    tags: Mapping[str, str],
    lines: Progress,
    callbacks: Sequence[UserCallback] = (),
) -> None:
    """Run one trial in a process of Tune's, report its scores, leave its record in the folder.

    Parameters
    ----------
    storage, folder, trial
        What to run, and where its record goes.
    tags
        Of its run in MLflow.
    lines
        Where it speaks to, see `lhs.engine.runtime.relay`.
    callbacks
        Ray Train's, of its training.
    """
    sender = Sender(lines, f"[{trial.number} {trial.name}] ")
    with connected(), contextlib.redirect_stderr(sender):
        use_desk_of(lines)
        try:
            left = find_runs(tracking_uri(storage), tags)
            run_id = left[0].info.run_id if left else None
            outcome = run_one(trial.config, trial.name, tags, run_id, callbacks)
        except UserError as mistake:
            # Not to be tried again.
            storage.write_json(mistake_path(folder, trial.number), {"mistake": str(mistake)})
            tune.report({"failed": 1, **dict.fromkeys(METRICS, math.nan)})
            return
        scores = outcome.evaluation.scores
        record = record_of(trial, outcome.stages.done) | {
            "scores": scores.headline(),
            "run_id": outcome.tracker.run_id,
            "report": outcome.report,
        }
        storage.replace_json(record_path(folder, trial.number), record)
    sys.stderr.flush()
    tune.report(scores.headline())


def check_results(
    storage: Storage, folder: str, numbers: Iterable[int], errors: Sequence[Any]
) -> None:
    """Raise what went wrong in the trials of these numbers.

    Raises
    ------
    UserError
        Where trials met a user's mistake.
    RuntimeError
        Where trials failed otherwise; `errors` are what Tune caught.
    """
    failed = {
        number: storage.read_json(path)["mistake"]
        for number in numbers
        if storage.exists(path := mistake_path(folder, number))
    }
    if failed:
        told = "\n".join(f"  trial {number}: {mistake}" for number, mistake in failed.items())
        raise UserError(f"{len(failed)} trials failed:\n{told}")
    if errors:
        # A mistake of the user's in it is told as such: a trial can't leave it on a full disk.
        raise RuntimeError(f"{len(errors)} trials failed:\n{errors[0]}") from errors[0]


def record_of(trial: Trial, done: Sequence[StageResult]) -> dict[str, Any]:
    """What is kept of a trial: what it changed, its stages, its hierarchy's size."""
    facts = next((stage.facts for stage in done if stage.name == "hierarchy"), {})
    return {
        "number": trial.number,
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
