"""Colours and small helpers that all figures share; the page's CSS uses the same colours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from textwrap import wrap
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.typing import ColorType

DPI = 180
"""Two pixels of a picture are one of the page, so that 10 points are 12.5 pixels."""
WIDE, NARROW = 10.9, 3.7
"""Inches that a figure may have on a wide page and on a phone's."""
SMALL = 10
"""Points of the smallest text."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of a figure.

    Gain and loss are a blue and an orange that stay apart for colour-blind readers, and every
    figure distinguishes them by position or sign as well.
    """

    surface: str
    ink: str
    muted: str
    grid: str
    common: str
    rare: str
    gain: str
    loss: str
    void: str


LIGHT = Theme(
    surface="#ffffff", ink="#1b2430", muted="#566273", grid="#e4e8ed", common="#1f66ad",
    rare="#b3bcc8", gain="#1f66ad", loss="#c4551a", void="#eceff3",
)  # fmt: skip
DARK = Theme(
    surface="#171c24", ink="#e7ebf1", muted="#a0adbc", grid="#2c3541", common="#6fb1f2",
    rare="#566374", gain="#6fb1f2", loss="#f2965f", void="#2c3541",
)  # fmt: skip


def new_figure(width: float, height: float, theme: Theme, *, constrained: bool = False) -> Figure:
    """Make an empty figure of that size in inches on the theme's surface."""
    layout = ConstrainedLayoutEngine(hspace=0.06) if constrained else None
    return Figure(figsize=(width, height), dpi=DPI, facecolor=theme.surface, layout=layout)


def to_png(figure: Figure) -> bytes:
    """Write a figure as PNG.

    Parameters
    ----------
    figure
        Any figure of this package.

    Returns
    -------
    bytes
        The same bytes for the same arrays: no date or version is written into the file.
    """
    out = BytesIO()
    # Level 1: of pictures a third of the time, a sixth more bytes.
    figure.savefig(
        out, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None},
        pil_kwargs={"compress_level": 1},
    )  # fmt: skip
    return out.getvalue()


def text_on(ground: ColorType, theme: Theme) -> str:
    """Choose the theme's ink or its surface, whichever stands out more on that ground."""
    light = _luminance(ground)

    def contrast(colour: str) -> float:
        low, high = sorted((light, _luminance(colour)))
        return (high + 0.05) / (low + 0.05)

    return max((theme.ink, theme.surface), key=contrast)


def _luminance(colour: ColorType) -> float:
    """Relative luminance as the web's contrast rules (WCAG) define it."""
    channels = np.asarray(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def plain(texts: Iterable[Text]) -> None:
    """Keep matplotlib from reading a `$` in a class name as mathematics."""
    for text in texts:
        text.set_parse_math(False)


def style_axes(axes: Axes, theme: Theme, *, grid: Literal["x", "y"] | None = None) -> None:
    """Take away the frame and set quiet colours; `grid` names the axis with lines."""
    axes.set_facecolor(theme.surface)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(which="both", length=0, colors=theme.muted, labelsize=SMALL)
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(visible=True, axis=grid, color=theme.grid, linewidth=0.8)


def heading(axes: Axes, text: str, theme: Theme) -> None:
    """Set a panel's heading, left-aligned."""
    text = "\n".join(wrap(text, max(20, round(9 * axes.figure.bbox.width / DPI))))
    axes.set_title(text, loc="left", fontsize=10.5, color=theme.ink, pad=10, parse_math=False)


def add_legend(owner: Axes | Figure, theme: Theme, **options: Any) -> None:
    """Add a legend without a frame, in quiet colours; options as matplotlib's."""
    owner.legend(frameon=False, fontsize=SMALL, labelcolor=theme.muted, **options)
