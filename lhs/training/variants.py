"""Whole images and their augmented variants (paper section 4.1), as FCNs train on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from lhs.config import ContextConfig, TrainConfig
from lhs.data.augmentation import variant, variant_label_map
from lhs.data.patches import mean_colour
from lhs.data.scenes import Scene
from lhs.hierarchy import Hierarchy
from lhs.training.crops import Example, ahead, stacked, steps_in_epoch
from lhs.training.feed import Batch, no_images

OWNED = 8
"""Examples of one forward pass when features are kept."""


@dataclass(frozen=True)
class VariantFeed:
    """A worker's share of all variants of all training images.

    Example i is variant i % (variants + 1) of image i // (variants + 1): the same pixels whenever
    it comes, its sides filled up to a multiple with mean colour and void. It belongs to worker
    i % world_size.
    """

    scenes: Sequence[Scene]
    hierarchy: Hierarchy | None
    train: TrainConfig
    context: ContextConfig
    void: int
    multiple: int
    rank: int = 0
    world_size: int = 1
    threads: int = 2
    repeats: bool = field(default=True, init=False)

    @property
    def examples(self) -> int:
        """Variants of all images."""
        return len(self.scenes) * (self.context.variants + 1)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return steps_in_epoch(self.examples, self.train.batch_size)

    def example(self, number: int) -> Example:
        """Decode, augment and relabel one example."""
        image_number, which = divmod(number, self.context.variants + 1)
        scene = self.scenes[image_number]
        seed, void = self.context.seed, self.void
        image, label_map = variant(
            *scene.load(), seed=seed, image_id=scene.id, number=which, void=void
        )
        subclass_map, void_subclass = label_map, self.void
        if self.hierarchy is not None:
            around = scene.surroundings()
            if around is not None:
                around = variant_label_map(
                    around, seed=seed, image_id=scene.id, number=which, void=void
                )
            subclass_map = self.hierarchy.relabel(label_map, self.hierarchy.scene_of(scene), around)
            void_subclass = self.hierarchy.void_subclass
        return filled_up(Example(image, label_map, subclass_map), self.multiple, self.void,
                         void_subclass)  # fmt: skip

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch; images of one size together."""
        order = self._order(epoch)

        def share(step: int) -> list[Batch]:
            return self._share(order[step][self.rank :: self.world_size])

        yield from ahead(share, range(first, self.steps_per_epoch), self.threads)

    def one_size(self) -> tuple[int, int]:
        """Height and width of the first example."""
        height, width = self.example(0).label_map.shape
        return height, width

    def owned(self) -> Iterator[Batch]:
        """This worker's own examples, once."""
        own = np.arange(self.rank, self.examples, self.world_size)
        groups = [own[i : i + OWNED] for i in range(0, len(own), OWNED)]
        for share in ahead(lambda i: self._share(groups[i]), range(len(groups)), self.threads):
            yield from share

    def owned_labels(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """Of each global batch this worker's own examples, without images."""
        order = self._order(epoch)

        def share(step: int) -> list[Batch]:
            ids = order[step]
            return [
                part._replace(images=no_images(part.labels))
                for part in self._share(ids[ids % self.world_size == self.rank])
            ]

        yield from ahead(share, range(first, self.steps_per_epoch), self.threads)

    def _order(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self.train.seed, epoch]).permutation(self.examples)
        size = min(self.train.batch_size, self.examples)
        return order[: self.steps_per_epoch * size].reshape(self.steps_per_epoch, size)

    def _share(self, ids: np.ndarray) -> list[Batch]:
        groups: dict[tuple[int, ...], list[tuple[int, Example]]] = {}
        for number in ids.tolist():
            example = self.example(number)
            groups.setdefault(example.label_map.shape, []).append((number, example))
        return [
            stacked([example for _, example in group])._replace(
                ids=torch.tensor([number for number, _ in group])
            )
            for group in groups.values()
        ]


def filled_up(example: Example, multiple: int, void: int, void_subclass: int) -> Example:
    """Fill an example's right and lower side up to a multiple, with mean colour and void."""
    height, width = example.label_map.shape
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return example
    image = np.empty((height + below, width + right, 3), np.uint8)
    image[:] = mean_colour(example.image)
    image[:height, :width] = example.image
    border = ((0, below), (0, right))
    return Example(
        image,
        np.pad(example.label_map, border, constant_values=void),
        np.pad(example.subclass_map, border, constant_values=void_subclass),
    )
