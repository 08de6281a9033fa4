"""Variation of features within classes and subclasses, against sums by hand and random splits."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn
from torch.nn import functional

from lhs.evaluation.variation import FEWEST, features_at, variation
from lhs.networks.base import SceneNetwork
from tests.data.builders import noise_image

CLASSES = ["sky", "sea", "car"]


def test_variation_is_the_mean_squared_distance_from_means() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5))
    subclasses = rng.integers(0, 2, 60)
    features[subclasses == 1] += 3
    row = variation(features, subclasses, np.array([0, 0]), CLASSES).iloc[0]
    whole = np.mean([np.sum((one - features.mean(axis=0)) ** 2) for one in features])
    means = [features[subclasses == part].mean(axis=0) for part in (0, 1)]
    within = np.mean(
        [np.sum((one - means[part]) ** 2) for one, part in zip(features, subclasses, strict=True)]
    )
    assert (row["class"], row["samples"], row["subclasses"]) == ("sky", 60, 2)
    assert row["within class"] == pytest.approx(whole)
    assert row["within subclasses"] == pytest.approx(within)
    assert row["remains"] == pytest.approx(within / whole)
    assert row["remains"] < 0.5 < row["random split"]


def test_the_random_split_is_the_mean_of_random_splits() -> None:
    rng = np.random.default_rng(1)
    features, parts = rng.normal(size=(30, 4)) ** 3, np.repeat([0, 1, 2], [18, 9, 3])
    drawn = [
        variation(features, rng.permutation(parts), np.zeros(3, int), CLASSES)["remains"].iloc[0]
        for _ in range(300)
    ]
    expected = variation(features, parts, np.zeros(3, int), CLASSES)["random split"].iloc[0]
    assert np.mean(drawn) == pytest.approx(expected, abs=4 * np.std(drawn) / np.sqrt(300))


def test_classes_with_one_subclass_or_few_samples_are_left_out() -> None:
    features = np.ones((FEWEST + 5, 2))
    subclasses = np.array([0] * FEWEST + [1, 2, 1, 2, 1])
    assert variation(features, subclasses, np.array([0, 1, 1]), CLASSES).empty


class Pooled(SceneNetwork):
    """Its features are the mean colours of squares of 4 x 4 pixels."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 2, 1)

    def forward_features(self, image):
        return (functional.avg_pool2d(image, 4),)

    def forward_head(self, features):
        return self.last(features[0])

    def last_layers(self):
        return [self.last]


def test_features_are_those_at_the_pixels() -> None:
    image, centres = noise_image(1, 10, 14), np.array([[0, 0], [9, 13], [3, 4], [7, 2]])
    found = features_at(SimpleNamespace(network=Pooled(), device="cpu"), image, centres)
    whole = np.pad(image, ((0, 2), (0, 2), (0, 0)), mode="edge").astype(float)
    expected = [whole[y : y + 4, x : x + 4].mean(axis=(0, 1)) for y, x in centres // 4 * 4]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
