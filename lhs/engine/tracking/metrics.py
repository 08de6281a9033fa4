"""What a run logs to MLflow: training curves, the model, scores, seconds, stages.

Curves have their own small buffer: MLflow's asynchronous logging drops a batch whose retries are
used up, and this one keeps it until the store answers again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from lhs.config import TrainConfig
from lhs.engine.cache import Stages
from lhs.engine.pyfunc import save_pyfunc
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage
from lhs.engine.tracking.tracker import Tracker, metric_rows, unanswered, with_retries

BATCH = 900
"""Metrics of one call; the server takes 1000."""


def log_training(
    tracker: Tracker, storage: Storage, model: StageResult, train: TrainConfig
) -> None:
    """Log a trained model as an MLflow model, for `runs:/RUN_ID`, and its curves if an earlier run
    trained it."""
    with storage.as_local(model.path) as folder, tempfile.TemporaryDirectory() as scratch:
        if model.reused:
            _log_history(tracker, pd.read_parquet(folder / "history.parquet"), train)
        save_pyfunc(folder / "model", Path(scratch) / "model")
        tracker.folder(Path(scratch) / "model", "model")


def log_outcome(tracker: Tracker, scores: Mapping[str, float], stages: Stages) -> None:
    """Log the results of a finished run: scores, seconds per stage, reused stages."""
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
    """One point of the curves, from consecutive rows of a training history."""
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
    """Training curves, sent in batches so that the store does not slow the training; without a
    tracker they go nowhere."""

    INTERVAL = 5.0

    def __init__(self, tracker: Tracker | None) -> None:
        self.tracker = tracker
        self.rows: list[Metric] = []
        self.sent = time.monotonic()

    def add(self, step: int, values: Mapping[str, float], kind: str = "train") -> None:
        """Add the values of a step, without those that are nan."""
        if self.tracker is None:
            return
        self.rows += metric_rows({f"{kind}/{key}": value for key, value in values.items()}, step)
        if time.monotonic() - self.sent > self.INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Try once to send what is buffered; if the store does not answer, it is kept."""
        try:
            self._send()
        except (MlflowException, OSError) as error:
            if not unanswered(error):
                raise
        self.sent = time.monotonic()

    def finish(self) -> None:
        """Send what is buffered, and wait for the store if it does not answer."""
        if self.tracker is not None:
            with_retries(self.tracker.uri, self._send)

    def _send(self) -> None:
        while self.rows and self.tracker is not None:
            self.tracker.client.log_batch(self.tracker.run_id, metrics=self.rows[:BATCH])
            del self.rows[:BATCH]
