"""Training images, decoded once and cached within a bound of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lhs.data.augmentation import variant_image, variant_label_map
from lhs.data.scenes import Scene
from lhs.hierarchy import Hierarchy


class Example(NamedTuple):
    """A training image (H, W, 3) uint8, its label map (H, W) and subclass map (H, W)."""

    image: np.ndarray
    label_map: np.ndarray
    subclass_map: np.ndarray


class TrainingScenes:
    """Training images with their label and subclass maps.

    Decoded images and computed maps are cached while there is room, and computed again where they
    do not fit. Safe for several threads.

    Parameters
    ----------
    scenes
        The training split.
    hierarchy
        Gives the subclass maps; None for the label maps.
    cache_mb
        Size of the cache in MiB.
    """

    def __init__(self, scenes: Sequence[Scene], hierarchy: Hierarchy | None, cache_mb: int):
        self.scenes = scenes
        self.hierarchy = hierarchy
        self._room = cache_mb * 2**20
        self._kept: dict[tuple[str, int, int], tuple[np.ndarray, ...]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.scenes)

    def image(self, index: int) -> np.ndarray:
        """The image (H, W, 3) uint8 alone."""
        return self._cached(("image", index, 0), lambda: (self.scenes[index].image(),))[0]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, from the file's header where there is a file."""
        if index not in self._sizes:
            self._sizes[index] = self.scenes[index].size()
        return self._sizes[index]

    def example(self, index: int) -> Example:
        """The image, its labels and its subclasses."""
        image, label_map, context_map = self._decoded(index)
        return Example(image, label_map, self._subclass_map(index, 0, label_map, context_map))

    def example_with_context(self, index: int) -> Example:
        """The image and its labels; for `relabel`, in the place of its subclasses, the label map
        that their histograms are counted in."""
        image, label_map, context_map = self._decoded(index)
        return Example(image, label_map, label_map if context_map is None else context_map)

    def relabel(
        self, index: int, label_map: np.ndarray, context_map: np.ndarray | None = None
    ) -> np.ndarray:
        """Subclass map of a label map (H, W) of an image, whole or a part, by what it shows.

        `context_map` (H, W) has pseudo-labels too, if the hierarchy uses them.
        """
        assert self.hierarchy is not None
        scene = self.scenes[index]
        return self.hierarchy.relabel(
            label_map, self.hierarchy.scene_of(scene), context_map, scene.id
        )

    def variant(self, index: int, number: int, *, seed: int, void: int) -> Example:
        """An augmented variant, see `lhs.data.augmentation.variant`; 0 is the image itself.

        Subclasses are those of the augmented label map; random and stored ones, those of the image
        itself.
        """
        image, label_map, context_map = self._decoded(index)
        chosen: dict[str, Any] = {
            "seed": seed, "image_id": self.scenes[index].id, "number": number
        }  # fmt: skip
        if self.hierarchy is not None and self.hierarchy.of_whole_images:
            # A region keeps its subclass where a rotation cuts it.
            whole = self._subclass_map(index, 0, label_map, context_map)
            subclass_map = variant_label_map(whole, void=self.hierarchy.void_subclass, **chosen)
            label_map = variant_label_map(label_map, void=void, **chosen)
        else:
            label_map = variant_label_map(label_map, void=void, **chosen)
            if context_map is not None:
                context_map = variant_label_map(context_map, void=void, **chosen)
            subclass_map = self._subclass_map(index, number, label_map, context_map)
        return Example(variant_image(image, **chosen), label_map, subclass_map)

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        def decode() -> tuple[np.ndarray, ...]:
            scene = self.scenes[index]
            context_map = scene.context_label_map() if self.hierarchy is not None else None
            return scene.load() if context_map is None else (*scene.load(), context_map)

        image, label_map, *context_map = self._cached(("scene", index, 0), decode)
        return image, label_map, context_map[0] if context_map else None

    def _subclass_map(
        self, index: int, number: int, label_map: np.ndarray, context_map: np.ndarray | None
    ) -> np.ndarray:
        if self.hierarchy is None:
            return label_map
        return self._cached(
            ("subclasses", index, number), lambda: (self.relabel(index, label_map, context_map),)
        )[0]

    def _cached(
        self, key: tuple[str, int, int], make: Callable[[], tuple[np.ndarray, ...]]
    ) -> tuple[np.ndarray, ...]:
        if key in self._kept:
            return self._kept[key]
        made = make()
        size = sum(array.nbytes for array in made)
        with self._lock:
            if size <= self._room and key not in self._kept:
                self._room -= size
                self._kept[key] = made
        return made
