"""Small objects as sprites: trees, people, boats and signs.

A sprite is two (h, w, 3) float32 arrays: a fixed colour; and the weights of two colours chosen
when it is stamped, with the cover. All are multiplied by the cover. (Two, as OpenCV resizes no
more than four channels.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from lhs.data.synthetic.canvas import TILE, Array, Canvas, Label, Rng, noise_tile, pick, rgb, spread

EDGE = 128
KINDS = ("round", "conifer", "poplar", "palm", "person", "boat", "sign", "gantry", "lamp")
BARK = (0.26, 0.20, 0.15)
Points = Sequence[tuple[float, float]]
Sprite = tuple[Array, Array]


def resized(shape: Sprite, width: int, height: int) -> Sprite:
    """A sprite at another size."""
    how = cv2.INTER_AREA if max(width, height) <= shape[0].shape[0] else cv2.INTER_LINEAR
    one, two = (cv2.resize(half, (width, height), interpolation=how) for half in shape)
    return one.astype(np.float32, copy=False), two.astype(np.float32, copy=False)


class _Sheet:
    """A sprite while it is drawn, at twice its size, in coordinates from 0 to 1."""

    def __init__(self) -> None:
        self.layers = [np.zeros((2 * EDGE, 2 * EDGE), np.float32) for _ in range(6)]

    def fill(self, points: Points, values: Sequence[float]) -> None:
        corners = np.round(np.array(points) * 2 * EDGE * 16).astype(np.int32)
        for layer, value in zip(self.layers, (*values, 1.0), strict=True):
            cv2.fillPoly(layer, [corners], value, cv2.LINE_8, 4)

    def disc(self, x: float, y: float, rx: float, ry: float, values: Sequence[float]) -> None:
        turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
        self.fill(list(zip(x + rx * np.cos(turn), y + ry * np.sin(turn), strict=True)), values)

    def sprite(self, rough: float, row: int) -> Sprite:
        drawn: list[Array] = [np.dstack(self.layers[:3]), np.dstack(self.layers[3:])]
        if rough:  # leafy edges: push every pixel about by noise
            tile = np.roll(noise_tile(1.0), 97 * row, axis=0)
            ys, xs = np.mgrid[: 2 * EDGE, : 2 * EDGE].astype(np.float32)
            dx, dy = tile[: 2 * EDGE, : 2 * EDGE], tile[-2 * EDGE :, -2 * EDGE :]
            columns, rows = xs + np.float32(rough) * dx, ys + np.float32(0.8 * rough) * dy
            drawn = [cv2.remap(half, columns, rows, cv2.INTER_LINEAR) for half in drawn]
        return resized((drawn[0], drawn[1]), EDGE, EDGE)


def _leaf(rng: Rng, lit: float) -> tuple[float, float, float, float, float]:
    lit = float(np.clip(lit + 0.16 * rng.normal(), 0, 1))
    depth = 0.75 + 0.25 * rng.random()
    return (0.0, 0.0, 0.0, lit * depth, (1 - lit) * depth)


def _tree(sheet: _Sheet, kind: str, rng: Rng) -> None:
    bark = (*BARK, 0.0, 0.0)
    if kind == "palm":
        top = 0.5 + 0.1 * rng.normal()
        sheet.fill([(0.48, 1), (0.53, 1), (top + 0.015, 0.25), (top - 0.015, 0.25)], bark)
        for angle in rng.uniform(-0.35, np.pi + 0.35, 18):
            length, lit = rng.uniform(0.28, 0.45), 0.5 + 0.5 * np.cos(angle)
            dx, dy = np.cos(angle) * length, -np.sin(angle) * length
            bend = (top + 0.6 * dx, 0.25 + 0.6 * dy - 0.02)
            tip = (top + dx, 0.25 + dy + 0.16)
            leaf = [(top, 0.27), (bend[0], bend[1] - 0.03), tip, (bend[0], bend[1] + 0.05)]
            sheet.fill(leaf, _leaf(rng, lit))
        return
    sheet.fill([(0.46, 1), (0.54, 1), (0.52, 0.4), (0.48, 0.4)], bark)
    if kind == "conifer":
        for tier in np.linspace(0.92, 0.05, 15):
            half = 0.42 * tier**0.9 * rng.uniform(0.8, 1.1)
            for side, lit in ((-1, 0.2), (1, 0.75)):
                tip = (0.5 + side * half, tier + 0.05)
                sheet.fill([(0.5, tier - 0.16), tip, (0.5, tier + 0.02)], _leaf(rng, lit))
        return
    wide, low = (0.40, 0.70) if kind == "round" else (0.22, 0.86)
    lean = rng.uniform(-0.06, 0.06)
    for _ in range(80):  # leaf clumps, those that face the light (up and right) brighter
        angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * 0.85
        x, y = np.cos(angle) * away, np.sin(angle) * away
        lit = 0.45 + 0.4 * x - 0.45 * y
        radius = rng.uniform(0.1, 0.24)
        centre = (0.5 + lean + wide * x, low / 2 + low / 2 * y * 0.9)
        sheet.disc(*centre, radius * wide, radius * low / 2, _leaf(rng, lit))


def _person(sheet: _Sheet, rng: Rng) -> None:
    skin = (*(rgb(0.75, 0.56, 0.45) * rng.uniform(0.45, 1.1)).tolist(), 0.0, 0.0)
    shirt, trousers = (0, 0, 0, 1.0, 0), (0, 0, 0, 0, 1.0)
    step, arm = rng.uniform(0.0, 0.22), rng.uniform(-0.1, 0.15)
    for side, shade in ((-1, 0.75), (1, 1.0)):
        foot = 0.5 + side * step
        leg = [(0.40, 0.5), (0.60, 0.5), (foot + 0.08, 0.99), (foot - 0.1, 0.99)]
        sheet.fill(leg, (0, 0, 0, 0, shade))
        hand = 0.5 + side * (0.27 + arm)
        sleeve = [(0.5 + side * 0.2, 0.18), (hand, 0.48), (hand - side * 0.1, 0.5), (0.5, 0.3)]
        sheet.fill(sleeve, (0, 0, 0, 0.8 * shade, 0))
    torso = [(0.28, 0.19), (0.42, 0.15), (0.58, 0.15), (0.72, 0.19), (0.66, 0.55), (0.34, 0.55)]
    sheet.fill(torso, trousers if rng.random() < 0.15 else shirt)
    sheet.disc(0.5, 0.075, 0.13, 0.075, skin)
    sheet.disc(0.5, 0.05, 0.14, 0.05, (0.1, 0.07, 0.05, 0, 0))


def _thing(sheet: _Sheet, kind: str, rng: Rng) -> None:
    metal = (0.35, 0.36, 0.37, 0.0, 0.0)
    if kind == "boat":
        hull = [(0.03, 0.80), (0.99, 0.76), (0.88, 0.99), (0.14, 0.99)]
        if rng.random() < 0.6:
            sheet.fill([(0.47, 0.02), (0.49, 0.02), (0.5, 0.8), (0.46, 0.8)], metal)
            sheet.fill([(0.5, 0.05), (0.5, 0.74), (0.93, 0.72)], (0, 0, 0, 0, 1))
            sheet.fill([(0.45, 0.12), (0.45, 0.74), (0.1, 0.74)], (0, 0, 0, 0, 0.85))
        else:
            sheet.fill([(0.2, 0.55), (0.55, 0.5), (0.7, 0.8), (0.16, 0.8)], (0, 0, 0, 0, 1))
            window = [(0.24, 0.6), (0.5, 0.57), (0.55, 0.67), (0.24, 0.67)]
            sheet.fill(window, (0.1, 0.13, 0.16, 0, 0))
        sheet.fill(hull, (0, 0, 0, 1, 0))
        sheet.fill([(0.1, 0.9), (0.93, 0.9), (0.88, 0.99), (0.14, 0.99)], (0.12, 0.1, 0.1, 0.3, 0))
    elif kind == "lamp":
        sheet.fill([(0.44, 0.05), (0.56, 0.05), (0.58, 1), (0.42, 1)], metal)
        sheet.fill([(0.05, 0.0), (0.95, 0.0), (0.95, 0.3), (0.05, 0.3)], (0, 0, 0, 1, 0))
        sheet.fill([(0.2, 0.04), (0.8, 0.04), (0.8, 0.25), (0.2, 0.25)], (0, 0, 0, 0.1, 0.9))
    elif kind == "gantry":
        for x in (0.06, 0.88):
            sheet.fill([(x, 0.1), (x + 0.05, 0.1), (x + 0.05, 1), (x, 1)], metal)
        sheet.fill([(0.0, 0.0), (1, 0.0), (1, 0.62), (0, 0.62)], (0, 0, 0, 0.0, 1))
        sheet.fill([(0.02, 0.04), (0.98, 0.04), (0.98, 0.58), (0.02, 0.58)], (0, 0, 0, 1, 0))
        for y in (0.13, 0.33):
            right = rng.uniform(0.5, 0.9)
            sheet.fill([(0.1, y), (right, y), (right, y + 0.11), (0.1, y + 0.11)], (0, 0, 0, 0, 1))
    else:
        sheet.fill([(0.45, 0.2), (0.55, 0.2), (0.55, 1), (0.45, 1)], metal)
        corners = 3 if rng.random() < 0.3 else int(rng.choice([4, 20]))
        turn = np.linspace(0, 2 * np.pi, corners, endpoint=False) - np.pi / 2
        for radius, values in ((0.5, (0, 0, 0, 1, 0)), (0.34, (0, 0, 0, 0, 1))):
            xs, ys = 0.5 + radius * np.cos(turn), 0.21 + 0.42 * radius * np.sin(turn)
            sheet.fill(list(zip(xs, ys, strict=True)), values)


@cache
def sprite(kind: str, number: int, halved: int = 0) -> Sprite:
    """Variant `number` of a kind of object, its edge halved `halved` times."""
    if halved:
        larger = sprite(kind, number, halved - 1)
        edge = larger[0].shape[0] // 2
        return resized(larger, edge, edge)
    rng = np.random.default_rng([KINDS.index(kind), number])
    sheet = _Sheet()
    if kind in ("round", "conifer", "poplar", "palm"):
        _tree(sheet, kind, rng)
        rough = {"round": 4.5, "conifer": 3.0, "poplar": 4.0, "palm": 1.5}[kind]
        return sheet.sprite(rough, number)
    if kind == "person":
        _person(sheet, rng)
    else:
        _thing(sheet, kind, rng)
    return sheet.sprite(0, number)


def stamp(
    canvas: Canvas, rng: Rng, kind: str, label: int, where: tuple[float, float, float],
    size: tuple[float, float], colours: tuple[Array, Array], *, mirrored: bool,
) -> None:  # fmt: skip
    """Put a sprite's foot at a point of the world (x, y, z), `size` = width, height in metres."""
    x, y, z = where
    column, foot = canvas.project(x, y, z)
    wide, tall = (max(canvas.focal * metres / z, 1.0) for metres in size)
    left, top = column - wide / 2, foot - tall
    x0, x1 = max(round(left), 0), min(round(left + wide), canvas.width)
    y0, y1 = max(round(top), 0), min(round(foot), canvas.height)
    number = int(rng.integers(12))
    if x1 <= x0 or y1 <= y0:
        return
    # Sample the visible part only, from the version that is at most twice as large.
    halved = int(np.clip(np.log2(EDGE / max(wide, tall)), 0, 5))
    shape = sprite(kind, number, halved)
    edge = shape[0].shape[0]
    sx, sy = edge / wide, edge / tall
    first = (x0 + 0.5 - left) * sx - 0.5
    matrix = np.array([[sx, 0, first], [0, sy, (y0 + 0.5 - top) * sy - 0.5]])
    if mirrored:
        matrix[0] = (-sx, 0, edge - 1 - first)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fixed, weights = (cv2.warpAffine(half, matrix, (x1 - x0, y1 - y0), flags=how) for half in shape)
    light = canvas.light
    clear = np.float32(np.exp(-z * light.haze))
    mixing = np.stack([colours[0] * clear, colours[1] * clear, light.horizon * (1 - clear)], 1)
    colour = cv2.transform(weights, mixing)
    colour += fixed * ((light.ambient + np.float32(0.6) * light.sun) * clear)
    cover = np.ascontiguousarray(weights[..., 2])
    if label == Label.TREE and tall > 40:
        v, u = rng.integers(0, 256, 2)
        leaves = noise_tile(1.0).take(np.arange(v, v + y1 - y0) % TILE, 0)
        leaves = leaves.take(np.arange(u, u + x1 - x0) % TILE, 1)
        bright = 1 + np.float32(0.16) * leaves
        if tall > EDGE:  # a sprite drawn larger than it is has soft edges: make them leafy
            ragged = np.clip(cover * (1.3 + 0.5 * leaves) - 0.15, 0, 1) * (cover > 0.02)
            bright *= ragged / np.maximum(cover, np.float32(1e-3))
            cover = ragged
        colour *= spread(bright)
    target = canvas.image[y0:y1, x0:x1]
    target *= spread(1 - cover)
    target += colour
    canvas.labels[y0:y1, x0:x1][cover > 0.42] = label


def tree(
    canvas: Canvas, rng: Rng, kind: str, where: tuple[float, float, float], tall: float, leaf: Array
) -> None:
    """One tree, `leaf` the albedo of its leaves."""
    wide = tall * {"round": 0.95, "conifer": 0.45, "poplar": 0.5, "palm": 0.75}[kind]
    own: Array = leaf * np.float32(1 + 0.1 * rng.normal())
    if kind == "conifer":
        own = 0.35 * own + 0.65 * rgb(0.14, 0.26, 0.13)
    light = canvas.light
    sunny = light.on(own, 1.1) * np.float32(1.15)
    colours = (sunny, light.on(own, 0.0) * rgb(0.55, 0.62, 0.7))
    size = (wide * rng.uniform(0.8, 1.2), tall)
    if where[1] == 0 and where[2] < 45:
        canvas.shadow(where[0], where[2], 0.45 * wide)
    stamp(canvas, rng, kind, Label.TREE, where, size, colours, mirrored=light.sun_x < 0)


def person(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """Someone standing or walking."""
    palette = [(0.7, 0.15, 0.12), (0.15, 0.25, 0.55), (0.85, 0.85, 0.82), (0.1, 0.1, 0.12)]
    shirt = canvas.light.on(pick(rng, [*palette, (0.75, 0.6, 0.2), (0.3, 0.45, 0.3)], 0.15))
    trousers = canvas.light.on(pick(rng, [(0.12, 0.15, 0.25), (0.1, 0.1, 0.1), (0.5, 0.42, 0.32)]))
    tall = rng.uniform(1.5, 1.9)
    canvas.shadow(x, z, 0.45)
    where, size = (x, 0.0, z), (0.36 * tall, tall)
    colours = (shirt, trousers)
    stamp(canvas, rng, "person", Label.PERSON, where, size, colours, mirrored=rng.random() < 0.5)


def boat(canvas: Canvas, rng: Rng, x: float, z: float, long: float) -> None:
    """A sailing or motor boat and its blurred image in the water."""
    hull = canvas.light.on(pick(rng, [(0.9, 0.9, 0.88), (0.5, 0.12, 0.1), (0.12, 0.2, 0.4)]))
    sail = canvas.light.on(pick(rng, [(0.93, 0.92, 0.88), (0.85, 0.75, 0.6)], 0.05))
    canvas.shadow(x, z, 0.5 * long, 0.3)
    size = (long, long * rng.uniform(0.75, 1.3))
    mirrored = rng.random() < 0.5
    stamp(canvas, rng, "boat", Label.BOAT, (x, 0.0, z), size, (hull, sail), mirrored=mirrored)


def sign(canvas: Canvas, rng: Rng, x: float, z: float, kind: str) -> None:
    """A road sign ("sign"), a signboard over posts ("gantry") or a traffic light ("lamp")."""
    faces = [(0.05, 0.25, 0.6), (0.75, 0.08, 0.08), (0.9, 0.75, 0.1)]
    back = [(0.9, 0.9, 0.9)]
    if kind == "gantry":
        faces = [(0.04, 0.35, 0.2), (0.05, 0.2, 0.5)]
    elif kind == "lamp":
        faces, back = [(0.08, 0.09, 0.08)], [(0.8, 0.15, 0.1), (0.2, 0.7, 0.35)]
    size = {"sign": (0.9, 2.6), "gantry": (4.5, 4.2), "lamp": (0.5, 3.2)}[kind]
    colours = (canvas.light.on(pick(rng, faces), 0.9), canvas.light.on(pick(rng, back, 0.05), 0.9))
    scale = rng.uniform(0.85, 1.25)
    size = (size[0] * scale, size[1] * scale)
    stamp(canvas, rng, kind, Label.SIGN, (x, 0.0, z), size, colours, mirrored=False)
