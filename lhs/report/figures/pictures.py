"""Pictures: label maps over images, example patches, results beside the annotation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lhs.evaluation.overlay import label_overlay
from lhs.report.figures.style import LIGHT, Theme, new_figure
from lhs.report.wording import count, share

GAP = 0.09
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


def subclass_patches(
    patches: Mapping[str, Sequence[np.ndarray]],
    *,
    sizes: Mapping[str, int] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw example patches of one class, a row for each of its subclasses (the paper's Fig. 4).

    The small cross marks the centre: the pixel whose class is the label of the patch.

    Parameters
    ----------
    patches
        From a subclass's name to its (h, w, 3) uint8 patches; order of rows and columns is kept.
    sizes
        Samples of each subclass, written beside its name.
    theme
        Colours.

    Returns
    -------
    Figure
        One axes per patch.
    """
    columns = max((len(row) for row in patches.values()), default=1) or 1
    # A square share of the page for many columns, yet not huge for few.
    margin, side = 1.9, min(1.3, 9.0 / columns)
    rows = max(len(patches), 1)
    figure = new_figure(margin + columns * (side + GAP), rows * (side + GAP) + GAP, theme)
    height = figure.get_figheight()
    for row, (name, examples) in enumerate(patches.items()):
        top = height - GAP - row * (side + GAP)
        text = name if sizes is None else f"{name}\n{count(sizes[name])} samples"
        _write(figure, _wrapped(text, 20), margin - 0.15, top - side / 2, theme, align="right")
        for column, patch in enumerate(examples):
            axes = _picture(figure, patch, margin + column * (side + GAP), top, side, side)
            middle = ((patch.shape[1] - 1) / 2, (patch.shape[0] - 1) / 2)
            axes.plot(*middle, marker="+", color="black", markersize=8, markeredgewidth=2.4)
            axes.plot(*middle, marker="+", color="white", markersize=7, markeredgewidth=1.1)
    return figure


def qualitative(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
    baseline_predictions: Sequence[np.ndarray] | None = None,
    *,
    name: str = "this run",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw images, annotations and predictions side by side (the paper's Fig. 8).

    Under each prediction is the share of annotated pixels that are right, below the pictures a
    legend of the classes that occur.

    Parameters
    ----------
    images
        (H, W, 3) uint8 each; sizes may differ.
    truths, predictions, baseline_predictions
        (H, W) class ids each, void where not annotated. Without the last the column is left out.
    class_names
        L names.
    colours
        (L, 3) uint8.
    void
        The id of unlabelled pixels.
    name
        Heading of the predictions' column.
    theme
        Colours.

    Returns
    -------
    Figure
        Three or four axes a row.
    """
    maps = [("annotation", truths), (name, predictions)]
    if baseline_predictions is not None:
        maps.insert(1, ("baseline", baseline_predictions))
    columns = 1 + len(maps)
    width, left, head, foot = 10.5, 0.05, 0.34, 0.28
    side = (width - 2 * left - (columns - 1) * GAP) / columns
    # Upright images would fill the page: they are drawn narrower.
    heights = [min(side * image.shape[0] / image.shape[1], side) for image in images]

    present = np.unique(np.concatenate([np.unique(m) for _, group in maps for m in group]))
    ids = [int(i) for i in present if i != void]
    entries = [(class_names[i], tuple(np.asarray(colours)[i] / 255)) for i in ids]
    if any((truth == void).any() for truth in truths):
        entries.append(("not annotated", to_rgb(theme.void)))
    body = head + sum(height + foot for height in heights)
    below = _legend_height(entries, width - 2 * left) + 0.2
    figure = new_figure(width, body + below, theme)

    top = body + below - head
    for column, title in enumerate(["image", *(title for title, _ in maps)]):
        x = left + column * (side + GAP)
        _write(figure, title, x, top + head / 2, theme, colour=theme.ink, size=10)
    for row, height in enumerate(heights):
        _picture(figure, images[row], left, top, side, height)
        for column, (_, group) in enumerate(maps, start=1):
            x = left + column * (side + GAP)
            painted = _painted(group[row], colours, void, theme)
            _picture(figure, painted, x, top, side, height, nearest=True)
            labelled = truths[row] != void
            if column > 1 and labelled.any():
                right = float((group[row] == truths[row])[labelled].mean())
                _write(figure, f"{share(right)} right", x, top - height - foot / 2, theme)
        top -= height + foot
    _draw_legend(figure, entries, left=left, top=below - 0.1, width=width - 2 * left, theme=theme)
    return figure


def _painted(label_map: np.ndarray, colours: np.ndarray, void: int, theme: Theme) -> np.ndarray:
    ground = np.rint(255 * np.asarray(to_rgb(theme.void))).astype(np.uint8)
    blank = np.broadcast_to(ground, (*label_map.shape, 3))
    return label_overlay(blank, label_map, colours, void, alpha=1.0)


def _picture(
    figure: Figure, pixels: np.ndarray, left: float, top: float, width: float, height: float,
    *, nearest: bool = False,
) -> Axes:  # fmt: skip
    """Place pixels in a box given in inches from the lower left, kept in proportion."""
    full_width, full_height = figure.get_size_inches()
    box = (left / full_width, (top - height) / full_height, width / full_width)
    axes = figure.add_axes((*box, height / full_height), anchor="NW")
    axes.imshow(pixels, interpolation="nearest" if nearest else "antialiased")
    axes.set_axis_off()
    return axes


def _write(
    figure: Figure, text: str, left: float, middle: float, theme: Theme,
    *, align: str = "left", colour: str | None = None, size: float = 9,
) -> None:  # fmt: skip
    full_width, full_height = figure.get_size_inches()
    # Centring by the letters' box would shift words with and without descenders apart.
    several = "\n" in text
    figure.text(
        left / full_width, (middle if several else middle - 0.36 * size / 72) / full_height, text,
        ha=align, va="center" if several else "baseline", fontsize=size,
        color=colour or theme.muted, linespacing=1.5, parse_math=False,
    )  # fmt: skip


def _wrapped(text: str, width: int) -> str:
    """Break long words as well: subclass names like `street+building` hold no spaces."""
    lines = []
    for line in text.split("\n"):
        lines += [line[i : i + width] for i in range(0, max(len(line), 1), width)]
    return "\n".join(lines)


def _legend_columns(entries: Sequence[tuple[str, object]], width: float) -> int:
    longest = max((len(name) for name, _ in entries), default=1)
    return max(1, int(width // (0.45 + 0.082 * longest)))


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
        _write(figure, name, x + 0.3, middle, theme, colour=theme.ink)
