"""Scene types away from towns: coast, lake, country and forest."""

from __future__ import annotations

import numpy as np

from lhs.data.synthetic import sprites
from lhs.data.synthetic.canvas import Canvas, Ground, Label, Rng, pick, rgb
from lhs.data.synthetic.palettes import ASPHALTS, GRASSES, LEAVES, ROCKS, SANDS
from lhs.data.synthetic.parts import grass, hills, mountains, rough, skyline, tree_line, trees
from lhs.data.synthetic.placing import Crowd, choose, in_view, is_dry
from lhs.data.synthetic.surfaces import mix, profile, ridge, sky, smooth, water
from lhs.data.synthetic.vehicles import vehicle
from lhs.data.synthetic.walls import fence, house


def coast(canvas: Canvas, rng: Rng) -> None:
    """A beach, the sea and what lies at the horizon."""
    sky(canvas, rng)
    if rng.random() < 0.55:
        top = profile(canvas, rng, rng.uniform(0.05, 0.16), 0.8)
        column = canvas.xs[0] / canvas.width
        edge, way = rng.uniform(0.25, 0.75), rng.choice([-1, 1])
        land = smooth((column - np.float32(edge)) * np.float32(way), -0.15, 0.3)
        top = np.float32(canvas.horizon + 2) + (top - np.float32(canvas.horizon + 2)) * land
        colours = pick(rng, ROCKS), pick(rng, [*LEAVES[:3], *GRASSES[:2]])
        far = rng.uniform(600, 4000)
        ridge(canvas, rng, top, Label.MOUNTAIN, far, colours, relief=0.6, grain=30)
    if rng.random() < 0.6:
        far = rng.uniform(600, 1600)
        skyline(canvas, rng, far, int(rng.integers(4, 16)), rng.uniform(0.02, 0.07))
    ground = Ground(canvas, rng)
    seas = [(0.05, 0.20, 0.30), (0.08, 0.27, 0.30), (0.10, 0.22, 0.24), (0.16, 0.24, 0.25)]
    deep = pick(rng, seas)
    shallow = pick(rng, [(0.22, 0.45, 0.42), (0.32, 0.40, 0.34)])
    # The shore runs aslant; `inland` is how many metres a point lies behind it.
    slant = rng.uniform(-0.5, 0.5)
    shore = canvas.eye * rng.uniform(2.2, 7)
    bays = 0.12 * shore * ground.grain(1.1 * shore, slope=1.8, n=3)
    inland = np.float32(shore) + np.float32(slant) * ground.x - ground.z + bays
    depth = smooth(-inland, 0, 1.5 * shore)
    water(ground, rng, np.ones_like(inland), mix(shallow, deep, depth), rng.uniform(0.35, 1.0))
    surf = ground.grain(1.5, wide=3, n=4)
    for line in (0.4, rng.uniform(3, 6), rng.uniform(8, 14)):
        foam = np.exp(-((((-inland - line) / (0.5 + 0.06 * line)) + 0.5 * surf) ** 2))
        white = canvas.light.on(rgb(0.9, 0.92, 0.93))
        below, cover = canvas.image[ground.box], np.clip(foam, 0, 1) * 0.75
        below[:] = mix(below, canvas.hazed(white, ground.z), cover)
    for _ in range(int(rng.poisson(1.2))):
        z = float(rng.uniform(1.8, 6) * shore)
        x = float(rng.uniform(-0.45, 0.45) * canvas.width / canvas.focal * z)
        sprites.boat(canvas, rng, x, z, rng.uniform(0.10, 0.25) * shore + 3)
    sand = rough(ground, pick(rng, SANDS, 0.07), 0.3, 0.05)
    wet = smooth(inland, 0.0, 0.25 * shore)
    ground.paint(ground.before(inland), sand * (0.6 + 0.4 * wet[..., None]), Label.SAND)
    if rng.random() < 0.5:
        dune = inland - np.float32(shore * rng.uniform(0.45, 0.75)) + 3 * ground.grain(4, n=2)
        grass(ground, rng, ground.before(dune))
    if rng.random() < 0.45:
        side = rng.choice([-1, 1])
        near = [(float(side * rng.uniform(0.2, 0.5) * canvas.width / canvas.focal * z), z)
                for z in rng.uniform(0.45, 0.9, 4) * shore]  # fmt: skip
        trees(canvas, rng, near, ["palm", "palm", "round"], 7)
    half = 0.45 * canvas.width / canvas.focal
    for z in np.sort(rng.uniform(0.4, 0.95, int(rng.poisson(2.4))) * shore)[::-1]:
        x = float(rng.uniform(-half, half) * z)
        if is_dry(canvas, x, z):
            sprites.person(canvas, rng, x, float(z))
    if rng.random() < 0.2:
        z = shore * rng.uniform(0.35, 0.6)
        front = (z, rng.uniform(-6, 0) * z / 9, rng.uniform(1, 6) * z / 9)
        fence(canvas, rng, rail=False, front=front)


def lake(canvas: Canvas, rng: Rng) -> None:
    """Mountains over a lake that mirrors them, a shore in front."""
    sky(canvas, rng)
    mountains(canvas, rng, rng.uniform(0.13, 0.32), int(rng.integers(2, 5)))
    if rng.random() < 0.4:
        skyline(canvas, rng, rng.uniform(500, 1200), int(rng.integers(2, 7)), 0.02)
    leaf = pick(rng, LEAVES)
    if rng.random() < 0.75:
        leaf = tree_line(canvas, rng, rng.uniform(0.012, 0.05), rng.uniform(400, 1200))
    ground = Ground(canvas, rng)
    deep = pick(rng, [(0.06, 0.16, 0.20), (0.08, 0.26, 0.26), (0.10, 0.17, 0.13)])
    water(ground, rng, np.ones_like(ground.x), deep, rng.uniform(0.02, 0.3))
    shore = canvas.eye * rng.uniform(1.9, 4)
    far_side = rng.random() < 0.4
    if far_side:
        meadow = ground.z - np.float32(shore * rng.uniform(6, 12)) - 0.6 * ground.x * rng.normal()
        grass(ground, rng, ground.before(meadow))
    inland = np.float32(shore) + np.float32(rng.uniform(-0.4, 0.4)) * ground.x - ground.z
    inland = inland + 0.2 * shore * ground.grain(0.8 * shore, slope=1.7, n=5)
    for _ in range(int(rng.poisson(0.8))):
        z = float(rng.uniform(1.8, 4) * shore)
        x = float(rng.uniform(-0.4, 0.4) * canvas.width / canvas.focal * z)
        sprites.boat(canvas, rng, x, z, 0.25 * shore + 1.5)
    if rng.random() < 0.2:  # seen from the water
        return
    beach = float(rng.uniform(0.02, 0.4) * shore)
    gravel = rough(ground, pick(rng, [*SANDS, *ROCKS[:2]]), 0.35, 0.12, n=3)
    ground.paint(ground.before(inland), gravel, Label.SAND)
    grass(ground, rng, ground.before(inland - np.float32(beach)))
    half = 0.5 * canvas.width / canvas.focal
    crowd = Crowd()
    if rng.random() < 0.35:
        x, z = float(rng.uniform(-0.4, 0.4) * shore), float(shore * rng.uniform(0.75, 0.95))
        if is_dry(canvas, x, z):
            crowd.add(z, house, x, z, 0.35 * shore)
    kinds = choose(rng, [["conifer"], ["conifer", "round"], ["round"]])
    for z in rng.uniform(0.5, 0.95, int(rng.poisson(6))) * shore:
        x = float(rng.choice([-1, 1]) * rng.beta(3, 1.4) * half * z)
        if is_dry(canvas, x, z):
            crowd.add(z, trees, [(x, float(z))], kinds, 0.5 * shore, leaf)
    if rng.random() < 0.3:
        z = float(shore * rng.uniform(0.45, 0.7))
        ends = (-half * z, half * z * rng.uniform(-0.3, 1))
        crowd.add(z, fence, rail=False, front=(z, *ends))
    for z in rng.uniform(0.5, 0.9, int(rng.poisson(1.0))) * shore:
        x = float(rng.uniform(-half, half) * z)
        if is_dry(canvas, x, z):
            crowd.add(z, sprites.person, x, float(z))
    crowd.paint(canvas, rng)


def country(canvas: Canvas, rng: Rng) -> None:
    """Fields to the horizon, farms, hedges, a lane or a river."""
    sky(canvas, rng)
    if rng.random() < 0.35:
        mountains(canvas, rng, rng.uniform(0.05, 0.14), 2)
    elif rng.random() < 0.7:
        hills(canvas, rng, rng.uniform(0.03, 0.1))
    if rng.random() < 0.7:
        tree_line(canvas, rng, rng.uniform(0.008, 0.035), rng.uniform(400, 1200))
    if rng.random() < 0.4:
        skyline(canvas, rng, rng.uniform(500, 1000), int(rng.integers(3, 8)), 0.02)
    ground = Ground(canvas, rng)
    grass(ground, rng)
    turn, wide = rng.uniform(0, np.pi), float(rng.uniform(25, 70))
    across = ground.x * np.float32(np.cos(turn)) + ground.z * np.float32(np.sin(turn))
    along = ground.z * np.float32(np.cos(turn)) - ground.x * np.float32(np.sin(turn))
    i = np.floor(across / np.float32(wide)).astype(np.int32)
    j = np.floor(along / np.float32(2.2 * wide) + 0.37 * i).astype(np.int32)
    crop = [pick(rng, [*GRASSES, (0.72, 0.62, 0.30), (0.45, 0.36, 0.26)], 0.12) for _ in range(16)]
    albedo = np.array(crop, np.float32)[(7 * i + 3 * j) % 16]
    rows = np.sin(along * np.float32(2 * np.pi / 0.9)) * np.clip(0.35 * ground.per_z, 0, 1)
    bright = 1 + 0.16 * ground.grain(0.3, slope=0.8, n=3) + 0.10 * rows
    bright = bright + 0.08 * ground.grain(9, n=4)
    far_enough = ground.before(ground.z - np.float32(rng.uniform(4, 30)))
    ground.paint(far_enough, np.clip(albedo * bright[..., None], 0.01, 1), Label.GRASS)
    choice = rng.random()
    wander = np.float32(rng.uniform(-4, 4)) + np.float32(rng.normal() * 0.12) * ground.z
    wander = wander + 5 * np.sin(ground.z / np.float32(rng.uniform(12, 40)) + np.float32(turn))
    if choice < 0.4:
        half = float(rng.uniform(1.3, 2.6))
        stripe = half - np.abs(ground.x - wander) + 0.2 * ground.grain(1, n=5)
        paved = rng.random() < 0.5
        soil = pick(rng, ASPHALTS if paved else [(0.56, 0.47, 0.36), (0.62, 0.56, 0.46)])
        ground.paint(ground.within(stripe), rough(ground, soil, 0.3, 0.08, n=6), Label.ROAD)
        if rng.random() < 0.35:
            z = float(rng.uniform(9, 30))
            row = int(np.argmin(np.abs(ground.z[:, 0] - z)))
            vehicle(canvas, rng, float(wander[row, 0]), z, bool(rng.random() < 0.5))
    elif choice < 0.72:
        half = float(rng.uniform(3, 9))
        bank = ground.x - 2 * wander
        bed = half * (0.6 + ground.z / 60) - np.abs(bank) + 0.5 * ground.grain(3, n=5)
        mud = rough(ground, pick(rng, SANDS), 0.3, 0.1, n=6)
        ground.paint(ground.within(bed + rng.uniform(0.2, 1.5)), mud, Label.SAND)
        deep = pick(rng, [(0.12, 0.18, 0.14), (0.20, 0.19, 0.13), (0.07, 0.16, 0.18)])
        water(ground, rng, ground.within(bed), deep, rng.uniform(0.05, 0.25))
    crowd = Crowd()
    for x, z in in_view(rng, canvas, int(rng.poisson(1.2)), 25, 150):
        if is_dry(canvas, x, z):
            crowd.add(z, house, x, z, float(rng.uniform(8, 16)))
    kinds = choose(rng, [["round"], ["round", "poplar"], ["conifer", "round"]])
    for x, z in in_view(rng, canvas, int(rng.poisson(5)), 14, 200):
        if is_dry(canvas, x, z):
            crowd.add(z, trees, [(x, z)], kinds, 8)
    if rng.random() < 0.5:  # a hedge
        z, leaf = float(rng.uniform(40, 160)), pick(rng, LEAVES)
        for x in np.arange(-0.6, rng.uniform(-0.2, 0.6), 0.035) * z * canvas.width / canvas.focal:
            near = z + float(rng.uniform(-4, 4))
            crowd.add(near, trees, [(float(x), near)], ["round"], 5, leaf)
    if rng.random() < 0.4:
        z = float(rng.uniform(7, 18))
        ends = sorted(rng.uniform(-0.6, 0.6, 2) * z * canvas.width / canvas.focal)
        crowd.add(z, fence, rail=False, front=(z, ends[0], ends[1]))
    for x, z in in_view(rng, canvas, int(rng.poisson(0.5)), 8, 30):
        crowd.add(z, sprites.person, x, z)
    crowd.paint(canvas, rng)


def forest(canvas: Canvas, rng: Rng) -> None:
    """Dense woods: a wall of crowns beside a clearing, a path or a stream."""
    sky(canvas, rng)
    if rng.random() < 0.4:
        mountains(canvas, rng, rng.uniform(0.15, 0.3), 2)
    elif rng.random() < 0.5:
        hills(canvas, rng, rng.uniform(0.1, 0.2))
    leaf = tree_line(canvas, rng, rng.uniform(0.06, 0.28), rng.uniform(100, 400))
    ground = Ground(canvas, rng)
    floor = [(0.34, 0.29, 0.16), (0.38, 0.34, 0.18)] if rng.random() < 0.4 else GRASSES[:4]
    needles = rough(ground, pick(rng, floor), 0.25, 0.2, n=3)
    ground.paint(1.0, needles * np.float32(0.85), Label.GRASS)
    spotted = 1 - 0.35 * smooth(ground.grain(2.5, n=4), -0.2, 0.8)
    canvas.image[ground.box] *= spotted[..., None]
    half = float(rng.uniform(1.2, 3.0))
    wander = np.float32(rng.uniform(-1, 1))
    wander = wander + 2.5 * np.sin(ground.z / np.float32(rng.uniform(9, 25)))
    strip = half - np.abs(ground.x - wander) + 0.3 * ground.grain(1, n=5)
    choice = rng.random()
    if choice < 0.5:
        soil = pick(rng, [(0.50, 0.42, 0.32), (0.42, 0.36, 0.29), *ASPHALTS[:2]])
        ground.paint(ground.within(strip), rough(ground, soil, 0.3, 0.1, n=6), Label.ROAD)
        canvas.image[ground.box] *= (0.5 + 0.5 * spotted)[..., None]
    elif choice < 0.75:
        deep = pick(rng, [(0.10, 0.14, 0.10), (0.07, 0.13, 0.14)])
        water(ground, rng, ground.within(strip * 1.5), deep, 0.2)
    crowd = Crowd()
    kinds = choose(rng, [["conifer"], ["round"], ["round", "conifer"], ["round", "poplar"]])
    tall = float(rng.uniform(9, 18))
    clearing = half + float(rng.uniform(1.5, 9))
    for x, z in in_view(rng, canvas, int(rng.integers(26, 52)), 9, 120):
        row = int(np.argmin(np.abs(ground.z[:, 0] - z)))
        off = x - float(wander[row, 0])
        if abs(off) < clearing and z < 60:
            x += float(np.copysign(clearing + rng.exponential(2.0), off)) - off
        own = leaf if rng.random() < 0.7 else pick(rng, LEAVES)
        crowd.add(z, trees, [(x, z)], kinds, tall, own)
    if rng.random() < 0.2:
        x, z = float(rng.choice([-1, 1]) * rng.uniform(5, 9)), float(rng.uniform(22, 45))
        if is_dry(canvas, x, z):
            crowd.add(z, house, x, z, 8)
    if rng.random() < 0.15:
        z = float(rng.uniform(7, 14))
        crowd.add(z, fence, rail=False, front=(z, -0.6 * z, 0.1 * z))
    for x, z in in_view(rng, canvas, int(rng.poisson(0.6)), 6, 20):
        crowd.add(z, sprites.person, 0.4 * x, z)
    crowd.paint(canvas, rng)
