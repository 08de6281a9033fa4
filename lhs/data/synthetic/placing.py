"""Places of objects, and the order in which they are painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lhs.data.synthetic.canvas import Canvas, Label, Rng

T = TypeVar("T")


def choose(rng: Rng, options: Sequence[T]) -> T:
    """One of `options`."""
    return options[int(rng.integers(len(options)))]


class Crowd:
    """Objects added in any order and painted from far to near."""

    def __init__(self) -> None:
        self._things: list[tuple[float, Callable[..., None], Any, Any]] = []

    def add(self, z: float, paint: Callable[..., None], *args: Any, **options: Any) -> None:
        """Store `paint(canvas, rng, *args, **options)` for distance `z`."""
        self._things.append((float(z), paint, args, options))

    def paint(self, canvas: Canvas, rng: Rng) -> None:
        """Paint all of them."""
        for _, paint, args, options in sorted(self._things, key=lambda thing: -thing[0]):
            paint(canvas, rng, *args, **options)


def is_dry(canvas: Canvas, x: float, z: float) -> bool:
    """Whether a point in view lies neither in water nor on a road."""
    column, row = canvas.project(x, 0.0, z)
    if not (0 <= column < canvas.width and 0 <= row < canvas.height):
        return True
    return canvas.labels[int(row), int(column)] not in (Label.WATER, Label.ROAD)


def in_view(
    rng: Rng, canvas: Canvas, count: int, near: float, far: float
) -> list[tuple[float, float]]:
    """Random places in view on the ground, as many per picture area near as far."""
    z = 1 / rng.uniform(1 / far, 1 / near, count)
    half = 0.55 * canvas.width / canvas.focal
    return [(float(rng.uniform(-half, half) * d), float(d)) for d in z]
