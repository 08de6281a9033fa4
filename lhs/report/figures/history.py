"""Training curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lhs.report.figures.style import LIGHT, SMALL, WIDE, Theme, new_figure, style_axes


def curves(history: pd.DataFrame, *, theme: Theme = LIGHT, width: float = WIDE) -> Figure:
    """Draw the training loss, smoothed within each phase, above the learning rate.

    Parameters
    ----------
    history
        One row per logged step: `step` (counted through all phases), `phase`, `loss`,
        `learning_rate`.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        Two axes that share the steps: loss, learning rate.
    """
    figure = new_figure(width, 5.2, theme, constrained=True)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    style_axes(top, theme, grid="y")
    style_axes(bottom, theme, grid="y")
    change = history["phase"].ne(history["phase"].shift()).cumsum()
    heights = 2 if width > WIDE / 2 else 4
    for position, (_, rows) in enumerate(history.groupby(change, sort=False)):
        steps = rows["step"].to_numpy(dtype=float)
        top.plot(steps, rows["loss"], color=theme.common, alpha=0.22, linewidth=0.8)
        span = max(len(rows) // 12, 1)
        smoothed = rows["loss"].astype(float).rolling(span, center=True, min_periods=1).mean()
        top.plot(steps, smoothed, color=theme.common, linewidth=1.8)
        bottom.plot(steps, rows["learning_rate"], color=theme.muted, linewidth=1.4)
        if position:
            for axes in (top, bottom):
                axes.axvline(steps[0], color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)))
        # Several heights, so that the names of short phases do not run into each other.
        top.annotate(
            str(rows["phase"].iloc[0]), (steps[0], 1.0), xycoords=("data", "axes fraction"),
            xytext=(2, 4 + 15 * (position % heights)), textcoords="offset points", fontsize=SMALL,
            color=theme.ink, parse_math=False,
        )  # fmt: skip
    values = history["loss"].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    if finite.size:
        # The first steps of a new layer may start far above: they must not flatten the rest.
        top.set_ylim(0, 1.08 * float(np.quantile(finite, 0.995)) or 1.0)
    bottom.set_ylim(bottom=0)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    bottom.yaxis.get_offset_text().set(color=theme.muted, fontsize=SMALL)
    top.set_ylabel("training loss", fontsize=SMALL, color=theme.muted)
    bottom.set_ylabel("learning rate", fontsize=SMALL, color=theme.muted)
    bottom.set_xlabel("step", fontsize=SMALL, color=theme.muted)
    return figure
