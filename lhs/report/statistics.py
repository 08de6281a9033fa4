"""What runs show beyond chance: paired differences, their intervals, corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_rel

SCORES = ("per_pixel", "per_class")
RESAMPLES, PAGE_RESAMPLES = 2000, 10_000
FEW_IMAGES = 5


@dataclass(frozen=True)
class Difference:
    """A difference of two scores, first minus second.

    Attributes
    ----------
    mean
        The difference.
    low, high
        Its 95 % interval; nan where there is none.
    p
        Two-sided, of no difference; nan where there is none.
    count
        Pairs that it rests on.
    """

    mean: float
    low: float
    high: float
    p: float
    count: int


def paired_t(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean difference of pairs, such as runs of one seed, with its interval by Student's t.

    One pair has no interval; pairs that all differ by the same have one without width.
    """
    differences = np.subtract(first, second)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Difference(mean, np.nan, np.nan, np.nan, count)
    if np.ptp(differences) < 1e-12:
        return Difference(mean, mean, mean, float(abs(mean) < 1e-12), count)
    result = ttest_rel(first, second)
    low, high = result.confidence_interval(0.95)
    return Difference(mean, float(low), float(high), float(result.pvalue), count)


def resampled(
    counts: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, np.ndarray]:
    """Scores of a model on resamples of its test images, drawn with replacement.

    Parameters
    ----------
    counts
        (N, L, L) counts of each image, rows truth.
    seed
        Of the draws; the same images are drawn for every model on as many images.
    resamples
        Number of draws.

    Returns
    -------
    dict of str to ndarray
        The fields of `Scores` (1 + resamples,), those of classes (1 + resamples, L): on all images,
        then on each resample. A class that a resample lacks is nan, and left out of its mean.
    """
    images, classes, _ = counts.shape
    drawn = np.random.default_rng(seed).integers(0, images, (resamples, images))
    weights = np.array([np.ones(images), *(np.bincount(d, minlength=images) for d in drawn)])
    parts = (np.einsum("nll->nl", counts), counts.sum(axis=2), counts.sum(axis=1))
    correct, labelled, found = (weights @ part.astype(np.float64) for part in parts)
    present = labelled > 0
    accuracy, iou = (
        np.divide(correct, whole, out=np.full_like(correct, np.nan), where=present)
        for whole in (labelled, labelled + found - correct)
    )
    number = present.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "per_pixel": correct.sum(axis=1) / labelled.sum(axis=1),
            "per_class": np.nansum(accuracy, axis=1) / number,
            "per_class_over_L": np.nansum(accuracy, axis=1) / classes,
            "mean_iou": np.nansum(iou, axis=1) / number,
            "per_class_accuracy": accuracy,
            "iou": iou,
        }


@dataclass(frozen=True)
class Changes:
    """What changed between two models on the same test images, with 95 % intervals.

    Attributes
    ----------
    scores
        By the names of the four single numbers of `Scores`.
    low, high
        (L,) of the change of each class's accuracy; nan for a class without a test pixel.
    """

    scores: dict[str, Difference]
    low: np.ndarray
    high: np.ndarray


def changes(counts: np.ndarray, baseline: np.ndarray) -> Changes:
    """The change against a baseline by the bootstrap over N test images, (N, L, L) counts each."""
    own, other = (resampled(one, resamples=PAGE_RESAMPLES) for one in (counts, baseline))
    return changes_of(own, other, len(counts))


def changes_of(
    own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], images: int
) -> Changes:
    """The same of what `resampled` gives of two models, or of its means over models."""
    numbers = {
        name: bootstrap(own[name], other[name], images) for name in own if own[name].ndim == 1
    }
    drawn = own["per_class_accuracy"][1:] - other["per_class_accuracy"][1:]
    low = np.full((2, drawn.shape[1]), np.nan)
    # A class with test pixels may be in none of few resamples.
    present = ~np.isnan(drawn).all(axis=0)
    low[:, present] = np.nanquantile(drawn[:, present], [0.025, 0.975], axis=0)
    return Changes(numbers, low[0], low[1])


def bootstrap(first: np.ndarray, second: np.ndarray, count: int) -> Difference:
    """The difference of two scores with its percentile interval, from what `resampled` gives of a
    model, or its mean over models.

    `count` is the number of images. The p-value is twice the smaller share of resamples on one
    side of zero, each with one added.
    """
    difference, drawn = first[0] - second[0], first[1:] - second[1:]
    low, high = np.quantile(drawn, [0.025, 0.975])
    beyond = 1 + min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    p = min(1.0, 2 * beyond / (1 + len(drawn)))
    return Difference(float(difference), float(low), float(high), float(p), count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for all of them; nan stays nan and still counts."""
    values = np.asarray(p_values, float)
    order = np.argsort(values)  # nan last
    factors = len(values) - np.arange(len(values))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return [float(value) for value in corrected]


def images_of_classes(counts: np.ndarray) -> np.ndarray:
    """Images of (N, L, L) counts that each class occurs in, (L,); see `FEW_IMAGES`."""
    return np.asarray((counts.sum(axis=2) > 0).sum(axis=0))
