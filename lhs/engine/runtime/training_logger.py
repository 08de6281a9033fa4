"""What a training reports while it runs: its steps to the driver, its curves to MLflow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from lhs.config import Config
from lhs.data.progress import clock
from lhs.engine.runtime.progress import Progress
from lhs.engine.tracking.metrics import Curves, mean_of
from lhs.training.loop import History
from lhs.training.phases import is_coarser

REPORTED = 2.0
"""Least seconds between two reports to the driver."""
LAST_LOSSES = 3
"""Losses in a report, the newest last."""


class TrainingLogger:
    """Reports rank 0's steps to the driver every few seconds, and the mean of every
    `train.log_every` steps to MLflow; other ranks report nothing."""

    def __init__(self, progress: Progress, curves: Curves, config: Config, rank: int) -> None:
        self.progress, self.curves, self.active = progress, curves, rank == 0
        self.train = config.train
        # A coarser network, that another starts from, is trained in the run of the other one.
        self.kind = "coarser" if is_coarser(config.train) else "train"
        self.unit = "patches" if config.network.patches else "images"
        self.seconds = 0.0
        self.reported = time.monotonic()
        self.resumed_at = self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.losses: deque[float] = deque(maxlen=LAST_LOSSES)

    def log(self, text: str) -> None:
        """Let the driver log a line."""
        if self.active:
            self.progress.log(text)

    def on_validation(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Log scores on held-out images, at the last step."""
        self.curves.add(self.step, scores, "validation")
        self.log(f"epoch {epoch}: {scores['per_pixel']:.4f} per pixel on held-out images")

    def on_resume(self, history: History) -> None:
        """Log the steps of an earlier, killed attempt to MLflow."""
        self.resumed_at = len(history)
        for row in history:
            self._add(row)

    def on_step(self, row: dict[str, Any], total: int) -> None:
        """Log a step of `total`; several may come at once."""
        last = row["step"] == total
        self._add(row, last)
        self.seconds += row["seconds"]
        now = time.monotonic()
        if self.active and (now - self.reported > REPORTED or last):
            self.reported = now
            done = row["step"] - self.resumed_at
            left = clock(self.seconds / done * (total - row["step"]))
            self.losses.append(row["loss"])
            self.progress.report(
                f"{row['phase']} epoch {row['epoch']}, step {row['step']} of {total}, "
                f"loss {', '.join(f'{loss:.3f}' for loss in self.losses)}, "
                f"{self.train.batch_size / row['seconds']:.1f} "
                f"{self.unit} a second, {left} left",
                row["step"],
                total,
            )

    def _add(self, row: dict[str, Any], last: bool = False) -> None:
        self.step = row["step"]
        if not self.active:
            return
        self.rows.append(row)
        if last or len(self.rows) >= self.train.log_every:
            self.curves.add(row["step"], mean_of(self.rows, self.train), self.kind)
            self.rows = []
