"""The report's tables as DataFrames: what the page shows can be stored and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import Scores

COMMON, RARE = "common", "rare"


def per_class_table(
    class_names: Sequence[str],
    test_pixels: np.ndarray,
    scores: Scores,
    baseline: Scores | None,
    common: np.ndarray | None,
) -> pd.DataFrame:
    """List every class with its scores, the one with most test pixels first.

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

    Returns
    -------
    pandas.DataFrame
        L rows: `class`, `common or rare`, `test pixels`, `accuracy`, `IoU`, `baseline accuracy`,
        `change`. Scores of absent classes are nan.
    """
    frame = pd.DataFrame({"class": list(class_names)})
    if common is not None:
        frequent = np.isin(np.arange(len(class_names)), np.asarray(common, dtype=int))
        frame["common or rare"] = np.where(frequent, COMMON, RARE)
    frame["test pixels"] = np.asarray(test_pixels, dtype=np.int64)
    frame["accuracy"] = np.asarray(scores.per_class_accuracy, dtype=float)
    frame["IoU"] = np.asarray(scores.iou, dtype=float)
    if baseline is not None:
        frame["baseline accuracy"] = np.asarray(baseline.per_class_accuracy, dtype=float)
        frame["change"] = frame["accuracy"] - frame["baseline accuracy"]
    return frame.sort_values("test pixels", ascending=False, kind="stable", ignore_index=True)


def scores_table(name: str, scores: Scores, baseline: Scores | None) -> pd.DataFrame:
    """Set the run's scores beside the baseline's.

    Returns
    -------
    pandas.DataFrame
        Four rows; columns `score`, then `baseline`, the run's name and `change`, or the run's
        name alone.
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


def hierarchy_table(
    class_names: Sequence[str],
    class_counts: np.ndarray,
    common: np.ndarray,
    subclass_counts: np.ndarray,
    parents: np.ndarray,
) -> pd.DataFrame:
    """List the common classes with their subclasses, and the rare ones in one last row.

    Parameters
    ----------
    class_names
        L names.
    class_counts
        (L,) samples per class.
    common
        (C,) ids of the common classes, most frequent first.
    subclass_counts
        (n,) samples per subclass.
    parents
        (n,) class id of each subclass.

    Returns
    -------
    pandas.DataFrame
        `class`, `samples`, `subclasses`, `smallest`, `largest`, `sizes` (descending, as text).
    """
    subclass_counts, parents = np.asarray(subclass_counts), np.asarray(parents)
    rare = np.setdiff1d(np.arange(len(class_names)), common)
    groups = [(class_names[int(i)], np.array([i])) for i in common]
    if rare.size:
        label = "1 rare class" if rare.size == 1 else f"{rare.size} rare classes"
        groups.append((label, rare))
    rows = []
    for name, members in groups:
        sizes = np.sort(subclass_counts[np.isin(parents, members)])[::-1]
        listed = ", ".join(f"{size:,}" for size in sizes)
        smallest, largest = (int(sizes[-1]), int(sizes[0])) if sizes.size else (0, 0)
        samples = int(np.asarray(class_counts)[members].sum())
        rows.append((name, samples, int(sizes.size), smallest, largest, listed))
    columns = ["class", "samples", "subclasses", "smallest", "largest", "sizes"]
    return pd.DataFrame(rows, columns=columns)


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
