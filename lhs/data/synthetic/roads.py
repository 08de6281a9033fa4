"""Scene types round a road: city street and highway."""

from __future__ import annotations

import numpy as np

from lhs.data.synthetic import sprites
from lhs.data.synthetic.canvas import Canvas, Ground, Label, Rng, pick, rgb, spread
from lhs.data.synthetic.palettes import ASPHALTS, LEAVES, PAVINGS, SANDS
from lhs.data.synthetic.parts import grass, hills, rough, skyline, tree_line, trees
from lhs.data.synthetic.placing import Crowd, choose
from lhs.data.synthetic.surfaces import sky
from lhs.data.synthetic.vehicles import vehicle
from lhs.data.synthetic.walls import draw_style, facade, fence


def street(canvas: Canvas, rng: Rng) -> None:
    """A city street between facades, with pavements, cars, trees and people."""
    sky(canvas, rng)
    dark = canvas.light.kind == "dusk"
    if rng.random() < 0.3:
        hills(canvas, rng, rng.uniform(0.03, 0.08))
    ground = Ground(canvas, rng)
    half, pave = float(rng.uniform(3.2, 6.5)), float(rng.uniform(2.2, 6))
    bright = pick(rng, PAVINGS)
    slabs = rough(ground, bright, 0.4, 0.05, n=3)
    for pixels in (ground.x, np.broadcast_to(ground.z, ground.x.shape)):
        joint = np.abs(pixels - np.round(pixels)) < 0.03
        slabs = slabs * spread(1 - np.float32(0.25) * (joint & (ground.per_x > 14)))
    ground.paint(1.0, slabs, Label.SIDEWALK)
    asphalt = pick(rng, ASPHALTS)
    wear = rough(ground, asphalt, 0.25, 0.05) * (1 + 0.05 * np.cos(ground.x * 2.2))[..., None]
    edge = np.float32(half) - np.abs(ground.x)
    edging = np.broadcast_to(bright * 1.1, slabs.shape)
    ground.paint(ground.within(edge + 0.18), edging, Label.SIDEWALK)
    ground.paint(ground.within(edge), wear, Label.ROAD)
    _markings(ground, rng, [0.0], half - 2.3 if rng.random() < 0.5 else None)
    if rng.random() < 0.4:
        z = float(rng.uniform(5, 16))
        bars = ground.within(0.25 - np.abs(np.mod(ground.x, 1.0) - 0.5)) * ground.within(edge - 0.2)
        bars = bars * ground.before(1.4 - np.abs(ground.z - np.float32(z)))
        ground.paint(bars * 0.8, rgb(0.82, 0.82, 0.8), Label.ROAD)
    wall = half + pave
    shade = 0.45 * min(1.0, float(canvas.light.sun.mean()) * 1.6)
    reach = float(np.sign(canvas.light.sun_x)) * ground.x + float(rng.uniform(-6, 4))
    canvas.image[ground.box] *= (1 - shade * ground.within(reach))[..., None]
    # Facades from far to near on both sides, now and then a gap with trees.
    far = float(rng.uniform(120, 400))
    if rng.random() < 0.6:
        skyline(canvas, rng, far * 1.2, 6, 0.12)
    else:
        tree_line(canvas, rng, 0.03, far)
    for side in (-1, 1):
        tall, ends = float(rng.uniform(8, 30)), sorted((side * wall, side * (wall + 18)))
        row: list[tuple[float, float, float]] = []
        z = 1.0
        while z < far:
            long = float(rng.uniform(9, 28)) * max(1.0, z / 35)
            top = 0.0 if rng.random() < 0.1 else float(np.clip(tall * rng.uniform(0.6, 1.5), 6, 70))
            row.append((z, z + long, top))
            z += long
        for i in reversed(range(len(row))):
            start, end, top = row[i]
            if not top:
                deep = np.maximum(rng.uniform(start, end, 4), 4)
                spots = [(side * (wall + float(rng.uniform(1, 6))), float(d)) for d in deep]
                trees(canvas, rng, spots, ["round", "poplar"], 8)
                continue
            style = draw_style(rng, urban=True, dark=dark)
            facade(canvas, rng, style, top=top, side=(side * wall, start, end))
            if i and row[i - 1][2] < top:  # seen above its lower neighbour
                facade(canvas, rng, style, top=top, front=(start, ends[0], ends[1]))
    crowd = Crowd()
    lane, kerb = half / 2, half - 1.1
    for side in (-1, 1):
        if rng.random() < 0.75:
            for z in np.arange(rng.uniform(4, 9), 48, 6.2):
                if rng.random() < 0.6:
                    x = side * (kerb + rng.normal() * 0.1)
                    crowd.add(z, vehicle, x, float(z), False)
        if rng.random() < 0.55:
            leaf, tall = pick(rng, LEAVES), float(rng.uniform(4.5, 8))
            for z in np.arange(rng.uniform(5, 16), 70, rng.uniform(8, 15)):
                x = side * (half + 0.9)
                crowd.add(z, sprites.tree, "round", (x, 0.0, float(z)), tall, leaf)
    for _ in range(int(rng.poisson(1.2))):
        coming = bool(rng.random() < 0.5)
        x = -lane if coming else lane
        z = float(rng.uniform(8, 50))
        crowd.add(z, vehicle, 0.8 * x, z, coming)
    for _ in range(int(rng.poisson(4.5))):
        x = rng.choice([-1, 1]) * (half + rng.uniform(0.4, max(pave - 0.4, 0.5)))
        x = rng.uniform(-half, half) if rng.random() < 0.12 else x
        z = float(1 / rng.uniform(1 / 35, 1 / 5))
        crowd.add(z, sprites.person, float(x), z)
    for _ in range(int(rng.poisson(1.1))):
        x, kind = rng.choice([-1, 1]) * (half + 0.4), str(rng.choice(["sign", "lamp"]))
        z = float(rng.uniform(5, 22))
        crowd.add(z, sprites.sign, float(x), z, kind)
    crowd.paint(canvas, rng)


def highway(canvas: Canvas, rng: Rng) -> None:
    """Lanes to the vanishing point, rails, signs, woods beside and hills behind."""
    sky(canvas, rng)
    if rng.random() < 0.7:
        hills(canvas, rng, rng.uniform(0.04, 0.14))
    if rng.random() < 0.35:
        skyline(canvas, rng, rng.uniform(600, 1500), int(rng.integers(5, 14)), 0.1)
    if rng.random() < 0.8:
        tree_line(canvas, rng, rng.uniform(0.015, 0.05), rng.uniform(250, 700))
    ground = Ground(canvas, rng)
    grass(ground, rng)
    lanes, lane = int(rng.integers(2, 5)), 3.6
    half = lanes * lane / 2 + 0.6
    bend = np.float32(rng.normal() * 4e-4) * ground.z**2 * np.float32(ground.canvas.focal / 150)
    ground.x = ground.x - np.clip(bend, -60, 60)
    shift = float(rng.uniform(-0.5, 0.5) * lane * (lanes - 1))
    ground.x = ground.x - np.float32(shift)
    edge = np.float32(half) - np.abs(ground.x)
    verge = rough(ground, pick(rng, SANDS, 0.1), 0.3, 0.08, n=3)
    if rng.random() < 0.6:
        ground.paint(ground.within(edge + rng.uniform(0.8, 2.5)), verge, Label.SAND)
    wear = rough(ground, pick(rng, ASPHALTS), 0.3, 0.05)
    tracks = 1 - 0.05 * np.cos(ground.x * np.float32(4 * np.pi / lane))
    ground.paint(ground.within(edge), wear * tracks[..., None], Label.ROAD)
    lines = [(k - lanes / 2) * lane for k in range(1, lanes)]
    _markings(ground, rng, lines, half - 0.5)
    crowd = Crowd()

    def curve(z: float) -> float:
        row = int(np.argmin(np.abs(ground.z[:, 0] - z)))
        return shift + float(np.clip(bend[row, 0], -60, 60))

    tall = float(rng.uniform(6, 14))
    for side in (-1, 1):
        if rng.random() < 0.7:
            leaf = pick(rng, LEAVES)
            kinds = choose(rng, [["round"], ["conifer"], ["round", "poplar"]])
            inner = half + rng.uniform(5, 11)
            for z in 1 / rng.uniform(1 / 250, 1 / 14, int(rng.integers(6, 22))):
                x = side * (inner + rng.exponential(5)) + curve(z)
                crowd.add(z, trees, [(x, float(z))], kinds, tall, leaf)
        if rng.random() < 0.5:
            x = side * (half + 0.8)
            for start in np.geomspace(3, 100, 10):
                at = x + curve(start * 1.2)
                crowd.add(1.4 * start, fence, rail=True, side=(at, start, 1.5 * start))
        if rng.random() < 0.5:
            z, kind = float(rng.uniform(12, 45)), str(rng.choice(["gantry", "gantry", "sign"]))
            x = side * (half + 2.5 + (1.5 if kind == "gantry" else 0)) + curve(z)
            crowd.add(z, sprites.sign, x, z, kind)
    taken: set[tuple[int, int]] = set()
    for _ in range(int(rng.integers(1, 8))):
        k, z = int(rng.integers(lanes)), float(1 / rng.uniform(1 / 90, 1 / 7))
        if (k, int(z / 9)) in taken:
            continue
        taken.add((k, int(z / 9)))
        x = (k + 0.5 - lanes / 2) * lane + curve(z)
        coming = k < lanes / 2 and lanes % 2 == 0
        crowd.add(z, vehicle, x, z, coming)
    crowd.paint(canvas, rng)


def _markings(ground: Ground, rng: Rng, dashed: list[float], solid: float | None) -> None:
    """White or yellow lines along the road; they are road, too."""
    paint = pick(rng, [(0.85, 0.85, 0.82), (0.85, 0.85, 0.82), (0.85, 0.68, 0.2)], 0.04)
    dash = ground.before(np.abs(np.mod(ground.z, np.float32(9)) - 4.5) - 2.2)
    for x in dashed:
        line = np.abs(ground.x - np.float32(x))
        ground.paint(0.85 * dash * ground.within(0.09 - line), paint, Label.ROAD)
    if solid is not None:
        line = np.abs(np.abs(ground.x) - np.float32(solid))
        ground.paint(0.85 * ground.within(0.08 - line), paint, Label.ROAD)
