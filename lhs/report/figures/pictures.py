"""The legend of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lhs.report.figures.style import LIGHT, SMALL, Theme, new_figure

LINE = 0.27


def legend(
    class_names: Sequence[str],
    colours: np.ndarray,
    present: Sequence[int] | np.ndarray,
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the colours of the classes that occur, with their names.

    Parameters
    ----------
    class_names
        L names.
    colours
        (L, 3) uint8.
    present
        Ids of the classes to show; void ids are skipped.
    theme
        Colours of text and ground.

    Returns
    -------
    Figure
        One swatch and one name per class.
    """
    ids = [int(i) for i in present if 0 <= int(i) < len(class_names)]
    entries = [(class_names[i], tuple(np.asarray(colours)[i] / 255)) for i in ids]
    width = 6.0
    height = _legend_height(entries, width - 0.4) + 0.3
    figure = new_figure(width, height, theme)
    _draw_legend(figure, entries, left=0.2, top=height - 0.15, width=width - 0.4, theme=theme)
    return figure


def _legend_columns(entries: Sequence[tuple[str, object]], width: float) -> int:
    longest = max((len(name) for name, _ in entries), default=1)
    return max(1, int(width // (0.45 + 0.091 * longest)))


def _legend_height(entries: Sequence[tuple[str, object]], width: float) -> float:
    return LINE * max(math.ceil(len(entries) / _legend_columns(entries, width)), 1)


def _draw_legend(
    figure: Figure, entries: Sequence[tuple[str, tuple[float, ...]]],
    *, left: float, top: float, width: float, theme: Theme,
) -> None:  # fmt: skip
    full_width, full_height = figure.get_size_inches()
    columns = _legend_columns(entries, width)
    for index, (name, colour) in enumerate(entries):
        x = left + (index % columns) * width / columns
        middle = top - LINE * (index // columns + 0.5)
        figure.add_artist(
            Rectangle(
                (x / full_width, (middle - 0.075) / full_height),
                0.22 / full_width, 0.15 / full_height, transform=figure.transFigure,
                facecolor=colour, edgecolor=theme.muted, linewidth=0.4,
            )
        )  # fmt: skip
        # Centring by the letters' box would shift words with and without descenders apart.
        baseline = (middle - 0.36 * SMALL / 72) / full_height
        figure.text(
            (x + 0.3) / full_width, baseline, name, va="baseline", fontsize=SMALL,
            color=theme.ink, parse_math=False,
        )  # fmt: skip
