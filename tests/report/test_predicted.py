"""A prediction as one picture: what is drawn where, and that it can be read back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lhs.report.predicted import panels_of, side_by_side
from tests.data.builders import noise_image

CLASSES = ("sky", "sea", "a name that is long enough to need more than a column has")
COLOURS = np.array([[10, 20, 250], [0, 250, 0], [250, 250, 0]], np.uint8)


@pytest.mark.parametrize("shape", [(360, 270), (30, 40), (9, 900), (900, 9), (1, 1)])
def test_image_and_confidence_are_read_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 256, shape, np.uint8)
    labels = rng.integers(0, 3, shape, np.uint8)
    picture = side_by_side(noise_image(1, *shape), labels, confidence, CLASSES, COLOURS)
    found = panels_of(picture)
    assert max(found.confidence.shape) == 360
    assert found.mean == pytest.approx(confidence.mean() / 255, abs=1e-4)
    if shape == (360, 270):
        np.testing.assert_array_equal(found.image, noise_image(1, *shape))
        np.testing.assert_array_equal(found.confidence, confidence)


def test_labels_have_their_colours_and_only_classes_that_occur_are_named() -> None:
    labels = np.zeros((360, 360), np.uint8)
    labels[:, 180:] = 1
    one = np.full((360, 360), 255, np.uint8)
    picture = side_by_side(noise_image(0, 360, 360), labels, one, CLASSES, COLOURS)
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    top, left = 12 + 22, 12 + 360 + 12
    panel = pixels[top : top + 360, left : left + 360]
    np.testing.assert_array_equal(panel, COLOURS[labels])
    legend = pixels[top + 360 + 12 :].reshape(-1, 3)
    shown = [bool((legend == colour).all(axis=1).any()) for colour in COLOURS]
    assert shown == [True, True, False]


@pytest.mark.parametrize("damage", ["none", "cut", "sizes"])
def test_other_pictures_are_refused(damage: str) -> None:
    labels = np.zeros((30, 40), np.uint8)
    picture = side_by_side(noise_image(0, 30, 40), labels, labels, CLASSES, COLOURS)
    if damage == "none":
        stream = io.BytesIO()
        Image.fromarray(noise_image(0, 30, 40)).save(stream, "PNG")
        picture = stream.getvalue()
    elif damage == "cut":
        picture = picture[: len(picture) // 2]
    else:
        with Image.open(io.BytesIO(picture)) as opened:
            stream, info = io.BytesIO(), opened.info
            info.update(panel_size="900 900")
            from PIL.PngImagePlugin import PngInfo

            texts = PngInfo()
            for name, text in info.items():
                if isinstance(text, str):
                    texts.add_text(name, text)
            opened.save(stream, "PNG", pnginfo=texts)
        picture = stream.getvalue()
    with pytest.raises(ValueError, match="no picture of a prediction"):
        panels_of(picture)
