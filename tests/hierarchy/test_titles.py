"""Titles say what surrounds a subclass."""

import numpy as np
import pytest

from lhs.hierarchy.titles import subclass_title

CLASSES = ["sky", "water", "car", "road", "tree"]


@pytest.mark.parametrize(
    ("label", "shares", "title"),
    [
        (0, [0.63, 0.32, 0, 0, 0.05], "sky with water: sky 63 %, water 32 %, tree 5 %"),
        (2, [0.1, 0, 0.2, 0.7, 0], "car with road and sky: road 70 %, car 20 %, sky 10 %"),
        (4, [0.02, 0.01, 0, 0, 0.97], "tree alone: tree 97 %"),
        (3, [0.4, 0.3, 0.29, 0.01, 0], "road with sky and water: sky 40 %, water 30 %, car 29 %"),
        (0, [0.75, 0.09, 0.08, 0.08, 0], "sky with water: sky 75 %, water 9 %, car 8 %, road 8 %"),
        (1, [0, 0, 0, 0, 0], "water"),
    ],
)  # fmt: skip
def test_title(label: int, shares: list[float], title: str) -> None:
    assert subclass_title(label, np.array(shares), CLASSES) == title
