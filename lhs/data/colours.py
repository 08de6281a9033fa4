"""The colours of classes in every figure."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

# Common class names have the same colour in every dataset, so that figures can be compared.
_COLOURS = {
    "sky": (135, 190, 235), "tree": (44, 110, 50), "road": (110, 110, 118), "grass": (126, 190, 74),
    "field": (176, 190, 90), "plant": (90, 160, 90), "water": (52, 112, 178), "sea": (30, 90, 160),
    "river": (70, 140, 190), "building": (176, 92, 70), "mountain": (132, 104, 150),
    "foreground": (232, 160, 40), "sand": (226, 206, 140), "desert": (214, 180, 110),
    "rock": (128, 118, 106), "car": (206, 40, 60), "person": (240, 110, 180),
    "sidewalk": (196, 186, 190), "window": (60, 60, 90), "sun": (255, 224, 60),
}  # fmt: skip


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """Choose a colour for each class.

    Parameters
    ----------
    classes
        The L class names.

    Returns
    -------
    numpy.ndarray
        (L, 3) uint8 RGB, all different; frequent class names have a fixed colour.
    """
    colours: list[tuple[int, int, int]] = []
    taken: set[tuple[int, int, int]] = set()
    step = 0
    for name in classes:
        colour = _COLOURS.get(name.lower())
        while colour is None or colour in taken:
            # Steps of the golden ratio spread the hues whatever the number of classes.
            hue = (0.11 + step * 0.6180339887) % 1.0
            saturation, value = 0.45 + 0.2 * (step % 3), 0.92 - 0.17 * (step // 3 % 4)
            red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
            colour = (round(red * 255), round(green * 255), round(blue * 255))
            step += 1
        taken.add(colour)
        colours.append(colour)
    return np.array(colours, np.uint8).reshape(-1, 3)
