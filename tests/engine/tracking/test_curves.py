"""What MLflow gets of a training's steps, against means written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from lhs.engine.runtime import training_logger
from lhs.engine.runtime.training_logger import TrainingLogger
from lhs.engine.tracking import metrics
from lhs.loading import build_config

LOSSES = (1.0, 2.0, 6.0, 3.0, 5.0)
ROWS = [
    {
        "step": step, "phase": "all_layers", "epoch": 1, "loss": loss, "learning_rate": 0.1 * step,
        "seconds": 0.5 * step, "waited": 0.25, "w_from_one": 0.01 * step,
    }
    for step, loss in enumerate(LOSSES, 1)
]  # fmt: skip
POINTS = [
    # Of two steps each, and of the one that is left: four examples a step.
    (2, {"class_loss": 1.5, "learning_rate": 0.2, "examples_per_second": 8 / 1.5,
         "share_waited": 0.5 / 1.5, "w_from_one": 0.02}),
    (4, {"class_loss": 4.5, "learning_rate": 0.4, "examples_per_second": 8 / 3.5,
         "share_waited": 0.5 / 3.5, "w_from_one": 0.04}),
    (5, {"class_loss": 5.0, "learning_rate": 0.5, "examples_per_second": 4 / 2.5,
         "share_waited": 0.25 / 2.5, "w_from_one": 0.05}),
]  # fmt: skip
TRAIN = {"log_every": 2, "batch_size": 4}


class Noted:
    """Curves that keep their points."""

    def __init__(self, *_: object) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def add(self, step: int, values: dict[str, float], kind: str = "train") -> None:
        self.points.append((step, values))

    def finish(self) -> None:
        pass


def check(points: list[tuple[int, Any]]) -> None:
    assert [step for step, _ in points] == [step for step, _ in POINTS]
    for (_, found), (_, expected) in zip(points, POINTS, strict=True):
        assert found == pytest.approx(expected)


def test_a_point_is_the_mean_of_its_steps_while_a_network_trains() -> None:
    curves: Any = Noted()
    progress: Any = SimpleNamespace(report=lambda *_: None)
    log = TrainingLogger(progress, curves, build_config({"train": TRAIN}), rank=0)
    for row in ROWS:
        log.on_step(row, len(ROWS))
    check(curves.points)


def test_a_resumed_training_gives_the_same_points() -> None:
    curves: Any = Noted()
    progress: Any = SimpleNamespace(report=lambda *_: None)
    log = TrainingLogger(progress, curves, build_config({"train": TRAIN}), rank=0)
    log.on_resume(ROWS[:3])
    for row in ROWS[3:]:
        log.on_step(row, len(ROWS))
    check(curves.points)


def test_other_ranks_log_nothing() -> None:
    curves: Any = Noted()
    log = TrainingLogger(SimpleNamespace(), curves, build_config({"train": TRAIN}), rank=1)  # type: ignore[arg-type]
    for row in ROWS:
        log.on_step(row, len(ROWS))
    assert curves.points == []


def test_the_stored_history_of_a_reused_model_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(metrics, "Curves", lambda tracker: made.append(Noted()) or made[0])
    history = pd.DataFrame(ROWS)
    metrics._log_history(SimpleNamespace(), history, build_config({"train": TRAIN}).train)  # type: ignore[arg-type]
    check(made[0].points)


def test_reports_to_the_driver_have_the_step_and_the_last_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_logger, "REPORTED", -1.0)
    reports: list[tuple[str, int, int]] = []
    progress: Any = SimpleNamespace(report=lambda *report: reports.append(report))
    curves: Any = Noted()
    log = TrainingLogger(progress, curves, build_config({"train": TRAIN}), rank=0)
    for row in ROWS:
        log.on_step(row, len(ROWS))
    assert [report[1:] for report in reports] == [(step, 5) for step in range(1, 6)]
    assert "step 4 of 5, loss 2.000, 6.000, 3.000, " in reports[3][0]
