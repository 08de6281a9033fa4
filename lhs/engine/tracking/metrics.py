"""What a run logs to MLflow: dataset, training curves, the model, scores, seconds, stages.

Curves have their own small buffer: MLflow's asynchronous logging drops a batch whose retries are
used up, and this one keeps it until the store answers again.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from lhs.config import Config, TrainConfig
from lhs.data.scenes import SPLITS
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.pyfunc import save_pyfunc
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage
from lhs.engine.tracking.registry import register
from lhs.engine.tracking.tracker import Tracker, find_runs, metric_rows, unanswered, with_retries
from lhs.training.phases import target_of

# Training workers import this file.
if TYPE_CHECKING:
    from lhs.engine.stages.checked_scenes import CheckedScenes
    from lhs.evaluation.metrics import Scores
    from lhs.report.statistics import Difference

BATCH = 900
"""Metrics of one call; the server takes 1000."""
EXAMPLE = 64
"""Pixels of a side of a model's input example, which MLflow keeps as JSON."""
DIGEST = 32
"""Letters of a digest; MLflow takes 36."""
LONGEST = 200
"""Letters of a class's name in that of a metric; MLflow takes 250."""
HEADLINE = "test/per_pixel"
"""MLflow's page that compares runs opens on the metric that was logged first."""
EVALUATION, EVERYTHING = "evaluation", "everything"
LOSSES = {"class": "class_loss", "subclass": "subclass_loss", "both": "joint_loss"}
"""Names of losses in MLflow, by what a phase trains on."""


def log_score_first(tracker: Tracker) -> None:
    """Log the pixel accuracy as nan, until it is known: so it is logged before the machine's use,
    and MLflow's page that compares runs opens on it."""
    row = Metric(HEADLINE, float("nan"), int(time.time() * 1000), 0)
    call = partial(tracker.client.log_batch, tracker.run_id, metrics=[row])
    with_retries(tracker.uri, call)


def log_dataset(tracker: Tracker, storage: Storage, scenes: CheckedScenes) -> None:
    """Log the dataset, with its digest and its numbers of images and classes, as a run's input."""
    dataset = scenes.dataset
    made = storage.read_json(f"{scenes.path}/{SUCCESS}")
    profile = {split: len(scenes.split(split)) for split in SPLITS}
    entity = Dataset(
        name=dataset.name,
        digest=made["inputs"]["dataset"][:DIGEST],
        source_type="local",
        source=json.dumps({"uri": str(dataset.folder or dataset.name)}),
        profile=json.dumps({**profile, "classes": len(dataset.classes)}),
    )
    given = DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])
    with_retries(tracker.uri, lambda: tracker.client.log_inputs(tracker.run_id, [given]))


def log_training(
    tracker: Tracker,
    storage: Storage,
    model: StageResult,
    config: Config,
    example: np.ndarray,
    *,
    live: bool = True,
) -> None:
    """Log a trained model as an MLflow model, for `runs:/RUN_ID`, and its curves if an earlier run
    trained it or its workers could not log them.

    Parameters
    ----------
    tracker, storage
        The run, and where the model is.
    model
        The trained model's stage.
    config
        The run's.
    example
        (H, W, 3) uint8, an image, of which a part becomes the model's input example.
    live
        Whether workers logged the curves while they trained.
    """
    with storage.as_local(model.path) as folder, tempfile.TemporaryDirectory() as scratch:
        if model.reused or not live:
            _log_history(tracker, pd.read_parquet(folder / "history.parquet"), config.train)
        part = example[None, :EXAMPLE, :EXAMPLE]
        save_pyfunc(folder / "model", Path(scratch) / "model", part)
        tracker.folder(Path(scratch) / "model", "model")
    if config.tracking.register:
        with_retries(tracker.uri, lambda: register(tracker, config, model))


def log_outcome(
    tracker: Tracker, name: str, scores: Scores, classes: Sequence[str], stages: Stages
) -> None:
    """Log the results of a finished run: scores, seconds per stage, reused stages.

    A run that reused everything gets a name that says so, and the id of the run that made it.
    """
    tracker.metrics(
        {f"test/{key}": value for key, value in scores.headline().items()}
        | class_metrics(scores, classes)
        | {f"seconds/{key}": value for key, value in stages.seconds().items()}
    )
    reused = [stage.name for stage in stages.done if stage.reused]
    tags = {f"stage.{stage.name}": stage.key for stage in stages.done}
    tags["lhs.reused"] = ", ".join(reused) or "none"
    if len(reused) == len(stages.done):
        tags["lhs.reused"] = EVERYTHING
        tags |= _twin(tracker, stages)
        rename = partial(tracker.client.update_run, tracker.run_id, name=f"{name} (reused)")
        with_retries(tracker.uri, rename)
    tracker.tags(tags)


def _twin(tracker: Tracker, stages: Stages) -> dict[str, str]:
    """The tag with the id of the first run with the same results, if there is one."""
    key = f"stage.{EVALUATION}"
    (same,) = (stage.key for stage in stages.done if stage.name == EVALUATION)
    made = [
        run.info.run_id
        for run in find_runs(tracker.uri, {key: same})
        if run.data.tags.get("lhs.reused") != EVERYTHING and run.info.run_id != tracker.run_id
    ]
    return {"lhs.same_as": made[-1]} if made else {}


def class_metrics(scores: Scores, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy and IoU of each class, nan for one that the test images do not show, by names that
    MLflow takes."""
    plain = [re.sub(r"[^\w -]", "_", name)[:LONGEST] for name in classes]
    names = [
        name if plain.count(name) == 1 else f"{name} {place}" for place, name in enumerate(plain)
    ]
    lists = {"class_accuracy": scores.per_class_accuracy, "class_iou": scores.iou}
    return {
        f"{kind}/{name}": float(value)
        for kind, values in lists.items()
        for name, value in zip(names, values, strict=True)
    }


def change_metrics(changes: Mapping[str, Difference]) -> dict[str, float]:
    """Changes against the baseline with their 95 % intervals; nan where there is no interval."""
    return {
        f"change/{key}{part}": value
        for key, change in changes.items()
        for part, value in (("", change.mean), (".low", change.low), (".high", change.high))
    }


def _log_history(tracker: Tracker, history: pd.DataFrame, train: TrainConfig) -> None:
    curves = Curves(tracker)
    for _, rows in history.groupby((history["step"] - 1) // train.log_every):
        last = int(rows["step"].iloc[-1])
        curves.add(last, mean_of(rows.to_dict("records"), train))
    curves.finish()


def mean_of(rows: Sequence[Mapping[Any, Any]], train: TrainConfig) -> dict[str, float]:
    """One point of the curves, from consecutive rows of a training history.

    Losses of different kinds have names of their own: `class_loss`, `subclass_loss` (steps 1 and 2
    of S) and `joint_loss` (H), which is the sum of both.
    """
    seconds = sum(row["seconds"] for row in rows)
    losses: dict[str, list[float]] = {}
    for row in rows:
        losses.setdefault(LOSSES[target_of(train.strategy, row["phase"])], []).append(row["loss"])
    values = {
        **{name: sum(found) / len(found) for name, found in losses.items()},
        "learning_rate": rows[-1]["learning_rate"],
        "examples_per_second": train.batch_size * len(rows) / seconds,
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
