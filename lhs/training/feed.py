"""What the loop trains on: examples in an order that hangs on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Examples of one size.

    Attributes
    ----------
    images
        (B, 3, h, w) uint8 0..255.
    labels, subclasses
        (B, h, w) int64; (B, 1, 1) for patches, whose middle they tell.
    ids
        (B,) int64 number of each example in its feed, where examples come again unchanged.
    """

    images: Tensor
    labels: Tensor
    subclasses: Tensor
    ids: Tensor | None = None

    def parts(self, most: int | None, count: int) -> list[Batch]:
        """The batch in `count` parts or more, none larger than `most`."""
        size = len(self.labels)
        if most is not None:
            count = max(count, -(-size // most))
        if count <= 1:
            return [self]
        cuts = [None if part is None else part.tensor_split(count) for part in self]
        return [
            Batch(*(None if cut is None else cut[i] for cut in cuts))  # type: ignore[arg-type]
            for i in range(count)
        ]


class Feed(Protocol):
    """A worker's share of the training examples."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""

    @property
    def repeats(self) -> bool:
        """Whether every epoch brings the same examples, pixel for pixel: only then can features be
        kept. Such a feed is a `RepeatingFeed`."""

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch of an epoch, from number `first` on.

        A share is a list, as examples of different sizes can't lie in one tensor.
        """


class RepeatingFeed(Feed, Protocol):
    """A feed of examples that stay the same; each belongs to one worker."""

    @property
    def examples(self) -> int:
        """Number of all examples, over all workers."""

    def one_size(self) -> tuple[int, int]:
        """Height and width of one of the examples."""

    def owned(self) -> Iterator[Batch]:
        """Every example that belongs to this worker, once, in the order cheapest to read."""

    def owned_labels(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """Of each global batch the examples that belong to this worker, without images."""


def no_images(labels: Tensor) -> Tensor:
    """What stands for the images of a batch whose features are known."""
    return torch.empty((len(labels), 0), dtype=torch.uint8)
