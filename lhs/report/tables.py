"""The report's tables as DataFrames: what the page shows can be stored and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import Scores
from lhs.report.statistics import Changes, Difference

COMMON, RARE = "common", "rare"
LOW, HIGH = "95 % from", "95 % to"


def per_class_table(
    class_names: Sequence[str],
    test_pixels: np.ndarray,
    scores: Scores,
    baseline: Scores | None,
    common: np.ndarray | None,
    *,
    test_images: np.ndarray | None = None,
    changed: Changes | None = None,
) -> pd.DataFrame:
    """List every class with its scores.

    Parameters
    ----------
    class_names
        L names.
    test_pixels
        (L,) annotated pixels of the test set.
    scores, baseline
        Scores of this run and of the baseline; without a baseline its columns are left out.
    common
        (C,) ids of the common classes, or None where the run has no hierarchy.
    test_images
        (L,) test images that the class occurs in, where they are known.
    changed
        Intervals of the changes, where they are known.

    Returns
    -------
    pandas.DataFrame
        L rows: `class`, `common or rare`, `test images`, `test pixels`, `accuracy`, `IoU`,
        `baseline accuracy`, `change`, `95 % from`, `95 % to`. The largest gain comes first, without
        a baseline the class with the most test pixels. Scores of absent classes are nan.
    """
    frame = pd.DataFrame({"class": list(class_names)})
    if common is not None:
        frequent = np.isin(np.arange(len(class_names)), np.asarray(common, dtype=int))
        frame["common or rare"] = np.where(frequent, COMMON, RARE)
    if test_images is not None:
        frame["test images"] = np.asarray(test_images, dtype=np.int64)
    frame["test pixels"] = np.asarray(test_pixels, dtype=np.int64)
    frame["accuracy"] = np.asarray(scores.per_class_accuracy, dtype=float)
    frame["IoU"] = np.asarray(scores.iou, dtype=float)
    order = "test pixels"
    if baseline is not None:
        order = "change"
        frame["baseline accuracy"] = np.asarray(baseline.per_class_accuracy, dtype=float)
        frame["change"] = frame["accuracy"] - frame["baseline accuracy"]
        if changed is not None:
            frame[LOW], frame[HIGH] = changed.low, changed.high
    return frame.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def scores_table(
    name: str, scores: Scores, baseline: Scores | None, intervals: Mapping[str, Difference]
) -> pd.DataFrame:
    """Set the run's scores beside the baseline's.

    Returns
    -------
    pandas.DataFrame
        Four rows; columns `score`, then `baseline`, the run's name, `change` and (where there are
        intervals) `95 % from` and `95 % to`, or the run's name alone.
    """
    labels = {
        "per-pixel accuracy": "per_pixel",
        "per-class accuracy": "per_class",
        "mean IoU": "mean_iou",
        "per-class accuracy, sum over L": "per_class_over_L",
    }
    frame = pd.DataFrame({"score": list(labels)})
    if baseline is not None:
        frame["baseline"] = [float(getattr(baseline, field)) for field in labels.values()]
    frame[name] = [float(getattr(scores, field)) for field in labels.values()]
    if baseline is not None:
        frame["change"] = frame[name] - frame["baseline"]
        if intervals:
            frame[LOW] = [intervals[field].low for field in labels.values()]
            frame[HIGH] = [intervals[field].high for field in labels.values()]
    return frame


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; nan of no value, and of one for the latter."""
    mean = float(np.mean(values)) if values else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def stage_table(stages: Iterable[tuple[str, bool, float]]) -> pd.DataFrame:
    """List the stages with what was done and how long it took.

    Parameters
    ----------
    stages
        (name, reused, seconds) in the order they ran.
    """
    rows = [(name, "reused" if reused else "made", seconds) for name, reused, seconds in stages]
    return pd.DataFrame(rows, columns=["stage", "reused or made", "seconds"])


def dotted(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flatten nested settings to their dotted names; names that are dotted already stay."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings_table(settings: Mapping[str, object]) -> pd.DataFrame:
    """List settings as dotted `setting` and `value` (text as it is, all else as JSON)."""
    rows = [(name, written(value)) for name, value in dotted(settings).items()]
    return pd.DataFrame(rows, columns=["setting", "value"])


def differing_settings(runs: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """List the settings in which runs differ.

    Parameters
    ----------
    runs
        From a run's name to its settings, nested or dotted.

    Returns
    -------
    pandas.DataFrame
        `setting` and one column a run; a setting that a run lacks is empty there.
    """
    flat = {name: dotted(settings) for name, settings in runs.items()}
    keys = list(dict.fromkeys(key for settings in flat.values() for key in settings))
    rows = []
    for key in keys:
        values = [written(s[key]) if key in s else "" for s in flat.values()]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return pd.DataFrame(rows, columns=["setting", *flat])


def written(value: object) -> str:
    """Write one setting's value."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def with_ends(frame: pd.DataFrame) -> pd.DataFrame:
    """A table in which cells that are a `Difference` are three columns: its mean and its ends."""
    columns: list[tuple[str, list[object]]] = []
    for place, name in enumerate(frame.columns):
        cells = frame.iloc[:, place].tolist()
        if not any(isinstance(cell, Difference) for cell in cells):
            columns.append((str(name), cells))
            continue
        for field, end in (("mean", ""), ("low", f" {LOW}"), ("high", f" {HIGH}")):
            columns.append((f"{name}{end}", [getattr(cell, field, math.nan) for cell in cells]))
    out = pd.DataFrame({place: cells for place, (_, cells) in enumerate(columns)})
    out.columns = pd.Index([heading for heading, _ in columns])
    return out
