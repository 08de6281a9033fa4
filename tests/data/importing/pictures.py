"""Small pictures that the tests of the readers write."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from lhs.data.importing.found import Item, Options

NOTHING = Options()
VOID = Options(background="void")


def photo(height: int = 12, width: int = 16) -> Image.Image:
    """A picture of shades."""
    shades = np.add.outer(np.arange(height) * 9, np.arange(width) * 5) % 256
    return Image.fromarray(np.dstack([shades, shades[::-1], shades]).astype(np.uint8))


def save(path: Path, picture: Image.Image | np.ndarray | None = None) -> Path:
    """Write a picture, a map of ids, or some photo, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    (picture or photo()).save(path)
    return path


def png(array: np.ndarray) -> bytes:
    """A map of ids as the content of a PNG."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG")
    return out.getvalue()


def by_id(items: tuple[Item, ...]) -> dict[str, Item]:
    """The items by their ids, which must differ."""
    found = {item.id: item for item in items}
    assert len(found) == len(items)
    return found
