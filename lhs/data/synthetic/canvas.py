"""What every synthetic scene is painted on: noise, light, camera, ground plane and canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Rng = np.random.Generator
Array = NDArray[Any]  # float32 throughout; numpy's types lose the type of a sum
TILE = 512  # edge of a noise tile, texels
FEATURE = 16.0  # texels that one "feature" of a texture spans

Label = IntEnum(
    "Label",
    "SKY BUILDING MOUNTAIN TREE WATER ROAD GRASS SAND SIDEWALK CAR PERSON FENCE BOAT SIGN",
    start=0,
)
CLASSES = tuple(label.name.lower() for label in Label)


def rgb(*values: float) -> Array:
    """A colour, three floats in 0..1."""
    return np.array(values, np.float32)


def pick(rng: Rng, colours: Sequence[Sequence[float]], spread: float = 0.1) -> Array:
    """One of `colours`, its brightness and its hue varied by about `spread`."""
    colour = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    tint = 1 + spread * (rng.normal() + 0.5 * rng.normal(size=3))
    return np.clip(colour * tint.astype(np.float32), 0.01, 1)


def spread(share: ArrayLike) -> Array:
    """An array with a last axis that broadcasts against colours: (H, W) -> (H, W, 3), fast."""
    share = np.asarray(share, np.float32)
    if share.ndim == 2 and share.size > 64:
        return cv2.cvtColor(share, cv2.COLOR_GRAY2RGB)
    return share[..., None]


@cache
def noise_tile(slope: float) -> Array:
    """Fractal noise that repeats without a seam.

    Parameters
    ----------
    slope
        Amplitudes fall as frequency to the power of -slope: 1 is rough, 1.8 is cloudy.

    Returns
    -------
    Array
        (TILE, TILE) float32, mean 0, standard deviation 1.
    """
    white = np.random.default_rng(20160612).standard_normal((TILE, TILE))
    fy = np.fft.fftfreq(TILE)[:, None] * TILE
    fx = np.fft.rfftfreq(TILE)[None] * TILE
    # Flat below 6 cycles a tile, so that a crop of it still has mean 0.
    radius = np.maximum(np.hypot(fy, fx), 6)
    field = np.fft.irfft2(np.fft.rfft2(white) / radius**slope, s=(TILE, TILE))
    field -= field.mean()
    return (field / field.std()).astype(np.float32)


def texture(slope: float, u: Array, v: Array) -> Array:
    """Noise at texel coordinates `u` and `v`, (H, W) each or broadcast to that."""
    u, v = np.broadcast_arrays(u, v)
    return cv2.remap(
        noise_tile(slope),
        np.ascontiguousarray(u, np.float32),
        np.ascontiguousarray(v, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


@dataclass(frozen=True)
class Light:
    """The hour and the weather: colours in 0..1, `haze` in 1 / metre, `sun_x` from -1 to 1."""

    kind: str
    zenith: Array
    horizon: Array
    sun: Array
    ambient: Array
    haze: float
    clouds: float
    sun_x: float

    def on(self, albedo: Array, lit: ArrayLike = 0.8) -> Array:
        """Light reflected by a surface; `lit` in 0..1 is how far it faces the sun."""
        return albedo * (self.ambient + self.sun * spread(lit))


_WEATHER = {  # zenith, horizon, sun, ambient, visibility in metres, clouds, share
    "clear": ((0.22, 0.43, 0.77), (0.70, 0.82, 0.93), (0.72, 0.66, 0.55), (0.42, 0.46, 0.54)),
    "hazy": ((0.52, 0.62, 0.74), (0.85, 0.86, 0.86), (0.40, 0.37, 0.32), (0.55, 0.56, 0.58)),
    "overcast": ((0.58, 0.61, 0.66), (0.79, 0.80, 0.82), (0.10, 0.10, 0.10), (0.66, 0.68, 0.71)),
    "sunset": ((0.30, 0.35, 0.57), (0.98, 0.63, 0.36), (0.80, 0.46, 0.22), (0.34, 0.31, 0.38)),
    "dusk": ((0.13, 0.17, 0.34), (0.60, 0.46, 0.50), (0.10, 0.07, 0.08), (0.30, 0.32, 0.43)),
}
_VISIBILITY = {"clear": 9000, "hazy": 700, "overcast": 2800, "sunset": 3500, "dusk": 4000}


def draw_light(rng: Rng) -> Light:
    """A random hour and weather."""
    kind = str(rng.choice(list(_WEATHER), p=[0.44, 0.14, 0.2, 0.14, 0.08]))
    zenith, horizon, sun, ambient = (pick(rng, [c], 0.06) for c in _WEATHER[kind])
    clouds = float(rng.uniform(0.55, 1.0) if kind == "overcast" else rng.beta(1.2, 1.6))
    visibility = _VISIBILITY[kind] * math.exp(0.35 * rng.normal())
    side = float(rng.choice([-1, 1]) * rng.uniform(0.25, 1))
    return Light(kind, zenith, horizon, sun, ambient, 1 / visibility, clouds, side)


class Canvas:
    """A picture and its label map under one camera and one light.

    World coordinates are metres: x to the right, y up from the ground, z away from the camera.

    Parameters
    ----------
    height, width
        Of the picture, in pixels.
    light
        What hazes and shades it.
    horizon
        Row of the horizon as a share of the height.
    eye
        Height of the camera above the ground, metres.
    centre
        Column of the vanishing point as a share of the width.
    """

    def __init__(
        self, height: int, width: int, light: Light,
        *, horizon: float, eye: float, centre: float = 0.5,
    ) -> None:  # fmt: skip
        self.height, self.width, self.light, self.eye = height, width, light, eye
        self.horizon, self.centre = horizon * height, centre * width
        self.focal = 0.95 * math.sqrt(height * width)
        self.size = math.sqrt(height * width)
        self.image: Array = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self._shade: Array = np.zeros((height, width), np.float32)
        self.ys = np.arange(height, dtype=np.float32)[:, None] + 0.5
        self.xs = np.arange(width, dtype=np.float32)[None] + 0.5

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column and row of a point of the world."""
        return (self.centre + self.focal * x / z, self.horizon - self.focal * (y - self.eye) / z)

    def hazed(self, colour: Array, z: ArrayLike) -> Array:
        """`colour` seen through `z` metres of air; shapes (..., 3) and (...)."""
        clear = spread(np.exp(-np.asarray(z, np.float32) * np.float32(self.light.haze)))
        return self.light.horizon + (colour - self.light.horizon) * clear

    def paint(self, box: tuple[slice, slice], alpha: Array, colour: Array, label: int) -> None:
        """Blend `colour` into a box of the picture with the weights `alpha` in 0..1."""
        target = self.image[box]
        target += spread(alpha) * (colour - target)
        self.labels[box][alpha > 0.45] = label

    def polygon(self, points: Sequence[tuple[float, float]], colour: Array, label: int) -> None:
        """Fill a polygon of (column, row) points, its edges smooth."""
        where = np.clip(np.array(points), -4 * self.size, 5 * self.size)
        x0, y0 = np.maximum(np.floor(where.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(where.max(0)).astype(int) + 1, (self.width, self.height))
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        corners = np.round((where - (x0 + 0.5, y0 + 0.5)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
        box = (slice(y0, y1), slice(x0, x1))
        self.paint(box, mask.astype(np.float32) / 255, colour, label)

    def stand(
        self, corners: Sequence[tuple[float, float, float]], colour: Array, label: int
    ) -> None:
        """Fill a polygon of world points, hazed at its first point's distance."""
        z = corners[0][2]
        self.polygon([self.project(*c) for c in corners], self.hazed(colour, z), label)

    def shadow(self, x: float, z: float, reach: float, strength: float = 0.5) -> None:
        """Darken the ground round a point, away from the sun; shadows do not add up."""
        strength *= min(1.0, 2.2 * float(self.light.sun.mean()) + 0.15)
        column, row = self.project(x - 0.5 * reach * self.light.sun_x, 0, z)
        rx = max(self.focal * reach / z, 1.0)
        ry = max(rx * min(0.5, self.eye / z + 0.04), 0.7)
        x0, x1 = max(int(column - rx), 0), min(int(column + rx) + 2, self.width)
        y0, y1 = max(int(row - ry), 0), min(int(row + ry) + 2, self.height)
        if x1 <= x0 or y1 <= y0:
            return
        away = ((self.xs[:, x0:x1] - column) / rx) ** 2 + ((self.ys[y0:y1] - row) / ry) ** 2
        old = self._shade[y0:y1, x0:x1]
        new = np.maximum(old, np.clip(1.3 * (1 - away), 0, strength))
        self.image[y0:y1, x0:x1] *= ((1 - new) / (1 - old))[..., None]
        old[:] = new


class Ground:
    """The plane under the camera: where each pixel below the horizon lies in the world.

    Attributes
    ----------
    box
        The rows below the horizon, for `Canvas.paint`.
    x, z
        (G, W) and (G, 1) metres.
    per_x, per_z
        (G, 1) pixels per metre across and along the line of sight.
    """

    def __init__(self, canvas: Canvas, rng: Rng) -> None:
        top = math.ceil(canvas.horizon)
        self.canvas = canvas
        self.box = (slice(top, canvas.height), slice(0, canvas.width))
        self.drop = np.maximum(canvas.ys[top:] - np.float32(canvas.horizon), 0.2)
        self.z = np.float32(canvas.focal * canvas.eye) / self.drop
        self.x = (canvas.xs - np.float32(canvas.centre)) * (self.z / np.float32(canvas.focal))
        self.per_x = np.float32(canvas.focal) / self.z
        self.per_z = self.drop**2 / np.float32(canvas.focal * canvas.eye)
        self.offset = rng.uniform(0, TILE, (8, 2)).astype(np.float32)

    def grain(self, metres: float, *, slope: float = 1.2, wide: float = 1.0, n: int = 0) -> Array:
        """(G, W) noise with features of some `metres`, `wide` times as long across; it fades
        where a feature gets smaller than a pixel. `n` in 0..7 gives independent ones."""
        step = FEATURE / metres
        u = self.x * np.float32(step / wide) + self.offset[n, 0]
        v = self.z * np.float32(step) + self.offset[n, 1]
        return texture(slope, u, v) * np.clip(1.5 * self.per_z * np.float32(metres), 0, 1)

    def paint(self, alpha: ArrayLike, albedo: Array, label: int, lit: ArrayLike = 0.8) -> None:
        """Lay a surface on the plane; `alpha` (G, W), `albedo` (3,) or (G, W, 3)."""
        shape = self.x.shape
        colour = self.canvas.hazed(self.canvas.light.on(albedo, lit), self.z)
        self.canvas.paint(
            self.box, np.broadcast_to(np.asarray(alpha, np.float32), shape), colour, label
        )

    def within(self, x_distance: Array) -> Array:
        """Cover of a strip from the signed distance in metres to its edge across, positive in."""
        return np.clip(x_distance * self.per_x + 0.5, 0, 1)

    def before(self, z_distance: Array) -> Array:
        """As `within`, along the line of sight."""
        return np.clip(z_distance * self.per_z + 0.5, 0, 1)
