"""The colours of classes in every figure."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

_NAMES = (
    "sky", "tree", "road", "grass", "field", "plant", "water", "sea", "river", "building",
    "mountain", "foreground", "sand", "desert", "rock", "car", "person", "sidewalk", "window",
    "sun",
)  # fmt: skip
"""Classes with the same colour in every dataset: the first of the table."""

# Made by benchmarks/palette.py: the first 33 are at least 11 CIEDE2000 apart, and 5.6 for
# colour-blind readers.
_TABLE = bytes.fromhex(
    """
    87c3f0 1e692d 696978 78c34b c3d24b 4ba569 2d69b4 2d4b87 4b96c3 b45a4b 876996 e1960f e1d296
    c3a587 877869 c30f2d f069a5 c3b4c3 3c2d5a b4ff00 4b1e00 96ffd2 5a00f0 8769ff 003c2d 694b4b
    698787 788700 b4c3b4 4b4b00 b42d69 1e0087 e178ff ffd2ff f04b00 c300b4 2de1e1 96a5c3 a5874b
    969687 78002d 00b4a5 870f78 a50fff c3e1b4 ff2dd2 f0a578 5aff78 f0695a a5e1d2 3c1e1e 3c5a5a
    c369b4 5a783c 002db4 e18796 0f7869 961e0f a56978 695a4b 3c4b3c 874b96 788796 5a3c5a 7896e1
    4b0f69 b44b00 87d2a5 ffa5ff 4b4bd2 f01e96 e1f0a5 691e4b 695a78 c38769 4b695a 3c2d1e 692d1e
    5a9678 4ba5ff 2dd278 87b4b4 d2873c 69785a d24b69 00ffe1 785ad2 693c4b 69c3d2 f00f3c f0b4a5
    96e178 e100ff c35a87 f0e15a 8778d2 1e6969 964b2d 002d3c 69b496 782da5 3c3c3c 965a87 87782d
    5a4b1e 4ba5a5 b4d2d2 a5a5e1 f0e1e1 b41e4b 5a0f96 f0b400 004b69 e1d2c3 e196b4 4b8778 b48796
    4b0f2d 2d5a3c 0f874b 9669b4 b4b4a5 78f01e e1c3c3 872d3c 1e00d2 e1a5d2 9696b4 4b1e4b 968787
    e10fb4 874b00 5a5a87 96b42d b4a569 a50069 87a578 873c5a e1c3e1 1e78a5 694b78 c3b496 a50f2d
    78965a 5a2d00 f069d2 78a53c 6996a5 a55aa5 96e1f0 960fd2 c31ee1 b4694b b4b469 0087c3 c36978
    e1c396 a5d2b4 69690f 877896 69d20f 787887 c3a5ff 5a3c78 69000f c3c3d2 f0e1c3 ffc369 c39687
    d2b45a c35a5a 9678a5 5a2dc3 690078 788769 3c78e1 4b693c 4b004b f087c3 69005a 2d5a69 782d87
    875a5a a5d2f0 5a4b96 c3b4e1 e1b487 789600 78d2ff 3c3c4b ffe1ff a5783c e1e1f0 695aa5 3c00a5
    3ca5d2 6969c3 004b2d 3c872d ffd22d e19696 00ffff 1e69e1 e1e1a5 a5f0d2 a53c87 d20f5a d2965a
    a578f0 b4872d b49600 1e2d87 e1f087 ff964b 780fff 96f0f0 3c1e3c b4f0b4 d278c3 876978 e17878
    5ac378 9696f0 002d1e a5ffb4 d296f0 4b3c1e 00782d b44b4b c3d287 f0f04b d2d2a5 4b2d2d c33cc3
    4b2d69 ffb469 c387b4 3c0f78 5a87e1 5a003c c38787 4bd2b4 a57896 4b2da5 5affc3 69b4f0 780f96
    3c8769 d2a53c 69c3b4 b4b4d2 c3c3c3 4b5a1e e10078 d25ac3 e1874b
    """
)


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """Choose a colour for each class.

    Parameters
    ----------
    classes
        The L class names.

    Returns
    -------
    numpy.ndarray
        (L, 3) uint8 RGB, all different; frequent class names have a fixed colour. Up to 33 are at
        least 10 CIEDE2000 apart, to colour-blind readers 5.
    """
    table = [tuple(_TABLE[place : place + 3]) for place in range(0, len(_TABLE), 3)]
    names = [name.lower() for name in classes]
    fixed = {name: table[place] for place, name in enumerate(_NAMES) if name in names}
    # Those of names that do not occur come after the other 13 of the first 33.
    spare = [colour for colour in table[:33][::-1] + table[33:] if colour not in fixed.values()]
    step = 0
    while len(spare) < len(names):
        # Beyond the table, steps of the golden ratio spread the hues.
        hue = (0.11 + step * 0.6180339887) % 1.0
        saturation, value = 0.45 + 0.2 * (step % 3), 0.92 - 0.17 * (step // 3 % 4)
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colour = (round(red * 255), round(green * 255), round(blue * 255))
        if colour not in table and colour not in spare:
            spare.append(colour)
        step += 1
    others = iter(spare)
    # A name may differ from another in case alone: the second gets a colour of its own.
    colours = [fixed.pop(name) if name in fixed else next(others) for name in names]
    return np.array(colours, np.uint8).reshape(-1, 3)
