"""Counts and scores against scikit-learn and against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lhs.evaluation.metrics import confusion_counts, scores


@pytest.mark.thorough
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([2, 5, 33, 232, 300]),
    shape=st.sampled_from([(1,), (40,), (9, 13), (2, 5, 7)]),
    void_share=st.sampled_from([0.0, 0.3, 0.95]),
    absent=st.booleans(),
)
def test_counts_and_scores_are_scikit_learns(seed, classes, shape, void_share, absent):
    rng = np.random.default_rng(seed)
    void = 255 if classes <= 255 else 65535
    kind = np.uint8 if classes <= 255 else np.uint16
    allowed = np.flatnonzero(rng.random(classes) < 0.6) if absent else np.arange(classes)
    allowed = allowed if len(allowed) else np.array([classes - 1])
    truth = rng.choice(allowed, shape).astype(kind)
    wrong = rng.integers(0, classes, shape)
    predicted = np.where(rng.random(shape) < 0.5, truth, wrong).astype(kind)
    truth[rng.random(shape) < void_share] = void

    counts = confusion_counts(predicted, truth, classes, void)
    assert counts.shape == (classes, classes)
    assert counts.dtype == np.int64
    t, p = truth[truth != void], predicted[truth != void]
    if not t.size:
        assert counts.sum() == 0
        return
    np.testing.assert_array_equal(counts, sk.confusion_matrix(t, p, labels=np.arange(classes)))

    got, present = scores(counts), np.unique(t)
    recalls = sk.recall_score(t, p, labels=present, average=None)
    ious = sk.jaccard_score(t, p, labels=present, average=None)
    assert got.per_pixel == pytest.approx(sk.accuracy_score(t, p))
    assert got.per_class == pytest.approx(recalls.mean())
    assert got.per_class_over_L == pytest.approx(recalls.sum() / classes)
    assert got.mean_iou == pytest.approx(ious.mean())
    np.testing.assert_allclose(got.per_class_accuracy[present], recalls)
    np.testing.assert_allclose(got.iou[present], ious)
    others = np.setdiff1d(np.arange(classes), present)
    assert np.isnan(got.per_class_accuracy[others]).all()
    assert np.isnan(got.iou[others]).all()


def test_scores_worked_out_by_hand():
    """Four classes; class 3 is absent from the truth but predicted twice."""
    counts = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 2, 4, 2], [0, 0, 0, 0]])
    got = scores(counts)
    assert got.per_pixel == pytest.approx(13 / 20)
    assert got.per_class == pytest.approx((6 / 8 + 3 / 4 + 4 / 8) / 3)
    assert got.per_class_over_L == pytest.approx((6 / 8 + 3 / 4 + 4 / 8) / 4)
    assert got.mean_iou == pytest.approx((6 / 9 + 3 / 8 + 4 / 8) / 3)
    assert got.headline() == {
        name: getattr(got, name)
        for name in ("per_pixel", "per_class", "per_class_over_L", "mean_iou")
    }
    parsed = json.loads(json.dumps(got.as_dict()))
    assert parsed["iou"] == [pytest.approx(6 / 9), pytest.approx(3 / 8), 0.5, None]
    assert parsed["per_class_accuracy"] == [0.75, 0.75, 0.5, None]


def test_one_class_alone():
    counts = confusion_counts(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8), 1, 255)
    assert counts.tolist() == [[6]]
    assert scores(counts).headline() == dict.fromkeys(scores(counts).headline(), 1.0)


def test_rows_are_the_truth():
    counts = confusion_counts(np.array([1, 1, 0]), np.array([0, 0, 2]), 3, 255)
    np.testing.assert_array_equal(counts, [[0, 2, 0], [0, 0, 0], [1, 0, 0]])


def test_void_never_counts_whatever_is_predicted_there():
    truth = np.full((4, 4), 255, np.uint8)
    predicted = np.full((4, 4), 255, np.uint8)
    counts = confusion_counts(predicted, truth, 3, 255)
    assert counts.shape == (3, 3)
    assert counts.sum() == 0


def test_counts_of_images_add_up():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 6, 8, 8))
    whole = confusion_counts(predicted, truth, 4, 255)
    parts = [confusion_counts(p, t, 4, 255) for p, t in zip(predicted, truth, strict=True)]
    np.testing.assert_array_equal(whole, sum(parts))


def test_scores_of_nothing_labelled_are_nan():
    got = scores(np.zeros((3, 3), np.int64))
    assert all(math.isnan(value) for value in got.headline().values())
    assert np.isnan(got.iou).all()
    assert got.as_dict()["iou"] == [None] * 3


def test_counts_of_many_pixels_stay_exact():
    got = scores(np.array([[2**40 - 1, 1], [0, 2**40]]))
    assert 1 - got.per_class_accuracy[0] == pytest.approx(2.0**-40, rel=1e-3, abs=0)
    assert 1 - got.per_pixel == pytest.approx(2.0**-41, rel=1e-3, abs=0)


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [([3], [0]), ([0], [3]), ([255], [0]), ([-1], [0]), ([0], [-1]), ([0], [254])],
)
def test_ids_out_of_range_are_refused(predicted, truth):
    with pytest.raises(ValueError, match=r"allowed 0\.\.2"):
        confusion_counts(np.array(predicted), np.array(truth), 3, 255)


def test_an_id_out_of_range_under_void_is_ignored():
    counts = confusion_counts(np.array([9, 1]), np.array([255, 1]), 3, 255)
    assert counts[1, 1] == counts.sum() == 1


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_counts(np.zeros((2, 3), int), np.zeros((3, 2), int), 3, 255)
