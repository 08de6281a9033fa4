"""Tables and sentences against numbers worked out by hand."""

import math

import numpy as np
import pytest

from lhs.evaluation.metrics import scores
from lhs.report import tables, wording
from lhs.report.summary import summary
from lhs.report.wording import MINUS, NOTHING

NAMES = ["sky", "moon", "car"]
# sky: 80 of 100 right; moon absent; car: 5 of 10 right.
COUNTS = np.array([[80, 10, 10], [0, 0, 0], [5, 0, 5]])
# sky: 90 of 100 right; car: 2 of 10 right.
BASELINE = np.array([[90, 0, 10], [0, 0, 0], [8, 0, 2]])


def test_per_class_table():
    frame = tables.per_class_table(
        NAMES, COUNTS.sum(axis=1), scores(COUNTS), scores(BASELINE), np.array([0])
    )
    assert list(frame.columns) == [
        "class", "common or rare", "test pixels", "accuracy", "IoU", "baseline accuracy", "change"
    ]  # fmt: skip
    assert list(frame["class"]) == ["car", "sky", "moon"], "the largest gain first"
    assert list(frame["common or rare"]) == ["rare", "common", "rare"]
    assert list(frame["test pixels"]) == [10, 100, 0]
    assert frame["accuracy"].to_list()[:2] == pytest.approx([0.5, 0.8])
    assert frame["IoU"].to_list()[:2] == pytest.approx([5 / 20, 80 / 105])
    assert frame["baseline accuracy"].to_list()[:2] == pytest.approx([0.2, 0.9])
    assert frame["change"].to_list()[:2] == pytest.approx([0.3, -0.1])
    assert frame.loc[2, ["accuracy", "baseline accuracy", "change"]].isna().all()


def test_per_class_table_of_a_baseline_has_nothing_to_compare():
    frame = tables.per_class_table(NAMES, COUNTS.sum(axis=1), scores(COUNTS), None, None)
    assert list(frame.columns) == ["class", "test pixels", "accuracy", "IoU"]


def test_scores_table():
    frame = tables.scores_table("hierarchical", scores(COUNTS), scores(BASELINE), {})
    assert list(frame.columns) == ["score", "baseline", "hierarchical", "change"]
    assert frame["hierarchical"].to_list() == pytest.approx(
        [85 / 110, 0.65, (80 / 105 + 5 / 20) / 2, 1.3 / 3]
    )
    assert frame["change"].to_list()[:2] == pytest.approx([-7 / 110, 0.1])
    alone = tables.scores_table("baseline", scores(BASELINE), None, {})
    assert list(alone.columns) == ["score", "baseline"]
    assert alone["baseline"].iloc[0] == pytest.approx(92 / 110)


def test_stage_table():
    frame = tables.stage_table([("samples", True, 0.25), ("training", False, 61.0)])
    assert frame.to_dict("list") == {
        "stage": ["samples", "training"],
        "reused or made": ["reused", "made"],
        "seconds": [0.25, 61.0],
    }


def test_settings_keep_their_dotted_names():
    nested = {"hierarchy": {"rho": 0.93, "kind": "lc"}, "training.epochs": 3, "x": {}}
    frame = tables.settings_table(nested)
    assert frame.to_numpy().tolist() == [
        ["hierarchy.rho", "0.93"], ["hierarchy.kind", "lc"], ["training.epochs", "3"], ["x", "{}"]
    ]  # fmt: skip


def test_differing_settings_are_only_those_that_differ():
    runs = {
        "a": {"hierarchy": {"rho": 0.9, "region": 129}},
        "b": {"hierarchy.rho": 0.95, "hierarchy.region": 129, "extra": True},
    }
    frame = tables.differing_settings(runs)
    assert list(frame.columns) == ["setting", "a", "b"]
    assert frame.to_numpy().tolist() == [["hierarchy.rho", "0.9", "0.95"], ["extra", "", "true"]]


@pytest.mark.parametrize(
    ("value", "text", "direction"),
    [
        (0.0114, "+0.011", "gain"),
        (-0.02, f"{MINUS}0.020", "loss"),
        (0.0004, "0.000", "same"),
        (-0.0004, "0.000", "same"),
        (math.nan, NOTHING, "same"),
    ],
)
def test_signed(value, text, direction):
    assert wording.signed(value) == text
    assert wording.direction(value) == direction


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (187, "3 min 07 s"),
        (3599.8, "1 h 00 min"),
        (4321, "1 h 12 min"),
        (math.nan, NOTHING),
    ],
)
def test_seconds(value, text):
    assert wording.seconds(value) == text


def test_summary_reports_both_directions_and_that_one_seed_is_no_evidence():
    first, second, third = summary("hierarchical", scores(COUNTS), scores(BASELINE), NAMES, [4], {})
    assert first.startswith(f"Hierarchical training reached 0.773 (baseline 0.836, {MINUS}0.064)")
    assert "0.650 (baseline 0.550, +0.100)" in first
    assert "worse per pixel and better per class: the two do not agree" in second
    assert "Of 2 classes with test pixels 1 gained, 1 lost and 0 stayed the same" in second
    assert f"the largest gain is car (+0.300), the largest loss is sky ({MINUS}0.100)" in second
    assert "1 class has no test pixel and is left out" in second
    assert "a single seed (4), and a single seed is no evidence" in third


def test_summary_of_equal_runs_claims_nothing():
    paragraphs = summary("sequential", scores(COUNTS), scores(COUNTS), NAMES, [0], {})
    assert "Both accuracies are the same as the baseline's." in paragraphs[1]
    assert "largest" not in paragraphs[1]


def test_summary_of_a_loss_says_worse():
    paragraphs = summary(
        "sequential", scores(np.array([[5, 5], [5, 5]])), scores(np.eye(2, dtype=int)), "ab",
        [0, 1], {},
    )  # fmt: skip
    assert "Both accuracies are worse than the baseline's." in paragraphs[1]
    assert paragraphs[2] == "The scores rest on 2 seeds (0, 1)."


def test_summary_of_a_baseline_alone():
    paragraphs = summary("baseline", scores(BASELINE), None, NAMES, [0], {})
    assert len(paragraphs) == 2
    assert "baseline 0." not in paragraphs[0]
    assert "no evidence" not in paragraphs[1]
