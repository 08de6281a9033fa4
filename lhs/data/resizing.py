"""Large images made smaller: `data.long_side`, and label maps brought back to the full size."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lhs.data.contents import file_states
from lhs.data.dataset import Dataset
from lhs.data.images import read_image, read_label_picture
from lhs.data.scenes import Scene, label_dtype
from lhs.errors import BadImageError, UserError

_VERSION = 1
"""Raised when other pixels are made of the same files."""


def resized_shape(shape: tuple[int, ...], long_side: int | None) -> tuple[int, int]:
    """Height and width of an image of this (H, W) whose longer side is to be at most `long_side`
    (None: any)."""
    height, width = shape
    if long_side is None or max(height, width) <= long_side:
        return height, width
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized_image(image: np.ndarray, long_side: int | None) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 bilinearly, antialiased; itself where it is small enough."""
    height, width = resized_shape(image.shape[:2], long_side)
    if (height, width) == image.shape[:2]:
        return image
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture)


def nearest_places(size: int, other: int) -> np.ndarray:
    """The nearest of `size` pixels for each of `other` pixels along the same side: (other,)."""
    return (2 * np.arange(other) + 1) * size // (2 * other)


def resized_nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring label maps or scores (..., H, W) to another (height, width), each pixel the nearest."""
    if array.shape[-2:] == shape:
        return array
    rows, columns = map(nearest_places, array.shape[-2:], shape)
    return array[..., rows[:, None], columns]


@dataclass(frozen=True, kw_only=True)
class ResizedScene(Scene):
    """A scene whose image is too large, made smaller; resized once per machine if it is in files.

    Attributes
    ----------
    base
        The scene as it lies in its files.
    long_side
        Most pixels of the longer side. Smaller images stay as they are.
    """

    base: Scene
    long_side: int

    def files(self) -> tuple[Path, ...]:
        """Those of the original."""
        return self.base.files()

    def size(self) -> tuple[int, int]:
        """(H, W) of the resized image."""
        return resized_shape(self.base.size(), self.long_side)

    def image(self) -> np.ndarray:
        """Read the resized image: (H, W, 3) uint8 RGB."""
        place = self._place("image")
        if place is not None:
            # Else it is not there yet, or damaged.
            with suppress(BadImageError):
                return read_image(place)
        image = self.base.image()
        return _kept(place, image, resized_image(image, self.long_side))

    def label_map(self) -> np.ndarray:
        """Read the resized label map; see `Scene.label_map`."""
        place = self._place("labels")
        if place is not None:
            with suppress(BadImageError):
                return read_label_picture(place).astype(label_dtype(self.num_classes))
        label_map = self._full_label_map()
        shape = resized_shape(label_map.shape, self.long_side)
        return _kept(place, label_map, resized_nearest(label_map, shape))

    def load_scored(self) -> tuple[np.ndarray, np.ndarray]:
        """The resized image, and the label map at the original size; see `Scene.load_scored`."""
        return self.image(), self._full_label_map()

    def label_colours(self, label_map: np.ndarray) -> dict[int, int]:
        """Those of the original; see `Scene.label_colours`."""
        return self.base.label_colours(label_map)

    def _full_label_map(self) -> np.ndarray:
        label_map = self.base.label_map()
        # Once resized, a label map of another size than its image's would look like one that fits.
        problem = self.base.size_problem(self.base.size(), label_map.shape)
        if problem:
            raise BadImageError(problem)
        return label_map

    def _place(self, kind: str) -> Path | None:
        """The file that keeps the resized picture; None for scenes without files."""
        paths = self.base.files()
        if not paths:
            return None
        reading: dict[str, Any] = {
            one.name: getattr(self.base, one.name)
            for one in fields(self.base)
            if one.name not in ("split", "name")
        }
        states = list(file_states(paths).items())
        whole = json.dumps(
            [_VERSION, kind, self.long_side, type(self.base).__name__, reading, states]
        )
        key = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
        return cache_folder() / key[:2] / f"{key}.png"


def cache_folder() -> Path:
    """This machine's folder of resized images, `LHS_CACHE` or `~/.cache/lhs`; may be deleted."""
    return Path(os.path.expanduser(os.environ.get("LHS_CACHE", "~/.cache/lhs"))) / "resized"


def _kept(place: Path | None, whole: np.ndarray, resized: np.ndarray) -> np.ndarray:
    """The resized pixels, written to a PNG that is there whole or not at all."""
    if place is None or resized is whole:
        return resized
    stream = io.BytesIO()
    # The fastest level: it is written once, and read at once.
    Image.fromarray(resized).save(stream, "PNG", compress_level=1)
    half = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(stream.getvalue())
        os.replace(half, place)
    except OSError as error:
        raise UserError(
            f"data.long_side: {cache_folder()}, where resized images are kept, can't be written: "
            f"{error.strerror or error}; name another folder with LHS_CACHE"
        ) from None
    return resized


def resized_dataset(dataset: Dataset, long_side: int) -> Dataset:
    """The dataset with images of at most `long_side` pixels along their longer side."""
    scenes: list[Scene] = [
        ResizedScene(
            id=scene.id,
            split=scene.split,
            num_classes=scene.num_classes,
            name=scene.name,
            base=scene,
            long_side=long_side,
        )
        for scene in dataset.scenes()
    ]
    return dataset.with_scenes(scenes, long_side=long_side)
