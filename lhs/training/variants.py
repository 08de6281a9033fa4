"""Whole images and their augmented variants (paper section 4.1), as FCNs train on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lhs.config import ContextConfig
from lhs.data.patches import mean_colour
from lhs.training.crops import stacked
from lhs.training.data_source import Batch, DataSource, prefetched
from lhs.training.decoded import Example, TrainingScenes


@dataclass(frozen=True)
class VariantSource(DataSource):
    """All augmented variants of all training images.

    Example i is variant i % (variants + 1) of image i // (variants + 1), the same in every epoch,
    its sides padded to a multiple with mean colour and void.

    Parameters
    ----------
    scenes
        All training images.
    context
        Number and seed of the variants.
    void, void_subclass
        Ids beyond the border.
    multiple
        Sides of examples are multiples of it.
    one_size
        Whether to pad all examples of a global batch to the largest. Networks with batch norm need
        it: their workers must pass the network equally often.
    """

    scenes: TrainingScenes
    context: ContextConfig
    void: int
    void_subclass: int
    multiple: int
    one_size: bool

    @property
    def examples(self) -> int:
        """Variants of all images."""
        return len(self.scenes) * (self.context.variants + 1)

    def example(self, number: int, sides: tuple[int, int] | None = None) -> Example:
        """Decode, augment, relabel and pad one example, to multiples or to given sides."""
        image, variant = divmod(number, self.context.variants + 1)
        found = self.scenes.variant(image, variant, seed=self.context.seed, void=self.void)
        sides = self._rounded_up(found.label_map.shape) if sides is None else sides
        return padded(found, sides, self.void, self.void_subclass)

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's shard of each global batch: see `DataSource`."""
        order, shard = self.shuffled(epoch), self.shard()

        def make(step: int) -> list[Batch]:
            numbers = order[step].tolist()
            sides = None
            if self.one_size:
                # Of all workers' examples: a variant has its image's size.
                heights, widths = zip(*map(self._sides, numbers), strict=True)
                sides = max(heights), max(widths)
            groups: dict[tuple[int, ...], list[tuple[Example, int]]] = {}
            for index in shard.tolist():
                example = self.example(numbers[index], sides)
                groups.setdefault(example.label_map.shape, []).append((example, index))
            return [stacked(*zip(*group, strict=True)) for group in groups.values()]

        steps = range(first, self.steps_per_epoch)
        yield from prefetched(make, steps, self.threads, self.device)

    def _sides(self, number: int) -> tuple[int, int]:
        return self._rounded_up(self.scenes.size(number // (self.context.variants + 1)))

    def _rounded_up(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width, rounded up to multiples."""
        height, width = size
        return height + -height % self.multiple, width + -width % self.multiple


def padded(example: Example, sides: tuple[int, int], void: int, void_subclass: int) -> Example:
    """Pad an example on the right and at the bottom with mean colour and void.

    Sides that are long enough stay.
    """
    height, width = example.label_map.shape
    below, right = max(0, sides[0] - height), max(0, sides[1] - width)
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
