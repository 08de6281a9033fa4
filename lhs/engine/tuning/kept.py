"""Trials whose results a folder of kept runs holds already, and what the folder says of a sweep."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION
from lhs.engine.stage import StageResult
from lhs.engine.tuning.trials import record_of, record_path
from lhs.evaluation.metrics import scores
from lhs.report.evidence import Planned, read_runs
from lhs.sweeps import Protocol, Trial

logger = logging.getLogger("lhs")


def planned(protocol: Protocol, trials: Sequence[Trial]) -> Planned:
    """What a sweep's folder of kept runs says of it."""
    runs = []
    for trial in trials:
        data = trial.config.data
        fold = data.stanford.fold if data.dataset == "stanford" else None
        runs.append((trial.variant, trial.config.train.seed, fold))
    return Planned(runs=runs, primary=protocol.primary, further=protocol.further)


def not_kept(
    stages: Stages,
    folder: str,
    trials: Sequence[Trial],
    shared: Sequence[list[StageResult]],
    kept: Path,
) -> tuple[list[Trial], list[list[StageResult]]]:
    """The trials whose evaluation a dataset's folder of kept runs lacks, and their shared stages.

    The records of the others are written to the sweep's folder.
    """
    held = {run.evaluation: run for run in read_runs(kept)}
    names, left = [], []
    for trial, done in zip(trials, shared, strict=True):
        key = stages.key(EVALUATION, trial.config)
        if key.pending or key.digest not in held:
            left.append((trial, done))
            continue
        counts = held[key.digest].counts.sum(axis=0)
        record = record_of(trial, done) | {"scores": scores(counts).headline()}
        stages.storage.write_json(record_path(folder, trial.number), record)
        names.append(trial.name)
    if names:
        logger.info(f"{len(names)} trials are kept in {kept} and not run again: {', '.join(names)}")
    return [trial for trial, _ in left], [done for _, done in left]
