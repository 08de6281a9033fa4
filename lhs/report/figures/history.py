"""The course of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lhs.report.figures.style import LIGHT, Theme, new_figure, style_axes


def curves(history: pd.DataFrame, *, theme: Theme = LIGHT) -> Figure:
    """Draw the training loss, smoothed within each phase, above the learning rate.

    Parameters
    ----------
    history
        One row a logged step: `step` (counted through all phases), `phase`, `loss`,
        `learning_rate`. Further columns that end in `_loss` are drawn beside the loss.
    theme
        Colours.

    Returns
    -------
    Figure
        Two axes that share the steps: loss, learning rate.
    """
    figure = new_figure(11, 5.2, theme, constrained=True)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    style_axes(top, theme, grid="y")
    style_axes(bottom, theme, grid="y")
    parts = [str(name) for name in history.columns if str(name).endswith("_loss")]
    colours = [theme.loss, theme.rare, theme.muted]
    edges: list[tuple[float, str]] = []
    change = history["phase"].ne(history["phase"].shift()).cumsum()
    for position, (_, rows) in enumerate(history.groupby(change, sort=False)):
        steps = rows["step"].to_numpy(dtype=float)
        edges.append((steps[0], str(rows["phase"].iloc[0])))
        first = position == 0
        top.plot(steps, rows["loss"], color=theme.common, alpha=0.22, linewidth=0.8)
        smooth = _smoothed(rows["loss"])
        label = "loss" if first else None
        top.plot(steps, smooth, color=theme.common, linewidth=1.8, label=label)
        for index, part in enumerate(parts):
            top.plot(
                steps,
                _smoothed(rows[part]),
                color=colours[index % len(colours)],
                linewidth=1.4,
                label=part.replace("_", " ") if first else None,
            )
        bottom.plot(steps, rows["learning_rate"], color=theme.muted, linewidth=1.4)
    for position, (start, name) in enumerate(edges):
        if position:
            for axes in (top, bottom):
                axes.axvline(start, color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)))
        top.annotate(
            name,
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            # Two heights, so that the names of short phases do not run into each other.
            xytext=(2, 4 + 13 * (position % 2)),
            textcoords="offset points",
            fontsize=9,
            color=theme.ink,
            parse_math=False,
        )
    values = history[["loss", *parts]].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    if finite.size:
        # The first steps of a new layer may start far above: they must not flatten the rest.
        top.set_ylim(0, 1.08 * float(np.quantile(finite, 0.995)) or 1.0)
    bottom.set_ylim(bottom=0)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    bottom.yaxis.get_offset_text().set(color=theme.muted, fontsize=8)
    top.set_ylabel("training loss", fontsize=9, color=theme.muted)
    bottom.set_ylabel("learning rate", fontsize=9, color=theme.muted)
    bottom.set_xlabel("step", fontsize=9, color=theme.muted)
    if parts:
        top.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=theme.muted)
    return figure


def _smoothed(values: pd.Series) -> pd.Series:
    span = max(len(values) // 12, 1)
    return values.astype(float).rolling(span, center=True, min_periods=1).mean()
