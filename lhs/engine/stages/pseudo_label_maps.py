"""The pseudo-label maps that the stage `pseudo_labels` stored, read as scenes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from lhs.data.dataset import Dataset
from lhs.data.pseudo_labels import add_pseudo_labels
from lhs.engine.storage import Storage
from lhs.errors import BadImageError

IMAGES, MAPS = "images.parquet", "maps"


@dataclass(frozen=True)
class PseudoLabelMaps:
    """A finished stage `pseudo_labels`; it is sent to workers.

    Attributes
    ----------
    storage, path
        Its folder.
    train_on_pseudo_labels
        See `lhs.data.pseudo_labels.PseudoLabelledScene`.
    """

    storage: Storage
    path: str
    train_on_pseudo_labels: bool = True

    def add_to(self, dataset: Dataset) -> Dataset:
        """The dataset with these pseudo-labels in its training scenes."""
        table = pq.read_table(
            f"{self.path}/{IMAGES}", columns=["image"], filesystem=self.storage.filesystem
        )
        readers = {
            image: partial(read_map, self.storage, map_path(f"{self.path}/{MAPS}", image))
            for image in table["image"].to_pylist()
        }
        return add_pseudo_labels(
            dataset, readers, train_on_pseudo_labels=self.train_on_pseudo_labels
        )


def map_path(maps: str, image: str) -> str:
    """Path of an image's pseudo-label map in the folder `maps`."""
    return f"{maps}/{image}.png"


def read_map(storage: Storage, path: str) -> np.ndarray:
    """Read a pseudo-label map (H, W): void where people annotated.

    Raises
    ------
    BadImageError
        If the file is missing or unreadable.
    """
    try:
        return np.array(Image.open(io.BytesIO(storage.read(path))))
    except OSError as error:
        raise BadImageError(
            f"{storage.address(path)}: unreadable pseudo-label map: {error}"
        ) from None
