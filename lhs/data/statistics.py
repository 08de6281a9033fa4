"""Statistics of a dataset: images, sizes, classes and their shares of the pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.reading import map_scenes
from lhs.data.scenes import SPLITS, Scene


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split.

    Attributes
    ----------
    images
        Number of images.
    pixels, labelled
        Pixels in all, and those that are not void.
    unlabelled_images
        Images without any labelled pixel.
    class_pixels
        Labelled pixels of each class, in the order of the classes.
    class_images
        Images in which each class occurs.
    scene_names
        Images of each scene name.
    """

    images: int
    pixels: int
    labelled: int
    unlabelled_images: int
    class_pixels: list[int]
    class_images: list[int]
    scene_names: dict[str, int]

    @property
    def labelled_share(self) -> float:
        """Share of the pixels that are labelled, 0 where there are none."""
        return self.labelled / self.pixels if self.pixels else 0.0


@dataclass(frozen=True)
class Statistics:
    """What `describe` finds; `sizes` counts the images of each (height, width), the most
    frequent size first."""

    name: str
    classes: tuple[str, ...]
    scene_names: tuple[str, ...]
    sizes: dict[tuple[int, int], int]
    splits: dict[str, SplitStatistics]

    @property
    def images(self) -> int:
        """Number of images in both splits."""
        return sum(split.images for split in self.splits.values())

    @property
    def labelled_share(self) -> float:
        """Share of the pixels of both splits that are labelled."""
        pixels = sum(split.pixels for split in self.splits.values())
        return sum(split.labelled for split in self.splits.values()) / pixels if pixels else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Give the statistics as JSON values, with the labelled shares."""
        return {
            "dataset": self.name,
            "images": self.images,
            "labelled_share": self.labelled_share,
            "classes": list(self.classes),
            "scene_names": list(self.scene_names),
            "sizes": [
                {"height": height, "width": width, "images": count}
                for (height, width), count in self.sizes.items()
            ],
            "splits": {
                name: asdict(split) | {"labelled_share": split.labelled_share}
                for name, split in self.splits.items()
            },
        }


def describe(dataset: Dataset) -> Statistics:
    """Read every label map of a dataset and count its pixels.

    Parameters
    ----------
    dataset
        An open dataset.

    Returns
    -------
    Statistics
        Per split: images, pixels, labelled pixels, pixels of each class, scene names.

    Raises
    ------
    UserError
        If a label file is missing or unreadable.
    """
    length = len(dataset.classes)

    def count(scene: Scene) -> tuple[tuple[int, ...], np.ndarray]:
        label_map = scene.label_map()
        return label_map.shape, np.bincount(label_map.ravel(), minlength=dataset.void + 1)[:length]

    sizes: Counter[tuple[int, int]] = Counter()
    splits = {}
    for name in SPLITS:
        scenes = dataset.split(name)
        class_pixels, class_images = np.zeros(length, np.int64), np.zeros(length, np.int64)
        pixels = unlabelled = 0
        for (height, width), counts in map_scenes(count, scenes, task=f"reading {name} labels"):
            sizes[height, width] += 1
            pixels += height * width
            class_pixels += counts
            class_images += counts > 0
            unlabelled += not counts.any()
        names = Counter(scene.name for scene in scenes if scene.name is not None)
        splits[name] = SplitStatistics(
            images=len(scenes),
            pixels=pixels,
            labelled=int(class_pixels.sum()),
            unlabelled_images=unlabelled,
            class_pixels=class_pixels.tolist(),
            class_images=class_images.tolist(),
            scene_names=dict(sorted(names.items())),
        )
    by_count = dict(sizes.most_common())
    return Statistics(dataset.name, dataset.classes, dataset.scene_names, by_count, splits)
