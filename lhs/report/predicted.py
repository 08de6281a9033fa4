"""A prediction as one picture: image, labels, overlay, confidence, and a legend with ids."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from lhs.data.resizing import resized_nearest
from lhs.evaluation.overlay import label_overlay
from lhs.report.drawing import painted, placed_names
from lhs.report.figures import LIGHT
from lhs.report.wording import share

SIDE, GAP, LINE, LEAST_WIDTH = 360, 12, 22, 720
"""The longer side of a panel, space around it, height of a line of text, and least width."""
LETTER = 15
PANEL, CONFIDENCE = "panel_size", "mean_confidence"
"""Texts in the PNG: width and height of a panel, and the mean of the whole confidence map."""
HEADINGS = ("image", "labels", "overlay", "confidence (white is 1)")


@dataclass(frozen=True)
class Panels:
    """What a stored picture holds: the image (h, w, 3) and confidence (h, w), both uint8 and as
    large as its panels, and the mean confidence of the whole image, 0..1."""

    image: np.ndarray
    confidence: np.ndarray
    mean: float


def side_by_side(
    image: np.ndarray,
    label_map: np.ndarray,
    confidence: np.ndarray,
    classes: Sequence[str],
    colours: np.ndarray,
) -> bytes:
    """Draw a prediction.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    label_map
        (H, W) class ids.
    confidence
        (H, W) uint8, the probability of each pixel's label in 255ths.
    classes, colours
        L names and (L, 3) uint8.

    Returns
    -------
    bytes
        A PNG; `panels_of` reads it.
    """
    scale = SIDE / max(label_map.shape)
    height, width = (max(1, round(side * scale)) for side in label_map.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small, sure = (cv2.resize(one, (width, height), interpolation=method)
                   for one in (image, confidence))  # fmt: skip
    labels = resized_nearest(label_map, (height, width))
    overlay = label_overlay(small, labels, colours, void=65535)
    panels = (small, painted(labels, colours)[..., :3], overlay, sure)
    counts = np.bincount(label_map.ravel(), minlength=len(classes))
    entries = [
        (f"{label} {classes[label]} {share(counts[label] / counts.sum())}", colours[label])
        for label in np.argsort(-counts, kind="stable").tolist()
        if counts[label]
    ]
    total = max(len(panels) * (width + GAP) + GAP, LEAST_WIDTH)
    font = _font()
    cell = 44 + round(max(font.getlength(text) for text, _ in entries))
    columns = max(1, (total - GAP) // cell)
    legend = LINE + height + 2 * GAP
    sheet = Image.new(
        "RGB", (total, legend + -(-len(entries) // columns) * LINE + GAP), LIGHT.surface
    )
    draw = ImageDraw.Draw(sheet)
    for number, (heading, panel) in enumerate(zip(HEADINGS, panels, strict=True)):
        left = GAP + number * (width + GAP)
        sheet.paste(Image.fromarray(panel), (left, GAP + LINE))
        # Of the confidence, which is mostly white.
        frame = (left - 1, GAP + LINE - 1, left + width, GAP + LINE + height)
        draw.rectangle(frame, outline=LIGHT.grid)
        if font.getlength(heading) <= width:
            draw.text((left, GAP - 2), heading, fill=LIGHT.ink, font=font)
    left = GAP + 2 * (width + GAP)
    for place in placed_names(labels, [f"{label} {name}" for label, name in enumerate(classes)]):
        draw.text(
            (left + place.x * width, GAP + LINE + place.y * height), place.name, fill="white",
            font=font, anchor="mm", stroke_width=2, stroke_fill="black",
        )  # fmt: skip
    for number, (text, colour) in enumerate(entries):
        x, y = GAP + number % columns * cell, legend + number // columns * LINE
        draw.rectangle(
            (x, y + 3, x + 14, y + 17), fill=tuple(map(int, colour)), outline=LIGHT.muted
        )
        draw.text((x + 20, y), text, fill=LIGHT.ink, font=font)
    stream, info = io.BytesIO(), PngInfo()
    info.add_text(PANEL, f"{width} {height}")
    info.add_text(CONFIDENCE, f"{confidence.mean() / 255:.4f}")
    sheet.save(stream, "PNG", compress_level=1, pnginfo=info)
    return stream.getvalue()


def panels_of(picture: bytes) -> Panels:
    """Read image and confidence out of a picture of `side_by_side`.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
            width, height = (int(number) for number in str(opened.info[PANEL]).split())
            mean, pixels = float(str(opened.info[CONFIDENCE])), np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, KeyError) as error:
        raise ValueError(f"no picture of a prediction: {error}") from None
    rows, last = slice(GAP + LINE, GAP + LINE + height), 3 * (width + GAP)
    image, sure = (pixels[rows, GAP + left : GAP + left + width] for left in (0, last))
    if image.shape != sure.shape or image.shape != (height, width, 3):
        raise ValueError("no picture of a prediction: its panels do not fit into it")
    return Panels(image, sure[..., 0], mean)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's, which has most letters."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", LETTER
    )
