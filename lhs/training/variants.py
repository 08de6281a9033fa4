"""Whole images and their augmented variants (paper section 4.1), as FCNs train on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lhs.config import ContextConfig, TrainConfig
from lhs.data.patches import mean_colour
from lhs.training.crops import stacked, steps_in_epoch
from lhs.training.decoded import Example, TrainingScenes
from lhs.training.feed import CPU, Batch, own_places, prefetched


@dataclass(frozen=True)
class VariantFeed:
    """A worker's share of all variants of all training images.

    Example i is variant i % (variants + 1) of image i // (variants + 1): the same pixels whenever
    it comes, its sides filled up to a multiple with mean colour and void.

    Parameters
    ----------
    scenes
        All training images.
    train, context
        Batch size over all workers and seed; number and seed of the variants.
    void, void_subclass
        Ids beyond the border.
    multiple
        What the sides of an example are multiples of.
    one_size
        Whether all examples of a global batch are filled up to the largest, for networks with batch
        norm: their workers must pass the network equally often.
    rank, world_size, threads, device
        As for `CropFeed`.
    """

    scenes: TrainingScenes
    train: TrainConfig
    context: ContextConfig
    void: int
    void_subclass: int
    multiple: int
    one_size: bool
    rank: int = 0
    world_size: int = 1
    threads: int = 2
    device: torch.device = CPU

    @property
    def examples(self) -> int:
        """Variants of all images."""
        return len(self.scenes) * (self.context.variants + 1)

    @property
    def batch_size(self) -> int:
        """Examples of a global batch."""
        return min(self.train.batch_size, self.examples)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return steps_in_epoch(self.examples, self.train.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """(steps, batch size) numbers of the examples of each global batch of an epoch."""
        order = np.random.default_rng([self.train.seed, epoch]).permutation(self.examples)
        shape = self.steps_per_epoch, self.batch_size
        return order[: shape[0] * shape[1]].reshape(shape)

    def example(self, number: int, sides: tuple[int, int] | None = None) -> Example:
        """Decode, augment and relabel one example, filled up to multiples or to given sides."""
        image, variant = divmod(number, self.context.variants + 1)
        found = self.scenes.variant(image, variant, seed=self.context.seed, void=self.void)
        sides = self._up(found.label_map.shape) if sides is None else sides
        return filled_up(found, sides, self.void, self.void_subclass)

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch; images of one size together."""
        order = self.order(epoch)
        own = own_places(self.batch_size, self.rank, self.world_size)

        def share(step: int) -> list[Batch]:
            numbers = order[step].tolist()
            sides = None
            if self.one_size:
                # Of all workers' examples: a variant has its image's size.
                heights, widths = zip(*map(self._sides, numbers), strict=True)
                sides = max(heights), max(widths)
            groups: dict[tuple[int, ...], list[tuple[Example, int]]] = {}
            for place in own.tolist():
                example = self.example(numbers[place], sides)
                groups.setdefault(example.label_map.shape, []).append((example, place))
            return [stacked(*zip(*group, strict=True)) for group in groups.values()]

        steps = range(first, self.steps_per_epoch)
        yield from prefetched(share, steps, self.threads, self.device)

    def _sides(self, number: int) -> tuple[int, int]:
        return self._up(self.scenes.size(number // (self.context.variants + 1)))

    def _up(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width, raised to multiples."""
        height, width = size
        return height + -height % self.multiple, width + -width % self.multiple


def filled_up(example: Example, sides: tuple[int, int], void: int, void_subclass: int) -> Example:
    """Fill an example's right and lower side up to a height and width, with mean colour and void.

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
