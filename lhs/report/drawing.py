"""Pictures and figures of a page: label maps painted, class names placed, both widths drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lhs.report import figures
from lhs.report.content import PlacedName, ReportFigure, ReportPictures

LETTER, LINE = 0.034, 0.09
"""Width of a letter and height of a line, in widths of a picture of about 220 pixels."""
MOST_NAMES = 8


def draw(
    figure: Callable[..., Figure],
    *arrays: Any,
    key: str,
    title: str,
    caption: str,
    alt: str,
    data: pd.DataFrame,
    **options: Any,
) -> ReportFigure:
    """Draw `figure(*arrays, **options)` on a light and a dark ground, for wide and narrow screens.

    The rest as in `ReportFigure`.
    """
    drawn = [
        figures.to_png(figure(*arrays, theme=theme, width=width, **options))
        for width in (figures.WIDE, figures.NARROW)
        for theme in (figures.LIGHT, figures.DARK)
    ]
    return ReportFigure(
        key=key, title=title, caption=caption, alt=alt, data=data,
        png=drawn[0], png_dark=drawn[1], narrow=drawn[2], narrow_dark=drawn[3],
    )  # fmt: skip


def painted(label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A label map (H, W) in its classes' colours: (H, W, 4) uint8, clear where it has no class."""
    labelled = label_map < len(colours)
    out = np.zeros((*label_map.shape, 4), np.uint8)
    out[labelled, :3] = np.asarray(colours, np.uint8)[label_map[labelled].astype(np.intp)]
    out[labelled, 3] = 255
    return out


def placed_names(label_map: np.ndarray, class_names: Sequence[str]) -> tuple[PlacedName, ...]:
    """Names of the classes of large regions, where they fit into the region.

    Parameters
    ----------
    label_map
        (H, W) class ids; others have no name.
    class_names
        L names.
    """
    height, width = label_map.shape
    found = []
    for label in np.unique(label_map[label_map < len(class_names)]).tolist():
        name = class_names[label]
        size = round(LINE * width) | 1, round((LETTER * len(name) + 0.04) * width) | 1
        box = np.ones(size, np.uint8)
        region = np.pad((label_map == label).astype(np.uint8), 1)
        inside = cv2.erode(region, box, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if not inside.any():
            continue
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        place = PlacedName(name, float(x - 0.5) / width, float(y - 0.5) / height)
        found.append((int(region.sum()), place))
    found.sort(key=lambda one: -one[0])
    return tuple(place for _, place in found[:MOST_NAMES])


def mosaic(item: ReportPictures) -> bytes:
    """All pictures of an item as one PNG, without words: for MLflow's pages."""
    height, rows = 160, []
    for _, pictures in item.rows:
        row = [_opaque(one.pixels) for one in pictures]
        sizes = [(height * one.shape[1] // one.shape[0], height) for one in row]
        small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA)
                 for one, size in zip(row, sizes, strict=True)]  # fmt: skip
        rows.append(np.concatenate(small, axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    with BytesIO() as out:
        Image.fromarray(np.concatenate(padded)).save(out, format="PNG")
        return out.getvalue()


def _opaque(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 3:
        return pixels
    return np.where(pixels[..., 3:] == 0, np.uint8(224), pixels[..., :3])


def css(colour: np.ndarray) -> str:
    """A colour (3,) uint8 as CSS writes it."""
    red, green, blue = (int(value) for value in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
