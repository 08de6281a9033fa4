"""Six images with the colours of their classes over them, and a legend, on one picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from lhs.data.colours import class_colours

TILE, COLUMNS, IMAGES, OPACITY, LINE = (320, 240), 3, 6, 0.55, 16


def contact_sheet(
    scenes: Iterable[tuple[str, np.ndarray, np.ndarray]], classes: Sequence[str]
) -> bytes:
    """Draw overlays.

    Parameters
    ----------
    scenes
        Up to `IMAGES` ids, images (H, W, 3) uint8 and label maps (H, W), -1 where void.
    classes
        Their names.

    Returns
    -------
    bytes
        A PNG.
    """
    colours = class_colours(classes)
    width, height = TILE
    legend = -(-len(classes) // COLUMNS) * LINE + 8
    sheet = Image.new(
        "RGB", (COLUMNS * width, IMAGES // COLUMNS * (height + LINE) + legend), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for number, (id, image, label_map) in enumerate(scenes):
        left, top = number % COLUMNS * width, number // COLUMNS * (height + LINE)
        picture = Image.fromarray(image)
        picture.thumbnail((width - 4, height - 4))
        size = picture.size
        # Nearest by hand, as label maps may have more than 255 classes.
        rows = (np.arange(size[1]) + 0.5) * label_map.shape[0] / size[1]
        columns = (np.arange(size[0]) + 0.5) * label_map.shape[1] / size[0]
        small = label_map[rows.astype(int)[:, None], columns.astype(int)]
        pixels = np.asarray(picture).astype(np.float32)
        labelled = small >= 0
        tint = OPACITY * colours[small[labelled]]
        pixels[labelled] = (1 - OPACITY) * pixels[labelled] + tint
        sheet.paste(Image.fromarray(np.rint(pixels).astype(np.uint8)), (left, top))
        draw.text((left + 2, top + height - 2), _ascii(id)[-50:], fill="black")
    below = IMAGES // COLUMNS * (height + LINE) + 4
    for number, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        left, top = number % COLUMNS * width, below + number // COLUMNS * LINE
        draw.rectangle((left + 2, top, left + 14, top + 12), fill=tuple(map(int, colour)))
        draw.text((left + 20, top), _ascii(name)[:45], fill="black")
    out = io.BytesIO()
    sheet.save(out, format="PNG")
    return out.getvalue()


def _ascii(text: str) -> str:
    # Pillow's own font has no other letters.
    return text.encode("ascii", "replace").decode()
