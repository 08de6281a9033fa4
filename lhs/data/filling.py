"""Training scenes whose unlabelled pixels a model has filled (paper section 4.4).

What was filled is kept apart from what was annotated: a stored map holds a class where the model
filled a pixel and void where people labelled it, and the two meet only when a label map is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhs.data.scenes import Dataset, Scene, void_of
from lhs.errors import BadImageError


def fill_of(label_map: np.ndarray, predicted: np.ndarray, void: int) -> np.ndarray:
    """What a model adds to a label map.

    Parameters
    ----------
    label_map
        (H, W) annotated ids, `void` where unlabelled.
    predicted
        (H, W) ids of every pixel.

    Returns
    -------
    (H, W)
        The predicted id where the label map is void, void where it is not; its type.
    """
    return np.where(label_map == void, predicted, void).astype(label_map.dtype)


def filled_map(label_map: np.ndarray, fill: np.ndarray, void: int) -> np.ndarray:
    """Annotated pixels as they are, the others from the fill; all (H, W).

    Raises
    ------
    ValueError
        If the two are not of the same image: of different sizes, or a pixel is in both or neither.
    """
    if label_map.shape != fill.shape:
        raise ValueError(f"label map {label_map.shape} and fill {fill.shape} differ in size")
    if not ((label_map == void) ^ (fill == void)).all():
        raise ValueError("the fill is not that of the label map's unlabelled pixels")
    return np.where(label_map == void, fill, label_map)


@dataclass(frozen=True, kw_only=True)
class FilledScene(Scene):
    """A training scene with a fill.

    Attributes
    ----------
    base
        The scene as it was annotated.
    read_fill
        Reads the fill (H, W); picklable.
    trains_on_fill
        Whether its label map is the filled one. Otherwise it is the annotated one, and the filled
        one only tells what surrounds a pixel.
    """

    base: Scene
    read_fill: Callable[[], np.ndarray]
    trains_on_fill: bool = True

    def files(self) -> tuple[Path, ...]:
        """Those of the annotated scene."""
        return self.base.files()

    def image(self) -> np.ndarray:
        """Read the image: (H, W, 3) uint8 RGB."""
        return self.base.image()

    def label_map(self) -> np.ndarray:
        """Read the label map; see `Scene.label_map`."""
        return self._filled() if self.trains_on_fill else self.base.label_map()

    def surroundings(self) -> np.ndarray | None:
        """The filled map, where it is not the label map itself."""
        return None if self.trains_on_fill else self._filled()

    def _filled(self) -> np.ndarray:
        try:
            void = void_of(self.num_classes)
            return filled_map(self.base.label_map(), self.read_fill(), void)
        except ValueError as error:
            raise BadImageError(
                f"{self.id}: {error}; its label file was changed after the map was filled"
            ) from None


def with_fills(
    dataset: Dataset,
    fills: Mapping[str, Callable[[], np.ndarray]],
    *,
    trains_on_fill: bool = True,
) -> Dataset:
    """The same dataset with some training scenes filled; test scenes stay what they are.

    Parameters
    ----------
    dataset
        As it was annotated.
    fills
        By scene id, what reads its fill.
    trains_on_fill
        See `FilledScene`.

    Raises
    ------
    ValueError
        If a fill is that of a test scene: test labels are what people gave.
    """

    def filled(scene: Scene) -> Scene:
        if scene.id not in fills:
            return scene
        if scene.split != "train":
            raise ValueError(f"a fill for {scene.id}, which is no training scene")
        return FilledScene(
            id=scene.id,
            split=scene.split,
            num_classes=scene.num_classes,
            name=scene.name,
            base=scene,
            read_fill=fills[scene.id],
            trains_on_fill=trains_on_fill,
        )

    return dataset.with_scenes([filled(scene) for scene in dataset.scenes()])
