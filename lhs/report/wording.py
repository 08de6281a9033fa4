"""How the report writes numbers: one place, so that page, tables and figures agree."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
SCORE_NAMES = {"per_pixel": "per pixel", "per_class": "per class"}


def score(value: float) -> str:
    """Write a share in [0, 1] with three decimals; a dash where there is none (nan)."""
    return NOTHING if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Write a difference with its sign; `0.000` where it vanishes at three decimals."""
    if math.isnan(value):
        return NOTHING
    digits = f"{abs(value):.3f}"
    if float(digits) == 0:
        return digits
    return f"{'+' if value > 0 else MINUS}{digits}"


def with_interval(value: float, low: float, high: float) -> str:
    """Write a difference with its interval, where it has one: `+0.004 [-0.001, +0.009]`."""
    return signed(value) if math.isnan(low) else f"{signed(value)} [{signed(low)}, {signed(high)}]"


def estimate(value: float, low: float, high: float) -> str:
    """Write a score with its interval, where it has one: `0.926 [0.911, 0.940]`."""
    return score(value) if math.isnan(low) else f"{score(value)} [{score(low)}, {score(high)}]"


def direction(value: float) -> str:
    """Say `gain`, `loss` or `same` for a difference as `signed` writes it."""
    text = signed(value)
    return "gain" if text.startswith("+") else "loss" if text.startswith(MINUS) else "same"


def count(value: float) -> str:
    """Write a whole number with commas."""
    return f"{int(value):,}"


def number(value: float) -> str:
    """Write a positive number with three digits."""
    return NOTHING if math.isnan(value) else f"{value:.3g}"


def share(value: float) -> str:
    """Write a share in [0, 1] as a percentage with one decimal."""
    return NOTHING if math.isnan(value) else f"{100 * value:.1f} %"


def seconds(value: float) -> str:
    """Write a duration in the two units that matter."""
    if math.isnan(value):
        return NOTHING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plural(number: int, noun: str, several: str | None = None) -> str:
    """Write a count with its noun: `1 class`, `3 classes`."""
    return f"{count(number)} {noun if number == 1 else several or noun + 's'}"
