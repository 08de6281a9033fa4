"""Differences of variants with their intervals, as one figure for several datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lhs.report.contrasts import Contrast
from lhs.report.figures.style import (
    LIGHT,
    SMALL,
    WIDE,
    Theme,
    add_legend,
    heading,
    new_figure,
    plain,
    style_axes,
)
from lhs.report.statistics import SCORES
from lhs.report.wording import SCORE_NAMES, signed


def contrasts(
    found: Mapping[str, Sequence[Contrast]], *, theme: Theme = LIGHT, width: float = WIDE
) -> Figure:
    """Draw a dot and its 95 % interval for each difference, a panel for each score.

    Parameters
    ----------
    found
        By dataset, which stands above its differences; one without an interval is left out.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        Two axes: per pixel, per class, with the same lines.
    """
    lines: list[tuple[str, dict[str, Contrast]]] = []
    for dataset, some in found.items():
        whole = [one for one in some if not np.isnan(one.difference.low)]
        if whole:
            lines.append((dataset, {}))
        for name in dict.fromkeys(one.name for one in whole):
            lines.append((name, {one.score: one for one in whole if one.name == name}))
    figure = new_figure(width, 1.3 + 0.27 * max(len(lines), 3), theme, constrained=True)
    for axes, score in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES, strict=True):
        style_axes(axes, theme, grid="x")
        axes.axvline(0, color=theme.muted, linewidth=0.9)
        for place, (_, by_score) in enumerate(lines):
            if score in by_score:
                difference = by_score[score].difference
                colour = theme.loss if by_score[score].primary else theme.common
                axes.hlines(place, difference.low, difference.high, color=colour, linewidth=1.6)
                axes.plot(difference.mean, place, "o", color=colour, markersize=5)
        axes.xaxis.set_major_formatter(lambda value, _: signed(value).rstrip("0").rstrip("."))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        heading(axes, SCORE_NAMES[score], theme)
        # The first line on top.
        axes.set_ylim(len(lines) - 0.4, -0.6)
    left = figure.axes[0]
    left.set_yticks(range(len(lines)), [name for name, _ in lines])
    plain(left.get_yticklabels())
    for label, (_, by_score) in zip(left.get_yticklabels(), lines, strict=True):
        label.set_color(theme.muted if by_score else theme.ink)
        label.set_fontweight("normal" if by_score else "bold")
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=5, label=text)
        for colour, text in ((theme.loss, "primary"), (theme.common, "others"))
    ]
    add_legend(figure, theme, handles=handles, loc="outside lower right", ncols=2)
    figure.supxlabel("difference, with its 95 % interval", fontsize=SMALL, color=theme.muted)
    return figure
