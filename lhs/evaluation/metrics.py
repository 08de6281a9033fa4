"""Counts first, scores from counts (METHOD section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def confusion_counts(
    predicted: np.ndarray, truth: np.ndarray, num_classes: int, void: int
) -> np.ndarray:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    predicted, truth
        Label maps of one shape, ids below `num_classes`; `truth` may hold `void`.
    num_classes
        L.
    void
        Pixels with this truth do not count.

    Returns
    -------
    (L, L) int64
        Rows are the truth, columns the prediction.

    Raises
    ------
    ValueError
        For shapes that differ or ids out of range.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction {predicted.shape} and truth {truth.shape} differ in shape")
    counted = truth != void
    rows = truth[counted].astype(np.int64)
    columns = predicted[counted].astype(np.int64)
    for name, ids in (("truth", rows), ("prediction", columns)):
        if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
            raise ValueError(
                f"{name} holds id {ids.min()}..{ids.max()}, allowed 0..{num_classes - 1}"
            )
    flat = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes
    ----------
    per_pixel
        Correct over labelled pixels.
    per_class
        Mean of correct_i / labelled_i over the classes present in the truth: the headline.
    per_class_over_L
        The same sum over all L classes (the paper's 1 / L).
    mean_iou
        Mean intersection over union over the classes present in the truth.
    per_class_accuracy, iou
        (L,) float64 each, nan for a class without a labelled pixel.
    """

    per_pixel: float
    per_class: float
    per_class_over_L: float
    mean_iou: float
    per_class_accuracy: np.ndarray
    iou: np.ndarray

    def headline(self) -> dict[str, float]:
        """The four single numbers under their names."""
        names = ("per_pixel", "per_class", "per_class_over_L", "mean_iou")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready; None where a class is absent."""
        lists = {
            name: [None if np.isnan(value) else float(value) for value in getattr(self, name)]
            for name in ("per_class_accuracy", "iou")
        }
        return self.headline() | lists


def scores(counts: np.ndarray) -> Scores:
    """Scores of a confusion matrix (L, L), rows truth; nan where nothing is labelled."""
    correct = np.diagonal(counts).astype(np.float64)
    labelled = counts.sum(axis=1).astype(np.float64)
    union = labelled + counts.sum(axis=0) - correct
    present = labelled > 0
    nothing = np.full(len(counts), np.nan)
    accuracy = np.divide(correct, labelled, out=nothing.copy(), where=present)
    iou = np.divide(correct, union, out=nothing.copy(), where=present)
    if not present.any():
        nan = float("nan")
        return Scores(nan, nan, nan, nan, accuracy, iou)
    return Scores(
        per_pixel=float(correct.sum() / labelled.sum()),
        per_class=float(accuracy[present].mean()),
        per_class_over_L=float(accuracy[present].sum() / len(counts)),
        mean_iou=float(iou[present].mean()),
        per_class_accuracy=accuracy,
        iou=iou,
    )
