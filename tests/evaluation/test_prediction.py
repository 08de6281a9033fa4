"""Averages over scales and flips, votes within superpixels, overlays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhs.evaluation import prediction
from lhs.evaluation.grid import ScoreGrid
from lhs.evaluation.metrics import confusion_counts
from lhs.evaluation.prediction import (
    Prediction,
    at_full_size,
    average_predictions,
    best_classes,
    best_of_superpixels,
    best_scored,
    count_pairs,
    vote,
)
from tests.data.builders import noise_image

CLASSES = ("sky", "road", "tree")
COLOURS = np.array([[0, 0, 255], [90, 90, 90], [0, 160, 0]], np.uint8)


def best(image: np.ndarray, scores: torch.Tensor, classes=CLASSES) -> Prediction:
    grid = ScoreGrid(scores=scores, height=image.shape[0], width=image.shape[1])
    return best_scored(image, grid, classes, COLOURS)


def by_brightness(image: np.ndarray) -> Prediction:
    """A model of single pixels: mirroring changes nothing."""
    value = image[:, :, 0].astype(np.float32) / 255
    probabilities = np.stack([value / 2, (1 - value) / 2, np.full_like(value, 0.5)])
    return best(image, torch.from_numpy(probabilities).log())


def by_column(image: np.ndarray) -> Prediction:
    """A model that depends on where a pixel lies."""
    height, width = image.shape[:2]
    right = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    probabilities = np.stack([1 - right, right, np.zeros_like(right)])
    return best(image, torch.from_numpy(probabilities).log())


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_a_model_of_single_pixels_says_the_same_mirrored(height, width, flip):
    image = noise_image(3, height, width)
    found = average_predictions(by_brightness, image, flip=flip)
    np.testing.assert_allclose(found.probabilities, by_brightness(image).probabilities, atol=1e-6)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.image, image)


def test_predictions_are_averaged():
    image = noise_image(1, 4, 5)
    found = average_predictions(by_column, image, flip=True)
    np.testing.assert_allclose(found.probabilities[:2], 0.5, atol=1e-6)


@pytest.mark.parametrize("scales", [(1.0,), (2.0,), (0.5, 2.0)])
def test_mirrored_views_are_mirrored_back_at_every_scale(scales):
    found = average_predictions(by_column, noise_image(1, 4, 6), flip=True, scales=scales)
    np.testing.assert_allclose(found.probabilities[:2], 0.5, atol=1e-5)


def test_every_scale_is_predicted_and_resized_to_the_image():
    seen = []

    def predict(image):
        seen.append(image.shape[:2])
        return by_brightness(np.full_like(image, 51))

    found = average_predictions(predict, noise_image(1, 10, 21), scales=(0.5, 1.0, 2.0), flip=True)
    assert seen == [(5, 10)] * 2 + [(10, 21)] * 2 + [(20, 42)] * 2
    assert found.probabilities.shape == (3, 10, 21)
    np.testing.assert_allclose(found.probabilities[0], 0.1, atol=1e-6)
    assert (found.label_map == 2).all()


@given(st.data())
def test_votes_are_counted_by_superpixel(data):
    height, width = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    superpixels = rng.integers(0, 4, (height, width)).astype(np.int32)
    scores = torch.from_numpy(rng.random((3, height, width), np.float32))
    prediction = best(noise_image(1, height, width), scores)
    found = vote(prediction, superpixels)
    for superpixel in np.unique(superpixels):
        inside = superpixels == superpixel
        labels = prediction.label_map[inside].tolist()
        winner = max(range(3), key=lambda label: (labels.count(label), -label))
        assert (found.label_map[inside] == winner).all()
    assert found.label_map.dtype == prediction.label_map.dtype
    np.testing.assert_array_equal(found.scores, scores)


def test_the_overlay_shows_image_and_classes():
    image = np.full((2, 2, 3), 100, np.uint8)
    prediction = by_column(image)
    np.testing.assert_array_equal(prediction.label_map, [[0, 1], [0, 1]])
    assert prediction.overlay[0].tolist() == [[45, 45, 185], [94, 94, 94]]


@pytest.mark.parametrize(("classes", "kind"), [(255, np.uint8), (256, np.uint16)])
def test_ids_have_as_many_bytes_as_they_need(classes, kind):
    scores = torch.zeros(classes, 1, 2)
    scores[-1] = 1
    names = tuple(map(str, range(classes)))
    found = best(np.zeros((1, 2, 3), np.uint8), scores, names)
    assert found.label_map.dtype == kind
    assert (found.label_map == classes - 1).all()


@given(st.data())
def test_pixels_have_the_scores_and_the_label_of_their_superpixel(data):
    height, width = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    superpixels = rng.integers(0, 4, (height, width)).astype(np.int32)
    scores = rng.random((4, 3), np.float32)
    found = best_of_superpixels(
        noise_image(1, height, width), torch.from_numpy(scores), superpixels, CLASSES, COLOURS
    )
    assert found.label_map.dtype == np.uint8
    for y, x in np.ndindex(height, width):
        np.testing.assert_array_equal(found.scores[:, y, x], scores[superpixels[y, x]])
        assert found.label_map[y, x] == scores[superpixels[y, x]].argmax()
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(("classes", "void", "kind"), [(7, 255, np.uint8), (300, 65535, np.uint16)])
def test_pairs_are_counted_as_numpy_counts_them(classes: int, void: int, kind: type) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, (40, 50)).astype(kind)
    truth[rng.random(truth.shape) < 0.2] = void
    predicted = rng.integers(0, classes, truth.shape).astype(kind)
    counts = count_pairs(torch.from_numpy(predicted), torch.from_numpy(truth), classes, void)
    expected = confusion_counts(predicted, truth, classes, void)
    np.testing.assert_array_equal(counts.numpy(), expected)
    assert counts.sum() == (truth != void).sum()
    wrong = truth.copy()
    wrong[tuple(np.argwhere(truth != void)[0])] = classes
    with pytest.raises(ValueError, match="1 pixels hold ids out of 0"):
        count_pairs(torch.from_numpy(predicted), torch.from_numpy(wrong), classes, void)


def test_ids_above_32767_are_whole() -> None:
    """They are narrowed as signed integers."""
    scores = torch.zeros(40_000, 1, 2)
    scores[39_999, 0, 0] = scores[3, 0, 1] = 1
    labels = best_classes(ScoreGrid(scores=scores, height=1, width=2), 40_000)
    assert labels.numpy().dtype == np.uint16
    assert labels.numpy().tolist() == [[39_999, 3]]


@pytest.mark.parametrize("kind", ["pixels", "grid", "middles", "superpixels"])
@pytest.mark.parametrize("resized", [False, True])
def test_confidence_is_the_probability_of_the_label(kind, resized, monkeypatch):
    """Computed in strips of rows, against all probabilities at once; also of an enlarged map."""
    monkeypatch.setattr(prediction, "STRIP", 100)
    torch.manual_seed(0)
    image = noise_image(1, 13, 22)
    if kind == "superpixels":
        superpixels = np.arange(13 * 22).reshape(13, 22) // 7
        scores = torch.randn(int(superpixels.max()) + 1, 3)
        found = best_of_superpixels(image, scores, superpixels, CLASSES, COLOURS)
    else:
        stride = 1 if kind == "pixels" else 4
        grid = ScoreGrid(
            scores=torch.randn(3, -(-13 // stride), -(-22 // stride)), height=13, width=22,
            stride=stride, centred=kind == "middles",
        )  # fmt: skip
        found = best_scored(image, grid, CLASSES, COLOURS)
    if resized:
        found = at_full_size(found, noise_image(2, 31, 47))
    # Other labels than the best ones, as after a vote.
    found = vote(found, np.arange(found.label_map.size).reshape(found.label_map.shape) // 5)
    rows, columns = np.indices(found.label_map.shape)
    expected = found.probabilities[found.label_map, rows, columns]
    np.testing.assert_allclose(found.confidence, expected, atol=1e-6)
    assert found.confidence.dtype == np.float32
    one = found.probabilities_of_rows(5, 6)[:, 0]
    np.testing.assert_allclose(one, found.probabilities[:, 5], atol=1e-6)
