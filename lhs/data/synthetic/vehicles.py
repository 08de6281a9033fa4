"""Cars and vans, as boxes in perspective."""

from __future__ import annotations

import numpy as np

from lhs.data.synthetic.canvas import Canvas, Label, Rng, pick, rgb

PAINTS = [
    (0.8, 0.8, 0.8), (0.1, 0.1, 0.11), (0.45, 0.46, 0.48), (0.6, 0.08, 0.07), (0.08, 0.16, 0.4),
    (0.75, 0.74, 0.68), (0.15, 0.3, 0.2), (0.8, 0.6, 0.1),
]  # fmt: skip


def vehicle(canvas: Canvas, rng: Rng, x: float, z: float, oncoming: bool) -> None:
    """A car or, one in ten, a van: its side, then its back or front, each hazed and lit."""
    if z < 3:
        return
    light = canvas.light
    body = pick(rng, PAINTS)
    van = rng.random() < 0.1
    long, top, belt = (5.5, 2.5, 1.3) if van else (4.2, 1.5, 0.88)
    a, b = x - 0.9, x + 0.9
    glass = light.horizon * 0.35 + rgb(0.03, 0.04, 0.05)
    dark = rgb(0.04, 0.04, 0.045)
    canvas.shadow(x, z + 0.2 * long, 1.7, 0.75)
    far = z + long
    if a > 0.1 or b < -0.1:
        s = a if a > 0 else b
        i = s + (0.14 if a > 0 else -0.14)
        lit = 0.9 if (light.sun_x < 0) == (a > 0) else 0.15
        panel = light.on(body * np.float32(0.85), lit)
        canvas.stand([(s, 0.0, z), (s, 0.0, far), (s, 0.35, far), (s, 0.35, z)], dark, Label.CAR)
        canvas.stand([(s, 0.25, z), (s, 0.25, far), (s, belt, far), (s, belt, z)], panel, Label.CAR)
        back, front = (z + 0.1, far - 1.1) if not oncoming else (z + 1.1, far - 0.1)
        cabin = [(s, belt, back), (s, belt, front), (i, top, front - 0.5), (i, top, back + 0.4)]
        canvas.stand(cabin, panel * np.float32(0.4) + glass * np.float32(0.6), Label.CAR)
    panel = light.on(body, 0.55)
    low = canvas.project(x, 0, z)[1] - canvas.project(x, 1, z)[1]
    canvas.stand([(a + 0.02, 0, z), (b - 0.02, 0, z), (b, 0.4, z), (a, 0.4, z)], dark, Label.CAR)
    canvas.stand([(a, 0.28, z), (b, 0.28, z), (b, belt, z), (a, belt, z)], panel, Label.CAR)
    back = z + (1.1 if oncoming else 0.1)
    roof = [(a + 0.06, belt, z), (b - 0.06, belt, z), (b - 0.2, top, back), (a + 0.2, top, back)]
    canvas.stand(roof, panel * np.float32(1.05), Label.CAR)
    if low > 4:  # pixels a metre: enough to see windows and lights
        pane = [(a + 0.2, belt + 0.05, z), (b - 0.2, belt + 0.05, z)]
        pane += [(b - 0.3, top - 0.12, back), (a + 0.3, top - 0.12, back)]
        canvas.stand(pane, glass, Label.CAR)
        lamp = rgb(0.95, 0.93, 0.8) if oncoming else rgb(0.7, 0.06, 0.05)
        for c, d in ((a + 0.05, a + 0.35), (b - 0.35, b - 0.05)):
            canvas.stand([(c, 0.6, z), (d, 0.6, z), (d, 0.78, z), (c, 0.78, z)], lamp, Label.CAR)
