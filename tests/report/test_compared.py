"""Intervals and differences of settings, against scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lhs.report.compared import best, chosen, class_changes, difference, settings_of, verdicts

OTHER = {"network.name": "encoder"}


def test_the_interval_of_several_runs_is_student_s(compared: Any) -> None:
    [setting] = settings_of([compared(seed=n, right=right) for n, right in enumerate((6, 7, 9))])
    values = setting.values("per_pixel")
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert setting.interval("per_pixel") == pytest.approx(np.clip(expected, 0, 1))


def test_the_interval_of_one_run_is_the_bootstrap_over_its_images(compared: Any) -> None:
    run = compared(right=8)
    [setting] = settings_of([run])
    right = np.einsum("nll->n", run.images.counts)
    pixels = run.images.counts.sum(axis=(1, 2))
    expected = stats.bootstrap(
        (right, pixels), lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis), paired=True,
        n_resamples=10_000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    assert setting.interval("per_pixel") == pytest.approx(tuple(expected), abs=0.06 * width)


def test_differences_rest_on_pairs_of_runs_or_on_images(compared: Any) -> None:
    low = [compared("low", n, right) for n, right in enumerate((5, 6, 6))]
    high = [compared("high", n, right, settings=OTHER) for n, right in enumerate((7, 7, 9))]
    first, second = settings_of([*low, *high])
    gap, how = difference(second, first, "per_pixel")
    expected = stats.ttest_rel(second.values("per_pixel"), first.values("per_pixel"))
    assert how == "3 pairs of runs"
    assert gap is not None
    assert (gap.low, gap.high) == pytest.approx(tuple(expected.confidence_interval()))
    # One pair: over images. Each image has the same gain, 2 of 10 or of 15 pixels.
    first, second = settings_of([low[0], high[0]])
    gap, how = difference(second, first, "per_pixel")
    assert how == "6 test images, given these models"
    assert gap is not None
    assert 2 / 15 <= gap.low <= gap.mean <= gap.high <= 2 / 10
    changed = class_changes(second, first)
    assert changed is not None
    assert (changed.low[0], changed.high[0]) == pytest.approx((0.2, 0.2))
    # Neither a seed nor known images in common.
    first, second = settings_of([low[0], compared("x", 5, settings=OTHER, images=None)])
    assert difference(second, first, "per_pixel") == (None, "nothing in common")


def test_folds_have_other_images_and_so_no_bootstrap(compared: Any) -> None:
    folds = [compared(seed=0, settings={"data.stanford.fold": n}) for n in (1, 2)]
    folds[1].images.ids[:] = list("abcdef")
    [setting] = settings_of(folds)
    assert setting.ids is None
    assert setting.drawn == {}
    assert not math.isnan(setting.interval("per_pixel")[0])


def test_the_best_and_those_next_to_it(compared: Any) -> None:
    names = ("a", "b", "c", "d", "e")
    settings = settings_of(
        [
            compared(name, 0, right, settings={"network.name": name})
            for name, right in zip(names, (5, 9, 7, 8, 6), strict=True)
        ]
    )
    assert best(settings, "per_pixel") == 1
    assert [one.name for one in chosen(settings, "per_pixel", 3)] == ["a", "b", "d"]
    pixel, *_, last = verdicts(settings)
    assert pixel.startswith("Per-pixel accuracy: b is best with 0.8")
    assert "includes zero" not in pixel
    assert "flatters" in last
    assert verdicts(settings[:1]) == []


def test_a_lead_whose_interval_includes_zero_is_said(compared: Any) -> None:
    two = settings_of([compared(name, 0, 8, settings={"network.name": name}) for name in "ab"])
    pixel = verdicts(two)[0]
    assert pixel.endswith("; the interval of its lead over b includes zero.")
