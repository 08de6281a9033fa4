"""What runs show beyond chance: paired differences, their intervals, corrected p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_rel

from lhs.evaluation.metrics import scores

SCORES = ("per_pixel", "per_class")
RESAMPLES = 2000
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


def resampled(counts: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores of a model on resamples of its test images, drawn with replacement.

    Parameters
    ----------
    counts
        (N, L, L) counts of each image, rows truth.
    seed
        Of the draws; the same images are drawn for every model on as many images.

    Returns
    -------
    dict of str to ndarray
        For each of `SCORES` (1 + RESAMPLES,): on all images, then on each resample. A class that a
        resample lacks is left out of its mean.
    """
    images, classes, _ = counts.shape
    drawn = np.random.default_rng(seed).integers(0, images, (RESAMPLES, images))
    weights = np.array([np.ones(images), *(np.bincount(d, minlength=images) for d in drawn)])
    totals = weights @ counts.reshape(images, -1).astype(np.float64)
    found = [scores(total) for total in totals.reshape(-1, classes, classes)]
    return {name: np.array([getattr(one, name) for one in found]) for name in SCORES}


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
