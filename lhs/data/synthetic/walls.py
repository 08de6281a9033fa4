"""Upright things in perspective: facades, houses and fences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lhs.data.synthetic.canvas import TILE, Array, Canvas, Label, Rng, pick, rgb, spread, texture
from lhs.data.synthetic.surfaces import mix

Place = tuple[float, float, float]


class Upright(NamedTuple):
    """The pixels of an upright rectangle in the world; `u` along it and `v` up, metres."""

    box: tuple[slice, slice]
    u: Array  # (1, w)
    v: Array  # (h, w)
    du: Array  # (1, w) metres of u in a pixel
    dv: Array  # (1, w)
    z: Array  # (h, w) distance
    cover: Array  # (h, w)


def _upright(canvas: Canvas, top: float, side: Place | None, front: Place | None) -> Upright | None:
    """See `facade` for the place; None where it is out of view."""
    focal = canvas.focal
    if side:
        x, near, far = side
        ends = sorted((canvas.project(x, 0, near)[0], canvas.project(x, 0, far)[0]))
    elif front:
        near, left, right = front
        ends = [canvas.project(left, 0, near)[0], canvas.project(right, 0, near)[0]]
    else:
        raise ValueError("a wall needs a side or a front")
    x0, x1 = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), canvas.width)
    if x1 <= x0:
        return None
    xs = canvas.xs[:, x0:x1]
    offset = xs - np.float32(canvas.centre)
    if side:
        offset = np.where(np.abs(offset) < 0.5, np.float32(math.copysign(0.5, x)), offset)
        z = np.clip(np.float32(focal * x) / offset, near, far).astype(np.float32)
        u, du = z, z * z / np.float32(focal * abs(x))
    else:
        z = np.full_like(xs, near)
        u, du = offset * np.float32(near / focal), np.full_like(xs, near / focal)
    dv = z / np.float32(focal)
    nearest = float(z.min())
    y0 = max(math.floor(canvas.project(0, top, nearest)[1]), 0)
    y1 = min(math.ceil(canvas.project(0, 0, nearest)[1]) + 1, canvas.height)
    if y1 <= y0:
        return None
    v = np.float32(canvas.eye) + (np.float32(canvas.horizon) - canvas.ys[y0:y1]) * dv
    cover = np.clip(v / dv + 0.5, 0, 1) * np.clip((np.float32(top) - v) / dv + 0.5, 0, 1)
    cover = cover * np.clip(xs - ends[0] + 0.5, 0, 1) * np.clip(ends[1] - xs + 0.5, 0, 1)
    box = (slice(y0, y1), slice(x0, x1))
    return Upright(box, u, v, du, dv, np.broadcast_to(z, v.shape), cover.astype(np.float32))


@dataclass(frozen=True)
class Style:
    """How a building's walls look; lengths in metres."""

    wall: Array
    storey: float
    bay: float
    wide: float  # share of a bay that is window
    tall: float  # share of a storey that is window
    ledge: float  # how far the lines between storeys stand out, -1..1
    shop: bool
    glow: float  # share of windows with a lamp on


def draw_style(rng: Rng, *, urban: bool, dark: bool) -> Style:
    """A random style: brick, plaster, concrete or glass."""
    glass = urban and rng.random() < 0.18
    walls = [(0.55, 0.32, 0.24), (0.66, 0.58, 0.46), (0.62, 0.61, 0.58), (0.78, 0.72, 0.60)]
    walls += [(0.45, 0.38, 0.33), (0.70, 0.52, 0.40), (0.42, 0.22, 0.18)] if urban else []
    walls += [] if urban else [(0.88, 0.86, 0.80), (0.85, 0.78, 0.66)]
    return Style(
        wall=pick(rng, [(0.4, 0.45, 0.5)] if glass else walls, 0.09),
        storey=rng.uniform(2.9, 3.8),
        bay=rng.uniform(1.4, 1.9) if glass else rng.uniform(1.8, 3.6),
        wide=rng.uniform(0.8, 0.92) if glass else rng.uniform(0.32, 0.62),
        tall=rng.uniform(0.75, 0.9) if glass else rng.uniform(0.42, 0.66),
        ledge=rng.uniform(-0.5, 0.5),
        shop=bool(urban and rng.random() < 0.6),
        glow=float(rng.uniform(0.15, 0.5) if dark else rng.uniform(0, 0.05)),
    )


def _pulse(t: Array, low: float, high: float, blur: Array) -> Array:
    """Cover of low < frac(t) < high, softened over `blur` periods, flat where that is large."""
    p = t - np.floor(t)
    soft = np.maximum(blur, 1e-4)
    edges = np.clip((p - low) / soft + 0.5, 0, 1) * np.clip((high - p) / soft + 0.5, 0, 1)
    sharp = np.clip(2.2 - 2.2 * blur, 0, 1)
    return edges * sharp + np.float32(high - low) * (1 - sharp)


def facade(
    canvas: Canvas, rng: Rng, style: Style,
    *, top: float, side: Place | None = None, front: Place | None = None,
) -> None:  # fmt: skip
    """One wall of a building, from the ground to `top` metres.

    Parameters
    ----------
    side
        (x, z0, z1): along the line of sight, at `x` from distance z0 to z1; or
    front
        (z, x0, x1): across it.
    """
    wall = _upright(canvas, top, side, front)
    if wall is None:
        return
    box, u, v, du, dv, z, cover = wall
    light = canvas.light
    lit = 0.5
    if side:
        lit = 0.15 if (light.sun_x > 0) == (side[0] > 0) else 0.85
    bays, storeys = u / np.float32(style.bay), v / np.float32(style.storey)
    pane = _pulse(bays, 0.5 - style.wide / 2, 0.5 + style.wide / 2, du / style.bay)
    low = 0.55 - style.tall / 2
    pane = pane * _pulse(storeys, low, low + style.tall, dv / style.storey)
    pane = pane * (v < top - 0.25 * style.storey)
    albedo = np.broadcast_to(style.wall, (*v.shape, 3))
    stain = texture(1.2, u * np.float32(9) + np.float32(rng.uniform(0, TILE)), v * np.float32(9))
    line = _pulse(storeys, 0.0, 0.1, dv / style.storey)
    cornice = np.clip((v - np.float32(top - 0.7)) / dv + 0.5, 0, 1)
    albedo = albedo * (1 + 0.07 * stain + 0.5 * style.ledge * line - 0.25 * cornice)[..., None]

    room = rng.random((16, 16), np.float32)
    one = room[np.floor(storeys).astype(np.int32) % 16, np.floor(bays).astype(np.int32) % 16]
    tint = mix(rgb(0.05, 0.06, 0.08), 0.75 * light.horizon, one * np.float32(0.75))
    tint = mix(tint, rgb(1.0, 0.82, 0.5), (one < style.glow).astype(np.float32))
    plain = light.on(albedo, lit)
    colour = mix(plain, tint, pane)
    if style.shop:
        board = np.clip((v - 3.1) / dv + 0.5, 0, 1) * np.clip((4.0 - v) / dv + 0.5, 0, 1)
        inside = _pulse(u / np.float32(4.5), 0.06, 0.94, du / np.float32(4.5))
        inside = inside * (v < 3.1) * (v > 0.5)
        paints = rng.random((8, 3)).astype(np.float32) * np.float32(0.75)
        which = paints[np.floor(u / np.float32(4.5)).astype(np.int32) % 8]
        ground_floor = np.clip((4.0 - v) / dv + 0.5, 0, 1)
        colour = mix(colour, plain * np.float32(0.8), ground_floor)
        display = rgb(0.9, 0.75, 0.5) if light.kind == "dusk" else rgb(0.13, 0.13, 0.15)
        colour = mix(colour, display + 0.06 * stain[..., None], inside * 0.9)
        colour = mix(colour, light.on(which, 0.6), board)
    canvas.paint(box, cover, canvas.hazed(colour, z), Label.BUILDING)


def house(canvas: Canvas, rng: Rng, x: float, z: float, wide: float) -> None:
    """A house with a pitched roof, its front towards the camera."""
    style = draw_style(rng, urban=False, dark=canvas.light.kind == "dusk")
    top = float(rng.uniform(0.3, 0.5) * wide)
    canvas.shadow(x, z, 0.7 * wide, 0.4)
    facade(canvas, rng, style, top=top, front=(z, x - wide / 2, x + wide / 2))
    tile = pick(rng, [(0.55, 0.24, 0.16), (0.36, 0.30, 0.28), (0.30, 0.32, 0.36)])
    a, b, peak = x - 0.55 * wide, x + 0.55 * wide, top + wide * float(rng.uniform(0.25, 0.4))
    roof = canvas.light.on(tile, 0.9)
    if rng.random() < 0.5:  # gable towards us: wall to the ridge
        gable = [(a, top, z), (b, top, z), (x, peak, z)]
        canvas.stand(gable, canvas.light.on(style.wall), Label.BUILDING)
        for end in (a, b):
            slope = [(end, top, z), (x, peak, z), (x, peak + 0.06 * wide, z)]
            canvas.stand([*slope, (end * 1.0, top + 0.06 * wide, z)], roof, Label.BUILDING)
    else:
        c, d = x - 0.38 * wide, x + 0.38 * wide
        canvas.stand([(a, top, z), (b, top, z), (d, peak, z), (c, peak, z)], roof, Label.BUILDING)


def fence(
    canvas: Canvas, rng: Rng, *, rail: bool, side: Place | None = None, front: Place | None = None
) -> None:
    """A guard rail or a plank fence; places as in `facade`."""
    light = canvas.light
    top = 0.8 if rail else float(rng.uniform(1.0, 1.5))
    planks = [(0.45, 0.33, 0.23), (0.85, 0.84, 0.8), (0.5, 0.45, 0.4)]
    albedo = pick(rng, [(0.62, 0.63, 0.64)] if rail else planks)
    wall = _upright(canvas, top, side, front)
    if wall is None:
        return
    box, u, v, du, dv, z, cover = wall
    posts = _pulse(u / 2, 0.0, 0.1, du / 2)
    if rail:
        bars = np.clip((v - np.float32(0.42)) / dv + 0.5, 0, 1)
        shade = 0.75 + 0.5 * np.abs(v - np.float32(0.62))
    else:
        bars = _pulse(u * np.float32(4.5), 0.08, 0.92, du * np.float32(4.5)) + 0 * v
        shade = 0.8 + 0.25 * bars
    lit = 0.3 + 0.4 * float(side is None or (light.sun_x > 0) != (side[0] > 0))
    colour = canvas.hazed(light.on(albedo * spread(shade), lit), z)
    canvas.paint(box, cover * np.maximum(posts, bars), colour, Label.FENCE)
    canvas.labels[box][cover > 0.5] = Label.FENCE  # the gaps, too, as annotators draw them
