"""Scenes: images with label maps, the same for every dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lhs.data.images import image_size, read_image
from lhs.data.layout import found_instead
from lhs.data.remote import Carried, adopt, carried, located
from lhs.errors import BadImageError, UserError

SPLITS = ("train", "test")


def void_of(num_classes: int) -> int:
    """Give the label that marks unlabelled pixels, the same for every dataset of that many classes.

    Parameters
    ----------
    num_classes
        L, the number of classes, at least 1.

    Returns
    -------
    int
        255 for up to 255 classes, 65535 above (METHOD, section 1).

    Examples
    --------
    >>> void_of(33), void_of(256)
    (255, 65535)
    """
    return 255 if num_classes <= 255 else 65535


def label_dtype(num_classes: int) -> type[np.uint8] | type[np.uint16]:
    """Give the integer type of a label map with that many classes and void."""
    return np.uint8 if num_classes <= 255 else np.uint16


@dataclass(frozen=True, kw_only=True)
class Scene(ABC):
    """One image with its label map: a small, picklable handle that reads when asked.

    Attributes
    ----------
    id
        Unique within the dataset, with `/` between folders where images are nested.
    split
        "train" or "test".
    num_classes
        L, the number of classes of the dataset.
    name
        The scene name, the category such as "coast"; None where the dataset has none.
    """

    id: str
    split: str
    num_classes: int
    name: str | None = None

    @abstractmethod
    def image(self) -> np.ndarray:
        """Read the image: (H, W, 3) uint8 RGB."""

    @abstractmethod
    def label_map(self) -> np.ndarray:
        """Read the label map: (H, W) class ids in 0..L-1 or `void_of(L)`.

        Returns
        -------
        numpy.ndarray
            uint8, uint16 above 255 classes.

        Raises
        ------
        BadImageError
            If the label file is missing or unreadable.
        UserError
            If it holds an id that is not a class: then the class list or the void id is wrong.
        """

    def context_label_map(self) -> np.ndarray | None:
        """Read the label map (H, W) to count histograms in, if it is not `label_map` itself."""
        return None

    def files(self) -> tuple[Path, ...]:
        """List the files it reads, image first; empty where it is made and not read."""
        return ()

    def size(self) -> tuple[int, int]:
        """Read (H, W) of the image, from the file's header where there is a file."""
        height, width = self.label_map().shape
        return height, width

    def label_colours(self, label_map: np.ndarray) -> dict[int, int]:
        """Read the colours (0xRRGGBB) that the label file's palette gives to the ids in its label
        map (H, W); empty where it has no palette."""
        return {}

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Read image and label map, which must have the same size.

        Returns
        -------
        image : numpy.ndarray
            (H, W, 3) uint8 RGB.
        label_map : numpy.ndarray
            (H, W), see `label_map`.

        Raises
        ------
        BadImageError
            If one is missing or unreadable, or if their sizes differ.
        """
        image, label_map = self.image(), self.label_map()
        problem = self.size_problem(image.shape[:2], label_map.shape)
        if problem:
            raise BadImageError(problem)
        return image, label_map

    def load_scored(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the image, and the label map that its prediction is scored on.

        Both as in `load`, but where `data.long_side` has resized the image the label map has the
        size of the original.
        """
        return self.load()

    def size_problem(self, image: tuple[int, ...], label_map: tuple[int, ...]) -> str | None:
        """Say what is wrong with the two (H, W) shapes; None where they agree."""
        if image == label_map:
            return None
        files = self.files()
        label, picture = (files[-1], files[0]) if files else (self.id, self.id)
        return (
            f"{label}: label map is {label_map[1]} x {label_map[0]} (width x height), "
            f"but its image {picture} is {image[1]} x {image[0]}"
        )


@dataclass(frozen=True, kw_only=True)
class FileScene(Scene):
    """A scene in an image file and a label file; one subclass per label format."""

    image_file: str
    label_file: str

    def __getstate__(self) -> tuple[dict[str, Any], Carried | None]:
        return self.__dict__, carried(self.image_file, self.label_file)

    def __setstate__(self, state: tuple[dict[str, Any], Carried | None]) -> None:
        self.__dict__.update(state[0])
        adopt(state[1])

    def files(self) -> tuple[Path, ...]:
        """List the image file and the label file."""
        return located(self.image_file), located(self.label_file)

    def image(self) -> np.ndarray:
        """Read the image: (H, W, 3) uint8 RGB."""
        return read_image(self.image_file)

    def size(self) -> tuple[int, int]:
        """Read (H, W) of the image from the file's header."""
        return image_size(self.image_file)

    @abstractmethod
    def read_ids(self) -> np.ndarray:
        """Read the label file: (H, W) integers, class ids from 0, -1 where unlabelled."""

    def label_map(self) -> np.ndarray:
        """Read the label map; see `Scene.label_map`."""
        if not located(self.label_file).is_file():
            raise BadImageError(
                f"{self.label_file}: label file of image {self.id} is missing"
                + found_instead(located(self.label_file))
            )
        ids = self.read_ids()
        if ids.ndim != 2 or not ids.size:
            raise BadImageError(
                f"{self.label_file}: expected an (H, W) label map, found shape {ids.shape}"
            )
        if ids.max() >= self.num_classes:
            wrong = np.unique(ids[ids >= self.num_classes])
            raise UserError(
                f"{self.label_file}: label id {some_ids(wrong)} out of range: the dataset has "
                f"{self.num_classes} classes, ids 0..{self.num_classes - 1} when counted from 0"
            )
        dtype = label_dtype(self.num_classes)
        return np.where(ids < 0, void_of(self.num_classes), ids).astype(dtype)


def some_ids(values: np.ndarray, most: int = 5) -> str:
    """Ids (N,) as a message lists them."""
    text = ", ".join(str(int(value)) for value in values[:most])
    return text + (f" and {len(values) - most} more" if len(values) > most else "")
