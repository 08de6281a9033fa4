"""Training scenes with pseudo-labels: a model's labels of the pixels that people left unlabelled
(paper section 4.4).

A stored pseudo-label map holds classes only where nobody annotated, and void elsewhere; it is
combined with the annotated label map when that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene, void_of
from lhs.errors import BadImageError


def pseudo_label_map(label_map: np.ndarray, predicted: np.ndarray, void: int) -> np.ndarray:
    """Keep predictions where nobody annotated.

    Parameters
    ----------
    label_map
        (H, W) annotated ids, `void` where unlabelled.
    predicted
        (H, W) predicted id of every pixel.

    Returns
    -------
    (H, W)
        The predicted id where `label_map` is void, void elsewhere, in the dtype of `label_map`.
    """
    return np.where(label_map == void, predicted, void).astype(label_map.dtype)


def combined_map(label_map: np.ndarray, pseudo_labels: np.ndarray, void: int) -> np.ndarray:
    """Annotated ids where there are some, pseudo-labels elsewhere; all (H, W).

    Raises
    ------
    ValueError
        If the sizes differ, or a pixel has a label in both maps or in neither.
    """
    if label_map.shape != pseudo_labels.shape:
        raise ValueError(
            f"label map {label_map.shape} and pseudo-label map {pseudo_labels.shape} differ in size"
        )
    if not ((label_map == void) ^ (pseudo_labels == void)).all():
        raise ValueError("the pseudo-labels are not those of the label map's unlabelled pixels")
    return np.where(label_map == void, pseudo_labels, label_map)


@dataclass(frozen=True, kw_only=True)
class PseudoLabelledScene(Scene):
    """A training scene with pseudo-labels.

    Attributes
    ----------
    base
        The scene as it was annotated.
    read_pseudo_labels
        Reads the pseudo-label map (H, W); picklable.
    train_on_pseudo_labels
        Whether its label map includes the pseudo-labels. Otherwise that is the annotated map, and
        only `context_label_map` includes them.
    """

    base: Scene
    read_pseudo_labels: Callable[[], np.ndarray]
    train_on_pseudo_labels: bool = True

    def files(self) -> tuple[Path, ...]:
        """Those of the annotated scene."""
        return self.base.files()

    def size(self) -> tuple[int, int]:
        """Read (H, W) of the image."""
        return self.base.size()

    def image(self) -> np.ndarray:
        """Read the image: (H, W, 3) uint8 RGB."""
        return self.base.image()

    def label_map(self) -> np.ndarray:
        """Read the label map; see `Scene.label_map`."""
        return self._combined() if self.train_on_pseudo_labels else self.base.label_map()

    def context_label_map(self) -> np.ndarray | None:
        """Read the map with pseudo-labels, if it is not the label map itself."""
        return None if self.train_on_pseudo_labels else self._combined()

    def _combined(self) -> np.ndarray:
        try:
            void = void_of(self.num_classes)
            return combined_map(self.base.label_map(), self.read_pseudo_labels(), void)
        except ValueError as error:
            raise BadImageError(
                f"{self.id}: {error}; its label file was changed after the pseudo-labels were made"
            ) from None


def add_pseudo_labels(
    dataset: Dataset,
    readers: Mapping[str, Callable[[], np.ndarray]],
    *,
    train_on_pseudo_labels: bool = True,
) -> Dataset:
    """The dataset with pseudo-labels in some training scenes; test scenes are not changed.

    Parameters
    ----------
    dataset
        As it was annotated.
    readers
        By scene id, a function that reads its pseudo-label map.
    train_on_pseudo_labels
        See `PseudoLabelledScene`.

    Raises
    ------
    ValueError
        If one is for a test scene: test labels are only those of people.
    """

    def labelled(scene: Scene) -> Scene:
        if scene.id not in readers:
            return scene
        if scene.split != "train":
            raise ValueError(f"pseudo-labels for {scene.id}, which is no training scene")
        return PseudoLabelledScene(
            id=scene.id,
            split=scene.split,
            num_classes=scene.num_classes,
            name=scene.name,
            base=scene,
            read_pseudo_labels=readers[scene.id],
            train_on_pseudo_labels=train_on_pseudo_labels,
        )

    return dataset.with_scenes([labelled(scene) for scene in dataset.scenes()])
