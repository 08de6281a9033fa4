"""MLflow runs: where they are stored, begun, found, written to and ended."""

from __future__ import annotations

import errno
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.exc import SQLAlchemyError

from lhs.config import Config
from lhs.engine.runtime.cluster import cluster_nodes
from lhs.engine.storage import Storage, explained
from lhs.engine.tracking.machine import system_metrics
from lhs.engine.tracking.moved import artifact_place, keep_experiment_here, keep_run_here
from lhs.engine.tracking.parameters import origin_tags, parameters
from lhs.errors import UserError

logger = logging.getLogger("lhs")

MAX_PARAM_LENGTH = 6000
"""Characters of a parameter's value that MLflow keeps."""
MAX_RUNS = 50_000
"""Runs of one search; MLflow's limit."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
"""The variable that names a tracking server or store."""
PARENT = "mlflow.parentRunId"
"""Tag of a run below another."""
WAIT = 600.0
"""Seconds that a run waits for a store that does not answer."""
STORE_WAIT = 20.0
"""Seconds that a command waits for a tracking server that has not answered it yet."""
MACHINE_LEARNING = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment: MLflow's page of it opens on its runs, not on traces of language models."""
ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""For training workers: MLflow's own retries would block a training for minutes."""
_SQLITE_ERRORS = {
    "disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.EROFS,
}
"""Parts of SQLite's messages, and the error number of each."""


def tracking_uri(storage: Storage) -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or a SQLite file in the storage folder.

    For a remote storage the file is in the default results folder of this machine.
    """
    given = os.environ.get(TRACKING_URI)
    if given:
        return given
    folder = Path(storage.root) if storage.local else Path(os.path.expanduser("~/lhs-results"))
    with explained(storage.uri, storage.option):
        folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def workers_reach(uri: str, storage: Storage) -> bool:
    """Whether every worker can write to the store: a server, a file in a storage that all nodes
    mount, or a file on the only node."""
    own = storage.local and uri.startswith(f"sqlite:///{storage.root.rstrip('/')}/")
    return not uri.startswith("sqlite:") or own or len(cluster_nodes()) == 1


@dataclass(frozen=True)
class Tracker:
    """One MLflow run in one store; is sent to workers."""

    uri: str
    run_id: str

    @property
    def client(self) -> mlflow.MlflowClient:
        """A client of the store."""
        return mlflow.MlflowClient(self.uri)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics, without those that are nan."""
        rows = metric_rows(values, step)
        if not rows:
            return
        with_retries(self.uri, lambda: self.client.log_batch(self.run_id, metrics=rows))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Log tags."""
        rows = [RunTag(key, str(value)) for key, value in values.items()]
        with_retries(self.uri, lambda: self.client.log_batch(self.run_id, tags=rows))

    def folder(self, folder: Path, place: str | None = None) -> None:
        """Log a folder's files as artifacts, below `place` or at the top."""
        with_retries(self.uri, lambda: self.client.log_artifacts(self.run_id, str(folder), place))

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        with_retries(self.uri, lambda: self.client.set_terminated(self.run_id, status))


def metric_rows(values: Mapping[str, float], step: int) -> list[Metric]:
    """MLflow's metrics of one step, without those that are nan."""
    now = int(time.time() * 1000)
    return [Metric(key, value, now, step) for key, value in values.items() if value == value]


def with_retries(uri: str, call: Callable[[], Any]) -> None:
    """Call the store; while it does not answer, retry for up to `WAIT` seconds.

    MLflow's own retries cover requests over HTTP only, not SQLite.

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
            if not unanswered(error) or time.monotonic() > limit:
                raise
            if pause == 0.5:
                logger.warning("MLflow's store does not answer; waiting for it")
            time.sleep(pause)
            pause = min(2 * pause, 20.0)


@contextmanager
def _disk_explained(uri: str) -> Iterator[None]:
    """Report a full or read-only disk under an SQLite store in the storage's words."""
    with explained(uri):
        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            for words, number in _SQLITE_ERRORS.items():
                if words in str(error):
                    raise OSError(number, words) from None
            raise


def unanswered(error: Exception) -> bool:
    """Whether the store did not answer, rather than refused."""
    code = getattr(error, "error_code", "INTERNAL_ERROR")
    return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def begin_run(
    uri: str, dataset: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]
) -> str:
    """Begin a run in the dataset's experiment, with tags and parameters; returns its id.

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
    return [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in parameters.items()]


_answered: set[str] = set()


def check_store(uri: str) -> None:
    """Wait for a tracking server that does not answer, for up to `STORE_WAIT` seconds, or `WAIT`
    if it answered before. MLflow itself would wait for four minutes, without a word.

    A database is asked once: MLflow would try a damaged one, or one that is not there, for 100
    seconds.

    Raises
    ------
    UserError
        If it does not answer, or is no database.
    """
    if not uri.startswith(("http://", "https://")):
        if uri not in _answered:
            _check_database(uri)
            _answered.add(uri)
        return
    wait, waiting = WAIT if uri in _answered else STORE_WAIT, False
    limit = time.monotonic() + wait
    while (left := limit - time.monotonic()) > 0:
        try:
            with suppress(urllib.error.HTTPError):
                # What a server refuses that answers, MLflow will say.
                urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=min(left, 5.0)).close()
            _answered.add(uri)
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
        if not waiting:
            logger.warning(f"{uri} does not answer ({reason}); waiting {wait:.0f} s for it")
            waiting = True
        time.sleep(max(0.0, min(1.0, limit - time.monotonic())))
    raise UserError(
        f"MLFLOW_TRACKING_URI = {uri}: does not answer ({reason}); start the server, or unset the "
        "variable to keep runs in a file in the storage"
    )


def _check_database(uri: str) -> None:
    file = uri.removeprefix("sqlite:///")
    # A file that is not there is made by MLflow.
    if uri.partition("://")[0].partition("+")[0] not in DATABASE_ENGINES or (
        file != uri and not os.path.exists(file)
    ):
        return
    try:
        engine = sqlalchemy.create_engine(uri)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error)
        if "database is locked" in reason:
            return  # another command writes it
        raise UserError(
            f"MLFLOW_TRACKING_URI = {uri}: this database cannot be read ({reason}); repair it, or "
            "move it away: its runs are no longer listed, but no finished stage is lost"
        ) from None


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    check_store(uri)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints the errors that it raises, with tracebacks.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Two processes that create the database at the same time both fail.
    database = uri.removeprefix("sqlite:///")
    lock = nullcontext() if database == uri else FileLock(f"{database}.lock")
    try:
        with lock:
            yield
    except (MlflowException, OSError, SQLAlchemyError) as error:
        # Without the SQL.
        reason = getattr(error, "orig", None) or error
        raise UserError(f"MLFLOW_TRACKING_URI = {uri}: {reason}") from None


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
        Of which the settings that the run uses are logged as parameters, by dotted name.
    storage
        Where the default database is.
    dataset
        The experiment's name.
    name
        The run's name.
    tags
        The run's tags, besides those of `origin_tags`.
    run_id
        An unfinished run to continue; None begins one.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    uri, settings = tracking_uri(storage), parameters(config)
    if run_id is None:
        own = origin_tags(config.description) | dict(tags or {})
        run_id = begin_run(uri, dataset, name, own, settings)
    else:
        go_on(uri, run_id)
        with _reached(uri):
            mlflow.MlflowClient(uri).log_batch(run_id, params=_params(settings))
    tracker = Tracker(uri, run_id)
    with ended(tracker), system_metrics(uri, run_id):
        yield tracker


def go_on(uri: str, run_id: str) -> None:
    """Set an unfinished run RUNNING again; its files are kept in this storage, if that was moved.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    with _reached(uri):
        client = mlflow.MlflowClient(uri)
        client.update_run(run_id, status="RUNNING")
        keep_run_here(uri, run_id, client.get_run(run_id).info.artifact_uri)


@contextmanager
def ended(tracker: Tracker) -> Iterator[None]:
    """End a run with the block: FINISHED, FAILED or KILLED; with a KILLED one those below it."""
    try:
        yield
    except BaseException as error:
        # The block's error is raised, not one of MLflow's about the status.
        with suppress(UserError, MlflowException, OSError):
            if isinstance(error, KeyboardInterrupt):
                # A sweep's trials end with Ray, and can no longer say so.
                close_unfinished(tracker.uri, tracker.run_id)
            else:
                tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def find_runs(uri: str, tags: Mapping[str, str]) -> list[Any]:
    """All runs of a store with these tags, in all experiments, the newest first."""
    with _reached(uri):
        client = mlflow.MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return list(client.search_runs(experiments, wanted, max_results=MAX_RUNS))


def close_unfinished(uri: str, parent: str) -> list[str]:
    """End the runs that a kill left RUNNING, a sweep's and its trials'; returns their ids."""
    client = mlflow.MlflowClient(uri)
    runs = [client.get_run(parent), *find_runs(uri, {PARENT: parent})]
    unfinished = [run.info.run_id for run in runs if run.info.status == "RUNNING"]
    for run_id in unfinished:
        client.set_terminated(run_id, "KILLED")
    return unfinished


def _experiment(client: mlflow.MlflowClient, uri: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        keep_experiment_here(uri, experiment.experiment_id, experiment.artifact_location)
        if MACHINE_LEARNING[0] not in experiment.tags:
            # Made by an earlier version.
            client.set_experiment_tag(experiment.experiment_id, *MACHINE_LEARNING)
        return experiment.experiment_id
    # MLflow's own default is a folder below the current one.
    return client.create_experiment(
        name, artifact_location=artifact_place(uri), tags=dict([MACHINE_LEARNING])
    )
