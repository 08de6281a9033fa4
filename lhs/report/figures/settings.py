"""Settings side by side: their scores with intervals, and what matters in a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lhs.report.figures.style import (
    LIGHT,
    NARROW,
    SMALL,
    WIDE,
    Theme,
    heading,
    new_figure,
    plain,
    style_axes,
)

ROW = 0.34
"""Inches of a setting."""
LETTER = 0.085
"""Inches of a letter."""


def setting_scores(
    names: Sequence[str],
    panels: Mapping[str, Sequence[tuple[Sequence[float], float, float]]],
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw the scores of settings: a dot for each run, a diamond and a line for mean and interval.

    Parameters
    ----------
    names
        Of the settings, the first on top.
    panels
        By score: for each setting the values of its runs, and the ends of the interval (nan for
        none). The highest mean of each is drawn in the colour of gains and written beside it.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        One axes a score: side by side, on a narrow screen below each other.
    """
    narrow = width <= NARROW
    rows, columns = (len(panels), 1) if narrow else (1, len(panels))
    height = rows * (ROW * len(names) + 0.75) + 0.2
    figure = new_figure(width, height, theme, constrained=True)
    all_axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    most = max(8, int(width * (0.36 if narrow else 0.3) / LETTER))
    short = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
    for axes, (label, found) in zip(all_axes, panels.items(), strict=True):
        style_axes(axes, theme, grid="x")
        means = np.array([np.mean(values) for values, _, _ in found])
        best = -1 if np.isnan(means).all() else int(np.nanargmax(means))
        for place, (values, low, high) in enumerate(found):
            if math.isnan(means[place]):
                continue
            colour = theme.gain if place == best else theme.muted
            if not math.isnan(low):
                axes.hlines(place, low, high, color=colour, linewidth=2.2 if place == best else 1.3)
            if len(values) > 1:
                axes.plot(values, [place] * len(values), "o", color=theme.rare, markersize=4.5)
            axes.plot(means[place], place, "D", color=colour, markersize=6)
        if best >= 0:
            axes.annotate(
                f"best: {means[best]:.3f}", (means[best], best), xytext=(0, 7),
                textcoords="offset points", ha="center", fontsize=SMALL, color=theme.gain,
                fontweight="bold",
            )  # fmt: skip
        axes.set_ylim(len(names) - 0.4, -0.9)
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(3 if narrow else 4))
        axes.set_yticks(range(len(names)), short)
        plain(axes.get_yticklabels())
        axes.tick_params(axis="y", labelcolor=theme.ink)
        heading(axes, label, theme)
    return figure


def importance(shares: Mapping[str, float], *, theme: Theme = LIGHT, width: float = WIDE) -> Figure:
    """Draw the importance of settings, shares that sum to 1, as bars, the largest on top."""
    names = list(shares)
    figure = new_figure(min(width, 8.0), 0.4 * len(names) + 0.7, theme, constrained=True)
    axes = figure.subplots()
    style_axes(axes, theme, grid="x")
    places = np.arange(len(names))
    axes.barh(places, list(shares.values()), height=0.62, color=theme.common)
    for place, value in enumerate(shares.values()):
        axes.annotate(
            f"{100 * value:.0f} %", (value, place), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=theme.ink,
        )  # fmt: skip
    # The last two parts have room, and distinguish the rates of two phases.
    axes.set_yticks(places, [".".join(name.split(".")[-2:]) for name in names])
    plain(axes.get_yticklabels())
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(shares.values(), default=1.0) or 1.0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure
