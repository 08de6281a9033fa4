"""Matrices: confusions, how they changed, and W."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

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
    text_on,
)

MOST = 60
"""Classes with a row and a column of their own."""
STEP = 0.2
"""Inches from one named row or column to the next, at least."""


def confusion(
    counts: np.ndarray, class_names: Sequence[str], *, theme: Theme = LIGHT, width: float = WIDE
) -> Figure:
    """Draw a confusion matrix, each row in percent of the class's test pixels.

    Classes are sorted by their test pixels, so that confusions of common classes are in the upper
    left. Colour grows with the square root: 1 % can still be seen. Rows
    of classes without a test pixel stay empty. Of more classes than there is room for, the ones
    with the fewest test pixels are taken together in the last row and column.

    Parameters
    ----------
    counts
        (L, L) pixel counts, rows truth, columns prediction.
    class_names
        L names.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        One axes with the matrix.
    """
    (shares,), names = _shares([counts], class_names, width)
    colours = LinearSegmentedColormap.from_list("shares", [theme.surface, theme.common])
    return _matrix(shares, names, colours, PowerNorm(0.5, vmin=0, vmax=100), theme, width)


def confusion_change(
    counts: np.ndarray,
    baseline: np.ndarray,
    class_names: Sequence[str],
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw a confusion matrix less that of a baseline, both (L, L) counts, in percent of the rows.

    Rows and columns are those of `confusion`.
    """
    (own, before), names = _shares([counts, baseline], class_names, width)
    change = own - before
    most = max(float(np.nanmax(np.abs(change), initial=0)), 1.0)
    return _matrix(change, names, _diverging(theme), Normalize(-most, most), theme, width)


def learned_w(
    w: np.ndarray,
    parents: np.ndarray,
    class_names: Sequence[str],
    history: pd.DataFrame | None = None,
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw how W (L, n) differs from zeros and ones, and how it came to.

    Parameters
    ----------
    w
        After the training.
    parents
        (n,) class of each subclass.
    class_names
        L names.
    history
        Logged steps with `step`, `w_from_one` and `w_from_zero`; without them there are no curves.
    theme, width
        Colours; inches.
    """
    order = np.argsort(parents, kind="stable")
    change = (w - (np.arange(len(w))[:, None] == parents))[:, order]
    drift = [] if history is None else [c for c in ("w_from_one", "w_from_zero") if c in history]
    named = len(class_names) <= MOST
    matrix_height = STEP * len(class_names) + 1 if named else 6.0
    figure = new_figure(width, matrix_height + 2.6 * bool(drift), theme, constrained=True)
    ratios = [matrix_height, 2.6] if drift else [1]
    panels = np.atleast_1d(figure.subplots(len(ratios), 1, height_ratios=ratios))
    axes = panels[0]
    style_axes(axes, theme)
    most = max(float(np.abs(change).max()), 1e-6)
    image = axes.imshow(
        change, cmap=_diverging(theme), norm=Normalize(-most, most), interpolation="nearest",
        aspect="auto",
    )  # fmt: skip
    axes.set_yticks(np.arange(len(class_names)) if named else [], class_names if named else [])
    axes.set_xticks([])
    axes.set_xlabel("subclasses, by class", fontsize=SMALL, color=theme.muted)
    plain(axes.get_yticklabels())
    for edge in np.flatnonzero(np.diff(parents[order])):
        axes.axvline(edge + 0.5, color=theme.grid, linewidth=0.6)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=SMALL, colors=theme.muted, length=0)
    if history is not None and drift:
        style_axes(panels[1], theme, grid="y")
        names = {"w_from_one": "ones from one", "w_from_zero": "zeros from zero"}
        for column, colour in zip(drift, (theme.gain, theme.loss), strict=False):
            panels[1].plot(history["step"], history[column], color=colour, label=names[column])
        heading(panels[1], "mean distance", theme)
        panels[1].set_xlabel("step", fontsize=SMALL, color=theme.muted)
        # The curves rise from the left.
        add_legend(panels[1], theme, loc="upper left")
    return figure


def _shares(
    matrices: Sequence[np.ndarray], class_names: Sequence[str], width: float
) -> tuple[list[np.ndarray], list[str]]:
    """Matrices in percent of their rows, in the order of the first one's rows; and the names."""
    most = min(MOST, int((width - 1.4) / STEP) - 1)
    order = np.argsort(-np.asarray(matrices[0]).sum(axis=1), kind="stable")
    names, found = [class_names[i] for i in order], []
    together = len(names) > most + 1
    for counts in matrices:
        ordered = np.asarray(counts, dtype=float)[np.ix_(order, order)]
        if together:
            for axis in (0, 1):
                ordered = np.add.reduceat(ordered, np.arange(most + 1), axis=axis)
        rows = ordered.sum(axis=1, keepdims=True)
        found.append(
            np.divide(100 * ordered, rows, out=np.full_like(ordered, np.nan), where=rows > 0)
        )
    return found, [*names[:most], f"{len(names) - most} others"] if together else names


def _diverging(theme: Theme) -> Colormap:
    return LinearSegmentedColormap.from_list("change", [theme.loss, theme.surface, theme.gain])


def _matrix(
    values: np.ndarray, names: Sequence[str], colours: Colormap, norm: Normalize, theme: Theme,
    width: float,
) -> Figure:  # fmt: skip
    size = len(names)
    cell = float(np.clip((width - 1.6) / max(size, 1), 0.12, 0.62))
    figure = new_figure(width, size * cell + 1.7, theme, constrained=True)
    axes = figure.subplots()
    style_axes(axes, theme)
    axes.set_facecolor(theme.void)  # shows through the empty rows
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=colours, norm=norm, interpolation="nearest"
    )
    axes.set_anchor("NW")
    _name_both(axes, names, 1 if cell >= STEP * 0.75 else 2, theme)
    # A grid of minor ticks would take a second of many classes.
    edges = np.arange(size + 1) - 0.5
    axes.hlines(edges, -0.5, size - 0.5, color=theme.grid, linewidth=0.5)
    axes.vlines(edges, -0.5, size - 0.5, color=theme.grid, linewidth=0.5)
    axes.set_xlabel("predicted", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("annotated", fontsize=SMALL, color=theme.muted)
    # Two digits of the smallest text need as much.
    if cell >= 0.27:
        _write_percents(image, values, theme=theme)
    return figure


def _name_both(axes: Axes, names: Sequence[str], every: int, theme: Theme) -> None:
    """Name rows and columns, or every second one: the order is the same on both sides."""
    places = np.arange(0, len(names), every)
    axes.set_xticks(places, list(names[::every]), rotation=90)
    axes.set_yticks(places, list(names[::every]))
    axes.tick_params(labelsize=SMALL, labelcolor=theme.ink)
    plain([*axes.get_xticklabels(), *axes.get_yticklabels()])


def _write_percents(image: AxesImage, values: np.ndarray, *, theme: Theme) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value) or abs(value) < 0.5:
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        image.axes.text(
            column, row, f"{value:.0f}".replace("-", "\N{MINUS SIGN}"), ha="center", va="center",
            fontsize=SMALL, color=text_on((red, green, blue), theme),
            fontweight="bold" if row == column else "normal",
            # It lies inside the matrix: measuring it would take most of the time.
            in_layout=False,
        )  # fmt: skip
