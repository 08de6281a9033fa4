"""MLflow: parameters under their dotted names, curves, scores, pictures, the model."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from lhs.config import Config
from lhs.engine.models import save_pyfunc
from lhs.engine.stages import StageResult, Stages
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError

LONGEST = 6000
"""Characters of a parameter's value that MLflow keeps."""
BATCH = 900
"""Metrics of one call; the server takes 1000."""


def tracking_uri(storage: Storage) -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or a SQLite file in the storage folder.

    Beside a remote storage the file lies in the default results folder of this machine.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    folder = Path(storage.root) if storage.local else Path("~/lhs-results").expanduser()
    with explained(storage.uri):
        folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


@contextmanager
def tracked(config: Config, storage: Storage, dataset: str, name: str) -> Iterator[str]:
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

    Yields
    ------
    str
        The run's id.
    """
    uri = tracking_uri(storage)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        experiment = mlflow.get_experiment_by_name(dataset)
        if experiment is None:
            root = Path(uri.removeprefix("sqlite:///")).parent if "sqlite:///" in uri else None
            place = None if root is None else (root / "mlartifacts").as_uri()
            experiment_id = mlflow.create_experiment(dataset, artifact_location=place)
        else:
            experiment_id = experiment.experiment_id
        run_id = mlflow.start_run(experiment_id=experiment_id, run_name=name).info.run_id
    except MlflowException as error:
        raise UserError(f"MLFLOW_TRACKING_URI = {uri}: {error}") from None
    status = "FAILED"
    try:
        parameters = [
            Param(key, str(value)[:LONGEST])
            for key, value in config.dotted().items()
            if key != "description"
        ]
        client().log_batch(run_id, params=parameters)
        yield run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def client() -> mlflow.MlflowClient:
    """A client of the store in `MLFLOW_TRACKING_URI`."""
    return mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI"))


def log_metrics(run_id: str, metrics: Mapping[str, float]) -> None:
    """Log single numbers; those that are nan are left out."""
    now = int(time.time() * 1000)
    rows = [Metric(key, value, now, 0) for key, value in metrics.items() if value == value]
    client().log_batch(run_id, metrics=rows)


def log_tags(run_id: str, tags: Mapping[str, Any]) -> None:
    """Log tags."""
    client().log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])


def log_history(run_id: str, history: pd.DataFrame) -> None:
    """Log the curves of a model that an earlier run trained: means of ten steps."""
    curves = Curves(run_id, os.environ["MLFLOW_TRACKING_URI"])
    for _, rows in history.groupby((history["step"] - 1) // 10):
        last = rows.iloc[-1]
        curves.add(
            int(last["step"]),
            {"loss": float(rows["loss"].mean()), "learning_rate": float(last["learning_rate"])},
        )
    curves.flush()


def log_folder(run_id: str, folder: Path, place: str) -> None:
    """Log a folder's files as artifacts."""
    client().log_artifacts(run_id, str(folder), place or None)


def log_model(run_id: str, folder: Path) -> None:
    """Log a model folder, as an MLflow model, so that `runs:/RUN_ID` finds it."""
    with tempfile.TemporaryDirectory() as scratch:
        save_pyfunc(folder, Path(scratch) / "model")
        log_folder(run_id, Path(scratch) / "model", "model")


def log_training(run_id: str, storage: Storage, model: StageResult) -> None:
    """Log a trained model's folder, and its curves where another run trained it."""
    with storage.as_local(model.path) as folder:
        if model.reused:
            log_history(run_id, pd.read_parquet(folder / "history.parquet"))
        log_model(run_id, folder / "model")


def log_outcome(run_id: str, scores: Mapping[str, float], stages: Stages) -> None:
    """Log what a finished run found: scores, seconds a stage, what was reused."""
    log_metrics(run_id, {f"test/{key}": value for key, value in scores.items()})
    log_metrics(run_id, {f"seconds/{key}": value for key, value in stages.seconds().items()})
    reused = [stage.name for stage in stages.done if stage.reused]
    keys = {f"stage.{stage.name}": stage.key for stage in stages.done}
    log_tags(run_id, {"lhs.reused": ", ".join(reused) or "none", **keys})


class Curves:
    """Training curves, sent in batches so that the store does not hold the training back."""

    EVERY = 5.0

    def __init__(self, run_id: str, uri: str) -> None:
        self.run_id = run_id
        self.client = mlflow.MlflowClient(uri)
        self.rows: list[Metric] = []
        self.sent = time.monotonic()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note the values of a step."""
        now = int(time.time() * 1000)
        self.rows += [Metric(f"train/{key}", value, now, step) for key, value in values.items()]
        if time.monotonic() - self.sent > self.EVERY or len(self.rows) > BATCH - 10:
            self.flush()

    def flush(self) -> None:
        """Send what was noted."""
        rows, self.rows = self.rows, []
        if rows:
            self.client.log_batch(self.run_id, metrics=rows)
        self.sent = time.monotonic()
