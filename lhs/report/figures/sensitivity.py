"""Scores against the settings that a sweep varies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lhs.report.figures.style import LIGHT, NARROW, WIDE, Theme, heading, new_figure, style_axes

SPREAD = 20
"""Times that the largest of scattered values exceeds the smallest before factors count."""
PANEL = 3.5
"""Inches of a setting's panel."""


def sensitivity(
    panels: Mapping[str, Mapping[float, Sequence[float]]],
    what: str,
    *,
    scattered: bool = False,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw a panel for each setting: a dot for each trial, a line through the means.

    Values are at equal distances, so that infinity has a place; `scattered` ones are to scale,
    without a line.

    Parameters
    ----------
    panels
        By setting: from its values, ascending, to the results of the trials at each.
    what
        Name of the results.
    scattered
        Whether values are those of a search, each its own.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        One axes for each setting, all with one scale.
    """
    count = max(1, len(panels))
    columns = min(count, max(1, int(width / PANEL)))
    rows = math.ceil(count / columns)
    figure = new_figure(max(NARROW, PANEL * columns), 3.4 * rows, theme, constrained=True)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.remove()
    axes = axes[:count]
    if not panels:
        axes[0].text(0.5, 0.5, "one setting: nothing varies", ha="center", color=theme.muted)
    for panel, (name, points) in zip(axes, panels.items(), strict=False):
        places = list(points) if scattered else [*range(len(points))]
        for place, found in zip(places, points.values(), strict=True):
            panel.plot([place] * len(found), found, "o", color=theme.common, markersize=5)
        if not scattered:
            means = [sum(found) / len(found) for found in points.values()]
            panel.plot(places, means, color=theme.common, linewidth=1.6)
            labels = ["inf" if math.isinf(value) else f"{value:g}" for value in points]
            panel.set_xticks(places, labels)
        elif places[0] > 0 and places[-1] / places[0] > SPREAD:
            panel.set_xscale("log")
        panel.margins(x=0.15, y=0.2)
        # The last two parts have room, and distinguish the rates of two phases.
        heading(panel, ".".join(name.split(".")[-2:]), theme)
    for first in axes[::columns]:
        first.set_ylabel(what, color=theme.muted)
    for panel in axes:
        style_axes(panel, theme, grid="y")
    return figure
