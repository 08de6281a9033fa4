"""MLflow: parameters under their dotted names, curves, scores, pictures, the model."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from lhs.config import Config, TrainConfig
from lhs.engine.cache import Stages
from lhs.engine.pyfunc import save_pyfunc
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError

logger = logging.getLogger("lhs")

LONGEST = 6000
"""Characters of a parameter's value that MLflow keeps."""
PARENT = "mlflow.parentRunId"
"""Tag of a run below another."""
BATCH = 900
"""Metrics of one call; the server takes 1000."""


WAIT = 600.0
"""Seconds that a run waits for a store that went away."""
ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow's own waiting would hold a training back for minutes."""


_OF_SQLITE = {
    "disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.EROFS,
}
"""What SQLite says, and the system's number for it."""


def tracking_uri(storage: Storage) -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or a SQLite file in the storage folder.

    Beside a remote storage the file lies in the default results folder of this machine.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    folder = Path(storage.root) if storage.local else Path(os.path.expanduser("~/lhs-results"))
    with explained(storage.uri):
        folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


@dataclass(frozen=True)
class Tracker:
    """One MLflow run in one store; travels to workers."""

    uri: str
    run_id: str

    @property
    def client(self) -> mlflow.MlflowClient:
        """A client of the store."""
        return mlflow.MlflowClient(self.uri)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log single numbers; those that are nan are left out."""
        now = int(time.time() * 1000)
        rows = [Metric(key, value, now, 0) for key, value in values.items() if value == value]
        patiently(self.uri, lambda: self.client.log_batch(self.run_id, metrics=rows))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Log tags."""
        rows = [RunTag(key, str(value)) for key, value in values.items()]
        patiently(self.uri, lambda: self.client.log_batch(self.run_id, tags=rows))

    def folder(self, folder: Path, place: str | None = None) -> None:
        """Log a folder's files as artifacts, below `place` or at the top."""
        patiently(self.uri, lambda: self.client.log_artifacts(self.run_id, str(folder), place))

    def ended(self, status: str) -> None:
        """Note how the run ended: FINISHED, FAILED or KILLED."""
        patiently(self.uri, lambda: self.client.set_terminated(self.run_id, status))


def patiently(uri: str, call: Callable[[], Any]) -> None:
    """Do what needs the store; where that is away, try again for up to `WAIT` seconds.

    Raises
    ------
    UserError
        If it is a file and the disk is full or read-only.
    """
    limit, pause = time.monotonic() + WAIT, 0.5
    while True:
        try:
            with _disk_explained(uri):
                call()
            return
        except (MlflowException, OSError) as error:
            if not _away(error) or time.monotonic() > limit:
                raise
            if pause == 0.5:
                logger.warning("MLflow's store does not answer; waiting for it")
            time.sleep(pause)
            pause = min(2 * pause, 20.0)


@contextmanager
def _disk_explained(uri: str) -> Iterator[None]:
    """Tell what a full or read-only disk makes of a store in files as the storage tells it."""
    with explained(uri):
        try:
            yield
        except MlflowException as error:
            for words, number in _OF_SQLITE.items():
                if words in str(error):
                    raise OSError(number, words) from None
            raise


def _away(error: Exception) -> bool:
    """Whether nobody answered, rather than said no."""
    told = getattr(error, "error_code", "INTERNAL_ERROR")
    return told in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def begin_run(
    uri: str, dataset: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]
) -> str:
    """Begin a run in the dataset's experiment, with these tags and parameters; its id.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    with _reached(uri):
        client = mlflow.MlflowClient(uri)
        experiment_id = _experiment(client, uri, dataset)
        run_id: str = client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id
        client.log_batch(run_id, params=_params(parameters))
    return run_id


def _params(parameters: Mapping[str, Any]) -> list[Param]:
    return [Param(key, str(value)[:LONGEST]) for key, value in parameters.items()]


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It prints what it raises, with a traceback.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Two runs that create the database at the same time break each other.
    database = uri.removeprefix("sqlite:///")
    alone = nullcontext() if database == uri else FileLock(f"{database}.lock")
    try:
        with alone:
            yield
    except (MlflowException, OSError) as error:
        raise UserError(f"MLFLOW_TRACKING_URI = {uri}: {error}") from None


@contextmanager
def tracked(
    config: Config,
    storage: Storage,
    dataset: str,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> Iterator[Tracker]:
    """An MLflow run around the block; it ends FINISHED, FAILED or KILLED.

    Parameters
    ----------
    config
        Logged as parameters, each under its dotted name.
    storage
        Beside which the default database lies.
    dataset
        The experiment's name.
    name
        The run's name.
    tags
        Of the run.
    run_id
        A run that an earlier attempt left, which is taken up again; None begins one.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    uri = tracking_uri(storage)
    parameters = {key: value for key, value in config.dotted().items() if key != "description"}
    if run_id is None:
        run_id = begin_run(uri, dataset, name, tags or {}, parameters)
    else:
        with _reached(uri):
            client = mlflow.MlflowClient(uri)
            client.update_run(run_id, status="RUNNING")
            client.log_batch(run_id, params=_params(parameters))
    tracker = Tracker(uri, run_id)
    with noted(tracker):
        yield tracker


@contextmanager
def noted(tracker: Tracker) -> Iterator[None]:
    """Note how the block ends: FINISHED, FAILED or KILLED."""
    try:
        yield
    except BaseException as error:
        # What went wrong is told, not that it could not be noted.
        with suppress(UserError, MlflowException, OSError):
            tracker.ended("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.ended("FINISHED")


def find_runs(uri: str, tags: Mapping[str, str]) -> list[Any]:
    """All runs of a store with these tags, in all experiments, the newest first."""
    with _reached(uri):
        client = mlflow.MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found: list[Any] = []
        token: str | None = None
        while experiments:
            page = client.search_runs(experiments, wanted, page_token=token)
            found += page
            token = page.token
            if not token:
                break
        return found


def close_left(uri: str, parent: str) -> list[str]:
    """End the runs that a kill left RUNNING: a sweep's own and its trials'; their ids."""
    client = mlflow.MlflowClient(uri)
    runs = [client.get_run(parent), *find_runs(uri, {PARENT: parent})]
    left = [run.info.run_id for run in runs if run.info.status == "RUNNING"]
    for run_id in left:
        client.set_terminated(run_id, "KILLED")
    return left


def _experiment(client: mlflow.MlflowClient, uri: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return experiment.experiment_id
    place = None
    if uri.startswith("sqlite:///"):
        # MLflow's own default would be a folder where the command was typed.
        place = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
    return client.create_experiment(name, artifact_location=place)


def log_training(
    tracker: Tracker, storage: Storage, model: StageResult, train: TrainConfig
) -> None:
    """Log a trained model, as an MLflow model that `runs:/RUN_ID` finds, and its curves where an
    earlier run trained it."""
    with storage.as_local(model.path) as folder, tempfile.TemporaryDirectory() as scratch:
        if model.reused:
            _log_history(tracker, pd.read_parquet(folder / "history.parquet"), train)
        save_pyfunc(folder / "model", Path(scratch) / "model")
        tracker.folder(Path(scratch) / "model", "model")


def log_outcome(tracker: Tracker, scores: Mapping[str, float], stages: Stages) -> None:
    """Log what a finished run found: scores, seconds a stage, what was reused."""
    tracker.metrics({f"test/{key}": value for key, value in scores.items()})
    tracker.metrics({f"seconds/{key}": value for key, value in stages.seconds().items()})
    reused = [stage.name for stage in stages.done if stage.reused]
    keys = {f"stage.{stage.name}": stage.key for stage in stages.done}
    tracker.tags({"lhs.reused": ", ".join(reused) or "none", **keys})


def _log_history(tracker: Tracker, history: pd.DataFrame, train: TrainConfig) -> None:
    curves = Curves(tracker)
    for _, rows in history.groupby((history["step"] - 1) // train.log_every):
        last = int(rows["step"].iloc[-1])
        curves.add(last, mean_of(rows.to_dict("records"), train.batch_size))
    curves.finish()


def mean_of(rows: Sequence[Mapping[Any, Any]], batch_size: int) -> dict[str, float]:
    """One point of the curves, of consecutive rows of a training history."""
    seconds = sum(row["seconds"] for row in rows)
    values = {
        "loss": sum(row["loss"] for row in rows) / len(rows),
        "learning_rate": rows[-1]["learning_rate"],
        "examples_per_second": batch_size * len(rows) / seconds,
        "share_waited": sum(row["waited"] for row in rows) / seconds,
    }
    drift = {key: rows[-1][key] for key in ("w_from_one", "w_from_zero") if key in rows[-1]}
    return values | drift


class Curves:
    """Training curves, sent in batches so that the store does not hold the training back; without a
    tracker nowhere."""

    EVERY = 5.0

    def __init__(self, tracker: Tracker | None) -> None:
        self.tracker = tracker
        self.rows: list[Metric] = []
        self.sent = time.monotonic()

    def add(self, step: int, values: Mapping[str, float], kind: str = "train") -> None:
        """Note the values of a step; nan is left out."""
        if self.tracker is None:
            return
        now = int(time.time() * 1000)
        self.rows += [
            Metric(f"{kind}/{key}", value, now, step)
            for key, value in values.items()
            if value == value
        ]
        if time.monotonic() - self.sent > self.EVERY:
            self.flush()

    def flush(self) -> None:
        """Send what was noted; where the store is away, it is kept for the next time."""
        try:
            self._send()
        except (MlflowException, OSError) as error:
            if not _away(error):
                raise
        self.sent = time.monotonic()

    def finish(self) -> None:
        """Send what is left, and wait for the store if need be."""
        if self.tracker is not None:
            patiently(self.tracker.uri, self._send)

    def _send(self) -> None:
        while self.rows and self.tracker is not None:
            self.tracker.client.log_batch(self.tracker.run_id, metrics=self.rows[:BATCH])
            del self.rows[:BATCH]
