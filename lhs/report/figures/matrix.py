"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lhs.report.figures.style import LIGHT, Theme, new_figure, plain, style_axes, text_on

MOST = 60
"""Classes with a row and a column of their own."""


def confusion(counts: np.ndarray, class_names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Draw a confusion matrix, each row in percent of the class's test pixels.

    Classes are sorted by their test pixels, so that confusions of common classes are in the upper
    left. Colour grows with the square root: 1 % can still be seen. Rows
    of classes without a test pixel stay empty. Of very many classes, the ones with the fewest test
    pixels are taken together in the last row and column.

    Parameters
    ----------
    counts
        (L, L) pixel counts, rows truth, columns prediction.
    class_names
        L names.
    theme
        Colours.

    Returns
    -------
    Figure
        One axes with the matrix.
    """
    counts = np.asarray(counts, dtype=float)
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    ordered, names = counts[np.ix_(order, order)], [class_names[i] for i in order]
    if len(names) > MOST + 1:
        names = [*names[:MOST], f"{len(names) - MOST} others"]
        for axis in (0, 1):
            ordered = np.add.reduceat(ordered, np.arange(MOST + 1), axis=axis)
    rows = ordered.sum(axis=1, keepdims=True)
    shares = np.divide(100 * ordered, rows, out=np.full_like(ordered, np.nan), where=rows > 0)

    size = len(names)
    cell = float(np.clip(9.0 / max(size, 1), 0.12 if size > 40 else 0.27, 0.62))
    side = size * cell
    figure = new_figure(side + 2.0, side + 1.7, theme, constrained=True)
    axes = figure.subplots()
    style_axes(axes, theme)
    colours = LinearSegmentedColormap.from_list("shares", [theme.surface, theme.common])
    axes.set_facecolor(theme.void)  # shows through the empty rows
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    image = axes.imshow(
        np.ma.masked_invalid(shares), cmap=colours, norm=norm, interpolation="nearest"
    )
    font = float(np.clip(cell * 26, 4.0, 10.0))
    axes.set_xticks(np.arange(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(size), names)
    axes.tick_params(labelsize=font, labelcolor=theme.ink)
    plain([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color=theme.grid, linewidth=0.5)
    axes.set_xlabel("predicted", fontsize=10, color=theme.muted)
    axes.set_ylabel("annotated", fontsize=10, color=theme.muted)
    if size <= 40:
        _write_percents(image, shares, font=float(np.clip(cell * 24, 5.5, 10.0)), theme=theme)
    return figure


def _write_percents(image: AxesImage, shares: np.ndarray, *, font: float, theme: Theme) -> None:
    for (row, column), value in np.ndenumerate(shares):
        if np.isnan(value) or value < 0.5:
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        image.axes.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=font,
            color=text_on((red, green, blue), theme),
            fontweight="bold" if row == column else "normal",
        )  # fmt: skip
