"""Colours of classes can be told apart, by all kinds of sight."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lhs.data.colours import class_colours
from lhs.data.synthetic import CLASSES

SIFTFLOW = [
    "awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk",
    "desert", "door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole",
    "river", "road", "rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase", "streetlight",
    "sun", "tree", "window",
]  # fmt: skip
# Machado, Oliveira and Fernandes 2009, severity 1, of linear RGB.
SIGHTS = {
    "normal sight": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def least_distance(colours, matrix):
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen)
    first, second = np.triu_indices(len(lab), 1)
    return deltaE_ciede2000(lab[first], lab[second]).min()


@pytest.mark.parametrize(
    "classes",
    [[f"class {i}" for i in range(33)], CLASSES, SIFTFLOW, ["Sky", "sky", "car", "SEA"]],
    ids=["33 classes", "synthetic", "siftflow", "names that differ in case"],
)
def test_up_to_33_classes_differ_to_normal_and_colour_blind_sight(classes):
    colours = class_colours(classes)
    for sight, matrix in SIGHTS.items():
        found = least_distance(colours, matrix)
        print(f"{sight}: {found:.1f} CIEDE2000 at least")
        assert found >= (10 if sight == "normal sight" else 5), sight
