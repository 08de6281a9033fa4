"""A sweep's tables and page, against numbers counted by hand."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from lhs.report.sensitivity import (
    Trial,
    agreement,
    difference_frame,
    sensitivity_figure,
    setting_frame,
    setting_groups,
    setting_labels,
    sharing_frame,
    trial_frame,
)
from lhs.report.sweep import render_sweep


def trial(number: int, score: float | None = None, **changes: object) -> Trial:
    """One whose hierarchy depends on rho alone, and whose model depends on everything."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    rho = named.get("hierarchy.rho", 0.93)
    scores = {} if score is None else {"per_pixel": score, "mean_iou": score / 2}
    keys = {"samples": "s", "hierarchy": f"h{rho}", "model": f"m{number}"}
    return Trial(
        number=number, changes=named, scores=scores, common_classes=11, subclasses=int(rho * 100),
        seconds={"samples": 80.0, "hierarchy": 5.0 + number, "model": 100.0}, keys=keys,
        run_id=f"run{number}",
    )  # fmt: skip


def three() -> list[Trial]:
    return [
        trial(1, 0.80, hierarchy__rho=0.93, train__seed=0),
        trial(2, 0.84, hierarchy__rho=0.93, train__seed=1),
        trial(3, 0.70, hierarchy__rho=0.95, train__seed=0),
    ]


def test_a_row_a_trial_with_its_dotted_settings() -> None:
    frame = trial_frame(three())
    assert frame["hierarchy.rho"].tolist() == [0.93, 0.93, 0.95]
    assert frame["train.seed"].tolist() == [0, 1, 0]
    assert frame["per_pixel"].tolist() == [0.80, 0.84, 0.70]
    assert frame["subclasses"].tolist() == [93, 93, 95]
    assert frame["run_id"].tolist() == ["run1", "run2", "run3"]


def test_seeds_are_one_setting() -> None:
    frame = setting_frame(three())
    assert frame["hierarchy.rho"].tolist() == [0.93, 0.95]
    assert "train.seed" not in frame
    assert frame["runs"].tolist() == [2, 1]
    assert frame["per_pixel"].tolist() == pytest.approx([0.82, 0.70])
    assert frame["per_pixel_std"][0] == pytest.approx(statistics.stdev([0.80, 0.84]))
    assert math.isnan(frame["per_pixel_std"][1])


def test_folds_and_seeds_that_the_hierarchy_follows_are_repetitions() -> None:
    trials = [
        trial(2 * fold + seed, 0.5, train__seed=seed, hierarchy__seed=seed,
              data__stanford__fold=fold, train__alpha=alpha)
        for alpha in (1, 2) for fold in (1, 2) for seed in (0, 1)
    ]  # fmt: skip
    frame = setting_frame(trials)
    assert frame["train.alpha"].tolist() == [1, 2]
    assert frame["runs"].tolist() == [4, 4]
    assert setting_labels(trials, setting_groups(trials)) == ["alpha=1", "alpha=2"]
    alone = [trial(n, 0.5, hierarchy__seed=n) for n in (0, 1)]
    assert setting_frame(alone)["runs"].tolist() == [1, 1]
    # A search may propose the same twice.
    assert setting_frame([trial(1, 0.5), trial(2, 0.7)])["runs"].tolist() == [2]


@pytest.mark.thorough
def test_differences_from_the_first_setting_are_paired_by_seed() -> None:
    first, second = [0.80, 0.83, 0.85], [0.81, 0.85, 0.90]
    trials = [trial(n, score, hierarchy__rho=0.9, train__seed=n) for n, score in enumerate(first)]
    trials += [
        trial(n, score, hierarchy__rho=0.95, train__seed=n) for n, score in enumerate(second)
    ]
    trials.append(trial(9, 0.1, hierarchy__rho=0.95, train__seed=9))
    [row] = difference_frame(trials).to_dict("records")
    assert (row["setting"], row["runs"]) == ("rho=0.95", 3)
    expected = ttest_rel(second, first)
    assert row["per_pixel"].mean == pytest.approx(0.08 / 3)
    assert row["per_pixel"].p == pytest.approx(expected.pvalue)
    assert (row["per_pixel"].low, row["per_pixel"].high) == pytest.approx(
        expected.confidence_interval(0.95)
    )
    page = render_sweep(
        title="t", subtitle="s", recipe="demo", trials=trials, agreement=None, paths={}, created="",
    )  # fmt: skip
    assert "Differences from the first setting" in page
    assert "+0.027 [" in page


@pytest.mark.thorough
def test_failed_trials_are_named_and_count_as_no_run() -> None:
    base, repeated, other = three()
    failed = dataclasses.replace(repeated, scores={}, error="<the training diverged>")
    trials = [base, failed, other]
    assert trial_frame(trials)["error"].tolist() == ["", failed.error, ""]
    assert "error" not in trial_frame(three())
    frame = setting_frame(trials)
    assert frame["runs"].tolist() == [1, 1]
    assert frame["per_pixel"].tolist() == [0.80, 0.70]
    # Seed 1 has no partner and seed 0 has one.
    assert difference_frame(trials)["runs"].tolist() == [1]
    page = render_sweep(
        title="t", subtitle="s", recipe="demo", trials=trials, agreement=None, paths={}, created="",
    )  # fmt: skip
    assert "Failed trials" in page
    assert "&lt;the training diverged&gt;" in page
    # All of them, or all of the setting that the others are compared with.
    first = dataclasses.replace(base, scores={}, error="no")
    assert difference_frame([first, failed, other]).empty
    last = dataclasses.replace(other, scores={}, error="no")
    page = render_sweep(
        title="t", subtitle="s", recipe="demo", trials=[first, failed, last], agreement=None,
        paths={}, created="",
    )  # fmt: skip
    assert page.count(">no<") == 2


def test_what_sharing_saved() -> None:
    frame = sharing_frame(three()).set_index("stage")
    assert frame.loc["samples"].tolist() == [3, 1, 80, 240, 160]
    # Both rho = 0.93 have one hierarchy; in real sweeps each reports the same cost.
    assert frame.loc["hierarchy", ["needed", "built"]].tolist() == [3, 2]
    assert frame.loc["model"].tolist() == [3, 3, 300, 300, 0]
    assert list(frame.index) == ["samples", "hierarchy", "model", "all"]
    assert frame.loc["all", "needed"] == 9


def test_agreement_of_a_textbook_case() -> None:
    """Hubert and Arabie's own measure, by its formula from the contingency table."""
    one, other = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    pairs = 1 + 0 + 0 + 1  # both together: C(2,2) + C(1,2) + C(1,2) + C(2,2)
    rows, columns, total = 3 + 3, 1 + 1 + 1, 15
    expected = rows * columns / total
    index = (pairs - expected) / ((rows + columns) / 2 - expected)
    frame = agreement({"a": one, "b": other})
    assert frame.loc["a", "b"] == pytest.approx(index)
    assert frame.to_numpy().diagonal() == pytest.approx(1)


@pytest.mark.thorough
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_agreement_does_not_depend_on_ids(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    before = agreement({"a": one, "b": other})
    after = agreement({"a": 7 - one, "b": np.array([5, 2, 9, 0])[other]})
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "trials",
    [
        three(),
        three()[:1],
        [trial(1, hierarchy__rho=0.93), trial(2, hierarchy__rho=0.95)],
        [trial(1, 0.5, hierarchy__region="inf"), trial(2, 0.6, hierarchy__region=129)],
        [trial(1, 0.5, train__optimizer="sgd"), trial(2, 0.6, train__optimizer="adamw")],
    ],
)
def test_every_sweep_has_a_page(trials: list[Trial]) -> None:
    page = render_sweep(
        title="a sweep", subtitle="of <one>", recipe="demo", trials=trials, agreement=None,
        paths={"sweep": "/there"}, created="today",
    )  # fmt: skip
    assert "of &lt;one&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    one_seed = "one seed proves nothing" in page
    assert one_seed == any(found.scores for found in trials)
    assert "/there" in page


def test_the_figure_holds_other_settings_at_the_first_trial_s() -> None:
    trials = [
        trial(1, 0.5, hierarchy__rho=0.9, hierarchy__k_scale=1.0),
        trial(2, 0.6, hierarchy__rho=0.9, hierarchy__k_scale=2.0),
        trial(3, 0.9, hierarchy__rho=0.95, hierarchy__k_scale=2.0),
    ]
    figure = sensitivity_figure(trials)
    assert "hierarchy.rho = 0.9, hierarchy.k_scale = 1.0" in figure.caption
    # The third trial differs in both: it stands in no panel, and rho has one value left.
    assert figure.alt == "per_pixel at each value of hierarchy.k_scale"
    assert figure.png != figure.png_dark
