"""Make the table of class colours in `lhs/data/colours.py`; prints it and how far apart they are.

    python benchmarks/palette.py

Common class names get a colour near the one they suggest, so that label maps read at once; then
each further colour is the one that is farthest from all before it. Distances are CIEDE2000, to
normal sight and to the three kinds of dichromats (Machado et al. 2009); a distance of 10 to normal
sight counts as much as one of 5 to dichromats.
"""

from __future__ import annotations

import itertools

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

NUMBER = 256
SUGGESTED = {
    "sky": "#87beeb", "tree": "#1f6b32", "road": "#6e6e76", "grass": "#7ebe4a", "field": "#b8bc3a",
    "plant": "#4aa36a", "water": "#2f6fb8", "sea": "#1c4f96", "river": "#4f9cc4",
    "building": "#b05c46", "mountain": "#84689a", "foreground": "#e8a028", "sand": "#e2ce8c",
    "desert": "#d2a878", "rock": "#7f7256", "car": "#c8102e", "person": "#f06eb4",
    "sidewalk": "#c9bcc4", "window": "#30284e", "sun": "#ffe03c",
}  # fmt: skip
GROUNDS = ("#eceff3", "#2c3541")
"""Of unlabelled pixels, on the pages' light and dark ground."""
LEAST = 1.12
"""Of the colours of common names, in units of 10 to normal sight and 5 to dichromats."""
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
"""Of linear RGB."""


def views(colours: np.ndarray) -> dict[str, np.ndarray]:
    """CIELAB of colours (N, 3) uint8 as each kind of sight has them, (N, 3) each."""
    values = np.asarray(colours, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found = {"normal sight": rgb2lab(values)}
    for name, matrix in DICHROMATS.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        found[name] = rgb2lab(encoded)
    return found


def least_distances(colours: np.ndarray) -> dict[str, float]:
    """The smallest CIEDE2000 distance of any two colours, for each kind of sight."""
    first, second = np.triu_indices(len(colours), 1)
    return {
        name: float(deltaE_ciede2000(lab[first], lab[second]).min())
        for name, lab in views(colours).items()
    }


def rgb(text: str) -> np.ndarray:
    """(3,) uint8 of `#rrggbb`."""
    return np.array(list(bytes.fromhex(text[1:])), np.uint8)


def palette(number: int = NUMBER) -> np.ndarray:
    """(number, 3) uint8, those of common names first."""
    steps = np.arange(0, 256, 15)
    candidates = np.array(list(itertools.product(steps, steps, steps)), np.uint8)
    lightness = rgb2lab(candidates / 255)[:, 0]
    candidates = candidates[(lightness > 15) & (lightness < 93)]
    seen = views(candidates)
    nearest = np.full(len(candidates), np.inf)

    def take(colour: np.ndarray) -> np.ndarray:
        for name, lab in views(colour[None]).items():
            unit = 10 if name == "normal sight" else 5
            np.minimum(nearest, deltaE_ciede2000(seen[name], lab) / unit, out=nearest)
        return colour

    for ground in GROUNDS:
        take(rgb(ground))
    chosen = []
    for text in SUGGESTED.values():
        wanted = rgb2lab(rgb(text)[None] / 255)
        apart = deltaE_ciede2000(seen["normal sight"], wanted)
        chosen.append(take(candidates[np.where(nearest >= LEAST, apart, np.inf).argmin()]))
    while len(chosen) < number:
        chosen.append(take(candidates[nearest.argmax()]))
    return np.array(chosen)


if __name__ == "__main__":
    colours = palette()
    codes = [f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours.tolist()]
    for start in range(0, len(codes), 13):
        print("    " + " ".join(codes[start : start + 13]))
    for size in (len(SUGGESTED), 33, 64, NUMBER):
        print(
            size, {name: round(value, 1) for name, value in least_distances(colours[:size]).items()}
        )
