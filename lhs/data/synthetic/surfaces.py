"""Sky, slopes and water."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike

from lhs.data.synthetic.canvas import TILE, Array, Canvas, Ground, Label, Rng, rgb, spread, texture


def smooth(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, an s-curve between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: ArrayLike, b: ArrayLike, share: ArrayLike) -> Array:
    """(1 - share) a + share b for colours a and b, share without the colour axis."""
    a = np.asarray(a, np.float32)
    return a + (np.asarray(b, np.float32) - a) * spread(share)


def sky(canvas: Canvas, rng: Rng) -> None:
    """Fill the canvas with the sky: gradient, glow of the sun, clouds that recede."""
    light, size = canvas.light, np.float32(canvas.size)
    above = np.maximum(np.float32(canvas.horizon) - canvas.ys, 0) / size
    image = mix(light.horizon, light.zenith, smooth(above**0.8, -0.02, 0.75))
    image = np.repeat(image, canvas.width, axis=1)
    sun = canvas.centre + 0.6 * canvas.width * light.sun_x
    glow = {"sunset": 0.75, "dusk": 0.35, "clear": 0.12, "hazy": 0.15, "overcast": 0.0}[light.kind]
    near = np.exp(-(((canvas.xs - np.float32(sun)) / size) ** 2) * 3 - above * 5)
    image += np.float32(glow) * near[..., None] * rgb(0.5, 0.3, 0.05)
    if light.clouds > 0.15:
        # A flat layer of cloud: the lower in the picture, the farther and the flatter.
        far = 1 / (above + 0.12)
        scale, u0, v0 = rng.uniform(20, 60), rng.uniform(0, TILE), rng.uniform(0, TILE)
        u = (canvas.xs - np.float32(canvas.centre)) / size * far * np.float32(scale)
        u = u + np.float32(u0)
        v = far * np.float32(0.9 * scale) + np.float32(v0)
        density = texture(1.8, u, v)
        thick = smooth(density, 1.1 - 2.2 * light.clouds, 2.0 - 1.4 * light.clouds)
        shade = smooth(texture(1.8, u - np.float32(5 * light.sun_x), v - 4) - density, -0.5, 0.5)
        bright = np.minimum(light.ambient * 0.9 + light.sun * 0.62 + 0.12, 1.05)
        if light.kind == "sunset":
            bright = mix(bright, rgb(1.0, 0.62, 0.45), np.float32(0.6))
        dim = mix(light.ambient * 0.95, light.horizon, np.float32(0.35))
        image = mix(image, mix(bright, dim, shade), thick * smooth(above, -0.05, 0.2) * 0.92)
    canvas.image[:] = image
    canvas.labels[:] = Label.SKY


def profile(canvas: Canvas, rng: Rng, height: float, waves: float, *, sharp: bool = False) -> Array:
    """(W,) rows of a skyline, `height` a share of the picture's size, `waves` across it."""
    u = (canvas.xs / np.float32(canvas.size) * np.float32(waves * 16)) + rng.uniform(0, TILE)
    noise = texture(1.7, u.astype(np.float32), np.full((1, 1), rng.uniform(0, TILE), np.float32))[0]
    if sharp:
        noise = 1.1 - 1.6 * np.abs(noise)
    rise = np.maximum(1 + 0.6 * noise, 0.04)
    return np.float32(canvas.horizon) - np.float32(canvas.size * height) * rise


def ridge(
    canvas: Canvas, rng: Rng, top: Array, label: int, distance: float,
    colours: tuple[ArrayLike, ArrayLike],
    *, relief: float = 0.5, grain: float = 30.0, snow: float = 0.0,
) -> None:  # fmt: skip
    """A slope below the skyline `top` (W,), down to the horizon.

    Parameters
    ----------
    colours
        Of its heights and of its foot: rock and forest, say.
    relief, grain
        Strength of its shading, and texels of noise across the picture's size.
    snow
        The share of its height that lies under snow, from the top.
    """
    y0 = int(np.clip(math.floor(float(top.min())) - 1, 0, canvas.height - 1))
    y1 = min(math.ceil(canvas.horizon) + 1, canvas.height)
    if y1 <= y0:
        return
    ys = canvas.ys[y0:y1]
    below = (ys - top) / np.float32(canvas.size)
    tall = np.maximum(np.float32(canvas.horizon) - top, 1) / np.float32(canvas.size)
    level = 1 - below / tall
    step = np.float32(grain / canvas.size * 10)
    u = canvas.xs * step + np.float32(rng.uniform(0, TILE)) + below * np.float32(40 * grain / 30)
    v = below * np.float32(canvas.size) * step + np.float32(rng.uniform(0, TILE))
    body = texture(1.5, u, v)
    side = texture(1.5, u + np.float32(6 * np.sign(canvas.light.sun_x)), v - 2) - body
    lit = np.clip(0.5 - np.float32(relief) * side, 0, 1.1)
    albedo = mix(colours[1], colours[0], smooth(level + 0.22 * body, 0.25, 0.75))
    if snow:
        white = smooth(level + 0.16 * body, 1 - snow, 1.08 - snow)
        albedo = mix(albedo, rgb(0.9, 0.92, 0.96), white)
    albedo = albedo * (1 + np.float32(0.12 * relief) * spread(body))
    colour = canvas.hazed(canvas.light.on(albedo, lit), distance)
    alpha = np.clip(below * np.float32(canvas.size) + 0.5, 0, 1)
    alpha = alpha * np.clip(np.float32(canvas.horizon + 0.5) - ys + 0.5, 0, 1)
    canvas.paint((slice(y0, y1), slice(0, canvas.width)), alpha, colour, label)


def water(ground: Ground, rng: Rng, alpha: Array, deep: ArrayLike, rough: float) -> None:
    """Water that mirrors what has been painted above the horizon.

    Parameters
    ----------
    alpha
        (G, W) where it is.
    deep
        (3,) or (G, W, 3), the colour of the water itself.
    rough
        0 for a mirror, 1 for a sea with waves.
    """
    canvas = ground.canvas
    light, size = canvas.light, np.float32(canvas.size)
    waves = 0.6 * ground.grain(5 * rough + 0.5, wide=3.5, n=6)
    waves += 0.5 * ground.grain(1.5 * rough + 0.3, wide=2.5, n=7)
    drop = ground.drop
    away = drop * np.float32(1 + 0.8 * rough) + waves * drop * np.float32(0.12 + 0.4 * rough)
    rows = np.clip(np.float32(canvas.horizon) - np.abs(away) - 1, 0, None)
    columns = np.broadcast_to(canvas.xs - 0.5, waves.shape) + waves * size * np.float32(0.008)
    mirrored = cv2.remap(
        canvas.image,
        np.ascontiguousarray(columns, np.float32),
        np.ascontiguousarray(rows, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if rough > 0.3:  # a rough sea mirrors the whole sky, not one part of it
        mirrored = mix(mirrored, 0.6 * light.horizon + 0.4 * light.zenith, np.float32(0.7 * rough))
    share = np.clip(0.85 - 0.55 * np.sqrt(drop / size) - 0.22 * waves * rough, 0.12, 0.9)
    colour = mix(light.on(np.asarray(deep, np.float32)), mirrored, share)
    colour *= (1 + np.float32(0.10 + 0.08 * rough) * waves)[..., None]
    sun = np.float32(canvas.centre + 0.6 * canvas.width * light.sun_x)
    path = np.exp(-(((canvas.xs - sun) / (0.12 * size + drop * 0.4)) ** 2))
    glitter = path * smooth(waves, 0.1, 1.0) * np.float32(0.5 * float(light.sun.mean()))
    colour += glitter[..., None] * (light.sun + 0.25)
    canvas.paint(ground.box, alpha, canvas.hazed(colour, ground.z * np.float32(0.6)), Label.WATER)
