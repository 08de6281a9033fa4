"""Parts that several scene types share: ground, hills, woods and towns."""

from __future__ import annotations

import numpy as np

from lhs.data.synthetic import sprites
from lhs.data.synthetic.canvas import Array, Canvas, Ground, Label, Rng, pick
from lhs.data.synthetic.palettes import GRASSES, LEAVES, ROCKS
from lhs.data.synthetic.placing import choose
from lhs.data.synthetic.surfaces import mix, profile, ridge, smooth
from lhs.data.synthetic.walls import draw_style, facade


def rough(ground: Ground, colour: Array, metres: float, strength: float, n: int = 0) -> Array:
    """`colour` (3,) with coarse and fine noise, (G, W, 3)."""
    fine = ground.grain(metres, slope=0.9, n=n)
    coarse = ground.grain(14 * metres, slope=1.5, n=n + 1)
    bright = 1 + np.float32(strength) * (fine + 0.8 * coarse)
    return np.clip(colour * bright[..., None], 0.01, 1)


def grass(ground: Ground, rng: Rng, alpha: Array | float = 1.0) -> Array:
    """Paint grass, in patches of two shades, and give its colour."""
    one, two = pick(rng, GRASSES), pick(rng, GRASSES)
    patches = smooth(ground.grain(25, slope=1.6, n=2), -0.6, 0.9)
    albedo = mix(one, two, patches * np.float32(0.7))
    bright = 1 + 0.20 * ground.grain(0.25, slope=0.8, n=0) + 0.10 * ground.grain(3, n=1)
    ground.paint(alpha, np.clip(albedo * bright[..., None], 0.01, 1), Label.GRASS)
    return one


def mountains(canvas: Canvas, rng: Rng, height: float, layers: int) -> None:
    """Ranges one before the other, the farthest first and the palest."""
    rock, forest = pick(rng, ROCKS), pick(rng, [*LEAVES[:3], (0.40, 0.40, 0.26)], 0.15)
    snow = float(rng.uniform(0.1, 0.4)) if rng.random() < 0.4 else 0.0
    for layer in range(layers):
        near = (layer + 1) / layers
        top = profile(canvas, rng, height * (1.15 - 0.5 * near), rng.uniform(1, 2.5), sharp=True)
        colours = mix(rock, forest, np.float32(0.35 * near)), forest * np.float32(0.9)
        white = snow * (1.2 - near)
        far = 7000 * (1.25 - near)
        ridge(canvas, rng, top, Label.MOUNTAIN, far, colours, relief=0.45 + 0.25 * near,
              grain=rng.uniform(14, 34), snow=white)  # fmt: skip


def hills(canvas: Canvas, rng: Rng, height: float) -> None:
    """Low wooded or bare hills: mountain, hard to tell from far trees."""
    top = profile(canvas, rng, height, rng.uniform(0.5, 1.5))
    foot = pick(rng, LEAVES[:4], 0.15)
    head = mix(foot, pick(rng, [*GRASSES, *ROCKS]), np.float32(0.4))
    far, colours = rng.uniform(1500, 5000), (head, foot)
    ridge(canvas, rng, top, Label.MOUNTAIN, far, colours, relief=0.3, grain=40)


def tree_line(canvas: Canvas, rng: Rng, height: float, distance: float) -> Array:
    """A wood along the horizon; gives the colour of its leaves."""
    leaf = pick(rng, LEAVES, 0.12)
    top = profile(canvas, rng, height, rng.uniform(1.5, 4))
    bumps = profile(canvas, rng, 0.012 + 0.12 * height, 26) - np.float32(canvas.horizon)
    colours = leaf * np.float32(1.2), leaf * np.float32(0.55)
    ridge(canvas, rng, top + bumps, Label.TREE, distance, colours, relief=0.9, grain=110)
    return leaf


def skyline(canvas: Canvas, rng: Rng, distance: float, count: int, tall: float) -> None:
    """A town far away: pale boxes on the horizon."""
    span = 0.55 * canvas.width * distance / canvas.focal
    middle, spread = rng.uniform(-span, span), rng.uniform(0.1, 0.35) * span
    for _ in range(count):
        style = draw_style(rng, urban=rng.random() < 0.4, dark=canvas.light.kind == "dusk")
        x, wide = middle + spread * rng.normal(), distance * rng.uniform(0.01, 0.035)
        top = tall * distance * rng.uniform(0.35, 1)
        z = distance * rng.uniform(0.95, 1.1)
        facade(canvas, rng, style, top=canvas.eye + top, front=(z, x - wide, x + wide))


def trees(
    canvas: Canvas, rng: Rng, places: list[tuple[float, float]], kinds: list[str], tall: float,
    leaf: Array | None = None,
) -> None:  # fmt: skip
    """Trees at (x, z), the farthest first."""
    for x, z in sorted(places, key=lambda place: -place[1]):
        own = pick(rng, LEAVES) if leaf is None else leaf
        kind = choose(rng, kinds)
        sprites.tree(canvas, rng, kind, (x, 0.0, z), tall * rng.uniform(0.7, 1.25), own)
