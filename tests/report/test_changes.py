"""What changed where: images in order, error maps, names on label maps."""

import numpy as np
import pytest

from lhs.report.changes import (
    BOTH,
    GAINED,
    LOST,
    NEITHER,
    Examples,
    ImageCounts,
    examples_pictures,
)
from lhs.report.drawing import placed_names

COLOURS = np.array([[200, 0, 0], [0, 200, 0]], np.uint8)


def counts(*right: int) -> np.ndarray:
    """Images of 10 pixels of one class, so many of them right."""
    return np.array([[[number, 10 - number], [0, 0]] for number in right])


def test_images_are_in_the_order_of_their_change() -> None:
    images = ImageCounts(
        ids=list("abcdefgh"),
        counts=counts(5, 9, 5, 5, 1, 7, 5, 3), baseline=counts(5, 5, 4, 5, 5, 5, 6, 5),
    )  # fmt: skip
    frame = images.table()
    assert frame["image"].tolist() == ["b", "f", "c", "a", "d", "g", "h", "e"]
    assert frame["change"].iloc[0] == pytest.approx(0.4)
    assert images.extremes() == ["b", "f", "c", "g", "h", "e"]
    few = ImageCounts(ids=["a", "b"], counts=counts(5, 9), baseline=counts(5, 5))
    assert few.extremes() == ["b", "a"], "none twice"


def test_error_maps_say_who_is_right() -> None:
    truth = np.array([[0, 0, 0, 0, 255]], np.uint8)
    own, baseline = np.array([[0, 0, 1, 1, 0]], np.uint8), np.array([[0, 1, 0, 1, 0]], np.uint8)
    image = np.zeros((1, 5, 3), np.uint8)
    shown = examples_pictures(
        "k", "t", "mine",
        Examples(ids=["x"], images=[image], truths=[truth], predictions=[own],
                 baseline_predictions=[baseline]),
        ["sky", "sea"], COLOURS, 255,
    )  # fmt: skip
    (heading, pictures), errors = shown.rows[0], shown.rows[0][1][-1].pixels
    assert [one.heading for one in pictures] == [
        "image",
        "annotation",
        "baseline",
        "mine",
        "errors",
    ]
    assert heading == "x: 0.500 right, 0.000"
    wanted = [list(bytes.fromhex(css[1:])) for css in (BOTH, GAINED, LOST, NEITHER)]
    assert errors[0, :4, :3].tolist() == wanted
    assert errors[0, :, 3].tolist() == [255] * 4 + [0], "unlabelled pixels are clear"
    assert shown.data.to_dict("records") == [{"image": "x", "baseline": 0.5, "mine": 0.5}]


def test_names_stand_inside_their_regions_and_only_where_they_fit() -> None:
    label_map = np.zeros((100, 160), np.uint8)
    label_map[60:, 80:] = 1
    label_map[:8, :8] = 2
    found = {place.name: place for place in placed_names(label_map, ["sky", "sea", "car"])}
    assert set(found) == {"sky", "sea"}
    for label, name in enumerate(("sky", "sea")):
        place = found[name]
        assert label_map[int(place.y * 100), int(place.x * 160)] == label
