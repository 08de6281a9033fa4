"""Intervals and p-values, against scipy, closed forms and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lhs.evaluation.metrics import scores
from lhs.report.statistics import (
    RESAMPLES,
    bootstrap,
    changes,
    holm,
    images_of_classes,
    paired_t,
    resampled,
)


def test_paired_t_is_student_s_interval_of_the_differences() -> None:
    first, second = np.array([0.81, 0.85, 0.90, 0.84]), np.array([0.80, 0.86, 0.85, 0.82])
    found = paired_t(first, second)
    differences = first - second
    error = differences.std(ddof=1) / 2
    low, high = stats.t.interval(0.95, 3, differences.mean(), error)
    assert (found.low, found.mean, found.high) == pytest.approx((low, differences.mean(), high))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(differences.mean() / error), 3))
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert found.count == 4


def test_one_pair_has_no_interval_and_equal_differences_one_without_width() -> None:
    one = paired_t([0.5], [0.25])
    assert (one.mean, one.count) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.p)
    same = paired_t([0.3, 0.4, 0.6], [0.2, 0.3, 0.5])
    assert (same.low, same.high, same.p) == (pytest.approx(0.1), pytest.approx(0.1), 0.0)
    assert paired_t([0.3, 0.4], [0.3, 0.4]).p == 1.0


@pytest.mark.parametrize(
    ("values", "corrected"),
    [
        # Holm 1979, by hand: smallest times m, next times m - 1, never falling, at most 1.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm(values: list[float], corrected: list[float]) -> None:
    assert holm(values) == pytest.approx(corrected)


def test_a_contrast_without_runs_counts_in_holm_s_correction() -> None:
    found = holm([0.01, math.nan, 0.02, math.nan])
    assert found[0] == pytest.approx(0.04)
    assert found[2] == pytest.approx(0.06)
    assert np.isnan([found[1], found[3]]).all()


def drawn_counts(seed: int, images: int = 40, classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (images, classes, classes)) + 60 * np.eye(classes, dtype=int)
    # The last class is in two images alone.
    counts[2:, -1] = 0
    return counts


def test_resampled_scores_are_those_of_summed_images() -> None:
    one = drawn_counts(0)
    found = resampled(one, seed=7)
    drawn = np.random.default_rng(7).integers(0, len(one), (RESAMPLES, len(one)))
    for place in (0, 1, 5, RESAMPLES):
        images = np.arange(len(one)) if place == 0 else drawn[place - 1]
        total = scores(one[images].sum(axis=0))
        for name in ("per_pixel", "per_class"):
            assert found[name][place] == pytest.approx(getattr(total, name))
    absent = 0
    for place, images in enumerate(drawn, 1):
        total = one[images].sum(axis=0)
        if not total[-1].any():
            absent += 1
            of_two = [total[k, k] / total[k].sum() for k in (0, 1)]
            assert found["per_class"][place] == pytest.approx(np.mean(of_two))
    # (38 / 40) ** 40 of resamples lack both images.
    assert 0.05 * RESAMPLES < absent < 0.25 * RESAMPLES


def test_the_bootstrap_s_interval_is_scipy_s() -> None:
    first, second = drawn_counts(0), drawn_counts(1)
    second = second + np.where(np.eye(3, dtype=bool), 8, 0)
    one, other = resampled(first), resampled(second)
    found = bootstrap(one["per_pixel"], other["per_pixel"], len(first))

    def difference(images: np.ndarray) -> float:
        pair = (scores(counts[images].sum(axis=0)).per_pixel for counts in (first, second))
        return next(pair) - next(pair)

    theirs = stats.bootstrap(
        (np.arange(len(first)),), difference, vectorized=False, method="percentile",
        n_resamples=RESAMPLES, rng=np.random.default_rng(3),
    )  # fmt: skip
    low, high = theirs.confidence_interval
    assert found.mean == pytest.approx(difference(np.arange(len(first))))
    width = high - low
    assert abs(found.low - low) < 0.1 * width
    assert abs(found.high - high) < 0.1 * width
    assert found.count == len(first)


def test_the_bootstrap_s_p_value() -> None:
    zeros = np.zeros(1 + RESAMPLES)
    shifted = np.linspace(-1, 9, RESAMPLES)
    found = bootstrap(np.concatenate([[4.0], shifted]), zeros, 10)
    below = int((shifted <= 0).sum())
    assert found.p == pytest.approx(2 * (below + 1) / (RESAMPLES + 1))
    assert bootstrap(zeros + 1, zeros, 10).p == pytest.approx(2 / (RESAMPLES + 1))
    assert bootstrap(zeros, zeros, 10).p == 1.0


def test_images_of_classes() -> None:
    assert images_of_classes(drawn_counts(0)).tolist() == [40, 40, 2]


@pytest.mark.parametrize("images", [8, 60])
def test_intervals_of_changes_are_scipy_s(images: int) -> None:
    rng = np.random.default_rng(5)
    shape = (images, 3, 3)
    own, other = (
        rng.integers(0, 30, shape) + rng.integers(20, 90, shape) * np.eye(3, dtype=int)
        for _ in range(2)
    )
    found = changes(own, other)

    def change(name: str) -> tuple[float, float]:
        def statistic(places: np.ndarray, axis: int) -> np.ndarray:
            def score(counts: np.ndarray) -> np.ndarray:
                total = counts[places.astype(int)].sum(axis=axis - 2 if axis < 0 else axis)
                correct, labelled = np.einsum("...ll->...l", total), total.sum(axis=-1)
                if name == "per_pixel":
                    return correct.sum(axis=-1) / labelled.sum(axis=-1)
                if name == "mean_iou":
                    return (correct / (labelled + total.sum(axis=-2) - correct)).mean(axis=-1)
                accuracy = correct / labelled
                return accuracy.mean(axis=-1) if name == "per_class" else accuracy[..., int(name)]

            return score(own) - score(other)

        theirs = stats.bootstrap(
            (np.arange(images),), statistic, method="percentile", n_resamples=10_000,
            vectorized=True, rng=np.random.default_rng(1),
        ).confidence_interval  # fmt: skip
        return float(theirs.low), float(theirs.high)

    names = ("per_pixel", "per_class", "mean_iou")
    mine = {name: (found.scores[name].low, found.scores[name].high) for name in names}
    mine["1"] = (float(found.low[1]), float(found.high[1]))
    for name, ends in mine.items():
        low, high = change(name)
        assert np.abs(np.subtract(ends, (low, high))).max() < 0.05 * (high - low), name


def test_a_class_without_a_test_pixel_has_no_interval() -> None:
    counts = drawn_counts(0)
    counts[:, 1] = 0
    found = changes(counts, counts)
    assert math.isnan(found.low[1])
    assert math.isnan(found.high[1])
    assert (found.low[0], found.high[0]) == (0, 0)
