"""Bar charts: how often classes occur, and how their accuracy changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lhs.report.figures.style import (
    LIGHT,
    NARROW,
    SMALL,
    WIDE,
    Theme,
    add_legend,
    heading,
    new_figure,
    plain,
    style_axes,
)  # fmt: skip
from lhs.report.wording import count, plural, share, signed

_SQUARE = {"handlelength": 1.0, "handleheight": 1.0}
LEAST_STEP = 0.19
"""Inches from one named bar to the next."""
MOST_BARS = 60
"""Classes of which the change is drawn; more would be a figure of several pages."""


def class_frequencies(
    class_names: Sequence[str],
    class_counts: np.ndarray,
    subclass_names: Sequence[str],
    subclass_counts: np.ndarray,
    parents: np.ndarray,
    common: np.ndarray,
    *,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw how often each class and each subclass occurs (the paper's Fig. 2).

    Two panels with one logarithmic scale, so that the long tail shows and both can be compared;
    each sorted by count, descending; common classes and their subclasses are highlighted.

    Parameters
    ----------
    class_names
        L names.
    class_counts
        (L,) samples per class.
    subclass_names
        n names.
    subclass_counts
        (n,) samples per subclass.
    parents
        (n,) class id of each subclass.
    common
        (C,) ids of the common classes.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        Two axes: classes, subclasses.
    """
    class_counts, subclass_counts = np.asarray(class_counts), np.asarray(subclass_counts)
    parents, common = np.asarray(parents, dtype=int), np.asarray(common, dtype=int)
    figure = new_figure(width, 7.4, theme, constrained=True)
    room = int(width / LEAST_STEP)
    top, bottom = figure.subplots(2, 1, sharey=True)

    is_common = np.zeros(len(class_names), dtype=bool)
    is_common[common] = True
    order = np.argsort(-class_counts, kind="stable")
    _frequency_bars(top, class_counts[order], is_common[order], theme)
    split = np.bincount(parents, minlength=len(class_names))
    for place, class_id in enumerate(order):
        if split[class_id] > 1 and len(order) <= room:
            top.annotate(
                f"{split[class_id]}", (place, class_counts[class_id]), xytext=(0, 2),
                textcoords="offset points", ha="center", fontsize=SMALL, color=theme.common,
            )  # fmt: skip
    _name_bars(top, [class_names[i] for i in order], room)
    total = class_counts.sum()
    covered = share(class_counts[common].sum() / total if total else float("nan"))
    heading(
        top,
        f"{plural(len(class_names), 'class', 'classes')}: "
        f"{len(common)} common with {covered} of {count(total)} samples",
        theme,
    )

    order = np.argsort(-subclass_counts, kind="stable")
    _frequency_bars(bottom, subclass_counts[order], is_common[parents[order]], theme)
    _name_bars(bottom, [subclass_names[i] for i in order], room)
    heading(bottom, f"{plural(len(subclass_names), 'subclass', 'subclasses')}", theme)

    occurring = np.concatenate([class_counts[class_counts > 0], [1.0]])
    low = 10.0 ** np.floor(np.log10(occurring[:-1].min())) if occurring.size > 1 else 1.0
    top.set_ylim(low / 2, max(occurring.max() * 2.2, low * 10))
    handles = [
        Patch(color=theme.common, label="common (above: its number of subclasses)"),
        Patch(color=theme.rare, label="rare, not split"),
    ]
    add_legend(figure, theme, handles=handles, loc="outside lower left", **_SQUARE)
    return figure


def _frequency_bars(axes: Axes, counts: np.ndarray, common: np.ndarray, theme: Theme) -> None:
    style_axes(axes, theme, grid="y")
    axes.set_yscale("log")
    colours = [theme.common if flag else theme.rare for flag in common]
    # A count of zero has no logarithm: its bar is left empty and its place stays.
    heights = np.where(counts > 0, counts, np.nan).astype(float)
    axes.bar(np.arange(len(counts)), heights, width=0.78, color=colours)
    axes.set_xlim(-0.7, len(counts) - 0.3)
    axes.set_ylabel("samples", fontsize=SMALL, color=theme.muted)
    axes.yaxis.set_major_formatter(lambda value, _: count(value) if value >= 1 else "")
    axes.minorticks_off()


def _name_bars(axes: Axes, names: Sequence[str], room: int) -> None:
    """Name the bars, if there is room for so many names; the data behind the figure has all."""
    shown = names if len(names) <= room else []
    axes.set_xticks(
        np.arange(len(shown)), list(shown), rotation=45, ha="right", rotation_mode="anchor"
    )
    plain(axes.get_xticklabels())


def per_class_change(
    class_names: Sequence[str],
    baseline_scores: np.ndarray,
    scores: np.ndarray,
    common: np.ndarray | None,
    *,
    interval: tuple[np.ndarray, np.ndarray] | None = None,
    theme: Theme = LIGHT,
    width: float = WIDE,
) -> Figure:
    """Draw each class's change in accuracy against the baseline (the paper's Fig. 7).

    One bar per class, largest gain on top; gain and loss differ in colour and side, common classes
    are solid and rare ones outlined. A class without a test pixel (nan) is left out. Of very many
    classes those are drawn that changed most, and a line says how many others there are.

    Parameters
    ----------
    class_names
        L names.
    baseline_scores, scores
        (L,) accuracies in [0, 1], nan where the class is absent from the test set.
    common
        (C,) ids of the common classes; None draws all alike.
    interval
        Low and high ends of the changes, (L,) each.
    theme, width
        Colours; inches.

    Returns
    -------
    Figure
        One axes with a bar for each class present, `MOST_BARS` at most.
    """
    change = np.asarray(scores, dtype=float) - np.asarray(baseline_scores, dtype=float)
    present = np.flatnonzero(~np.isnan(change))
    drawn = present[np.argsort(-np.abs(change[present]), kind="stable")]
    drawn, left = np.sort(drawn[:MOST_BARS]), drawn[MOST_BARS:]
    order = drawn[np.argsort(-change[drawn], kind="stable")]
    values = change[order]
    is_common = np.isin(order, order if common is None else np.asarray(common, dtype=int))

    narrow = width <= NARROW
    figure = new_figure(width, 1.7 + 0.27 * max(len(order), 3), theme, constrained=True)
    axes = figure.subplots()
    style_axes(axes, theme, grid="x")
    edges = [theme.gain if value >= 0 else theme.loss for value in values]
    face_colours = [
        to_rgba(edge, 1.0 if solid else 0.22) for edge, solid in zip(edges, is_common, strict=True)
    ]
    places = np.arange(len(order))
    axes.barh(places, values, height=0.68, color=face_colours, edgecolor=edges, linewidth=1.0)
    axes.axvline(0, color=theme.muted, linewidth=0.9)
    left_end, right_end = np.minimum(values, 0), np.maximum(values, 0)
    if interval is not None:
        ends = np.array([one[order] for one in interval])
        axes.hlines(places, *ends, color=theme.ink, linewidth=1.2)
        left_end, right_end = np.fmin(left_end, ends[0]), np.fmax(right_end, ends[1])
    for place, value in zip(places, values, strict=True):
        end = right_end[place] if value >= 0 else left_end[place]
        axes.annotate(
            signed(value), (end, place), xytext=(5 if value >= 0 else -5, 0),
            textcoords="offset points", ha="left" if value >= 0 else "right", va="center",
            fontsize=SMALL, color=theme.ink,
        )  # fmt: skip
    axes.set_yticks(places, [class_names[i] for i in order])
    plain(axes.get_yticklabels())
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.set_ylim(len(order) - 0.4, -0.6)
    low, high = left_end.min(initial=0.0), right_end.max(initial=0.0)
    room = (0.36 if narrow else 0.12) * max(high - low, 0.01)
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_formatter(lambda value, _: signed(value).rstrip("0").rstrip("."))
    axes.xaxis.set_major_locator(MaxNLocator(3 if narrow else 8))
    axes.set_xlabel("change in the class's accuracy", fontsize=SMALL, color=theme.muted)
    if left.size:
        most = f"{np.abs(change[left]).max():.3f}"
        others = plural(left.size, "other class", "other classes")
        heading(axes, f"not drawn: {others} that changed by {most} at most", theme)
    handles = [Patch(color=theme.gain, label="gain"), Patch(color=theme.loss, label="loss")]
    if common is not None:
        pale = to_rgba(theme.muted, 0.22)
        handles += [
            Patch(color=theme.muted, label="common: solid"),
            Patch(facecolor=pale, edgecolor=theme.muted, label="rare: outlined"),
        ]
    add_legend(
        figure,
        theme,
        handles=handles,
        loc="outside upper left",
        ncols=2 if narrow else 4,
        **_SQUARE,
    )
    return figure
