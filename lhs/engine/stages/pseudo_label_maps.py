"""The filled maps that the stage `filled` stored, as scenes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from lhs.data.filling import with_fills
from lhs.data.scenes import Dataset
from lhs.engine.storage import Storage
from lhs.errors import BadImageError

IMAGES, MAPS = "images.parquet", "maps"


@dataclass(frozen=True)
class Fills:
    """A finished stage `filled`; travels to workers.

    Attributes
    ----------
    storage, path
        Where it lies.
    trains_on_fill
        Whether label maps are the filled ones; see `lhs.data.filling.FilledScene`.
    """

    storage: Storage
    path: str
    trains_on_fill: bool = True

    def over(self, dataset: Dataset) -> Dataset:
        """The dataset with its filled training scenes."""
        table = pq.read_table(
            f"{self.path}/{IMAGES}", columns=["image"], filesystem=self.storage.filesystem
        )
        fills = {
            image: partial(read_fill, self.storage, map_path(f"{self.path}/{MAPS}", image))
            for image in table["image"].to_pylist()
        }
        return with_fills(dataset, fills, trains_on_fill=self.trains_on_fill)


def map_path(maps: str, image: str) -> str:
    """Where the fill of an image lies in the folder of all."""
    return f"{maps}/{image}.png"


def read_fill(storage: Storage, path: str) -> np.ndarray:
    """Read a fill (H, W): ids where a model filled, void where people labelled.

    Raises
    ------
    BadImageError
        If the file is missing or unreadable.
    """
    try:
        return np.array(Image.open(io.BytesIO(storage.read(path))))
    except OSError as error:
        raise BadImageError(f"{storage.address(path)}: unreadable filled map: {error}") from None
