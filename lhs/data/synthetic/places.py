"""The scene types by name, and the composition of one scene."""

from __future__ import annotations

from collections.abc import Callable

from lhs.data.synthetic.canvas import Canvas, Light, Rng
from lhs.data.synthetic.nature import coast, country, forest, lake
from lhs.data.synthetic.roads import highway, street

# The painter of each scene type, and the ranges of its horizon (share of the height) and of the
# camera's height above the ground (metres).
PLACES: dict[
    str, tuple[Callable[[Canvas, Rng], None], tuple[float, float], tuple[float, float]]
] = {
    "coast": (coast, (0.3, 0.6), (2.5, 7)),
    "country": (country, (0.35, 0.62), (1.7, 6)),
    "forest": (forest, (0.4, 0.65), (1.6, 3.5)),
    "highway": (highway, (0.38, 0.6), (1.6, 4.5)),
    "lake": (lake, (0.42, 0.62), (2, 6)),
    "street": (street, (0.4, 0.6), (1.6, 3.2)),
}


def compose(name: str, height: int, width: int, light: Light, rng: Rng) -> Canvas:
    """Paint a scene of type `name`."""
    painter, horizon, eye = PLACES[name]
    canvas = Canvas(
        height,
        width,
        light,
        horizon=float(rng.uniform(*horizon)),
        eye=float(rng.uniform(*eye)),
        centre=float(rng.uniform(0.32, 0.68)),
    )
    painter(canvas, rng)
    return canvas
