"""What the loop trains on: examples in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lhs.errors import UserError

CPU = torch.device("cpu")
AHEAD = 4
"""Batches prepared while the network trains on one, besides those that threads work on."""

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Examples of one size.

    Attributes
    ----------
    images
        (B, 3, h, w) uint8 0..255.
    labels, subclasses
        (B, h, w) uint8 or int32, see `small_ids`; (B, 1, 1) for patches, whose middle they tell.
    places
        (B,) int64 place of each example in the global batch.
    """

    images: Tensor
    labels: Tensor
    subclasses: Tensor
    places: Tensor

    def parts(self, most: int | None, count: int) -> list[Batch]:
        """The batch in `count` parts or more, none larger than `most`."""
        size = len(self.labels)
        if most is not None:
            count = max(count, -(-size // most))
        if count <= 1:
            return [self]
        cuts = [part.tensor_split(count) for part in self]
        return [Batch(*parts) for parts in zip(*cuts, strict=True)]

    def pinned(self, device: torch.device) -> Batch:
        """The batch in memory from which it travels to a GPU while the GPU works."""
        if device.type != "cuda":
            return self
        # A new thread stands on the first GPU, which may be another worker's.
        with torch.cuda.device(device):
            return Batch(*(part.pin_memory() for part in self))


class Feed(Protocol):
    """A worker's share of the training examples."""

    @property
    def batch_size(self) -> int:
        """Examples of a global batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch of an epoch, from number `first` on.

        A share is a list, as examples of different sizes can't lie in one tensor.
        """


def own_places(size: int, rank: int, world_size: int) -> np.ndarray:
    """Places of a global batch that belong to a worker: rank, rank + world_size, ...

    Raises
    ------
    UserError
        If some worker would have none.
    """
    if world_size > size:
        raise UserError(
            f"train.workers = {world_size}: a batch has {size} examples; allowed is one worker an "
            "example at most"
        )
    return np.arange(rank, size, world_size)


def small_ids(ids: np.ndarray) -> Tensor:
    """Ids as the smallest integers that torch computes with on every device.

    uint8 where they are that, else int32: torch has uint16, but hardly an operation for it.
    """
    return torch.from_numpy(np.ascontiguousarray(ids, ids.dtype if ids.dtype == np.uint8 else "i4"))


def prefetched(
    make: Callable[[Item], list[Batch]],
    items: Iterable[Item],
    threads: int,
    device: torch.device,
) -> Iterator[list[Batch]]:
    """What `make` gives for each item, in order, made in threads while earlier ones are used.

    Batches for a GPU are pinned in the threads too.
    """

    def work(item: Item) -> list[Batch]:
        return [batch.pinned(device) for batch in make(item)]

    with ThreadPoolExecutor(threads, thread_name_prefix="examples") as pool:
        waiting: deque[Future[list[Batch]]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                # As many as there are threads, or some of them would have nothing to do.
                if len(waiting) > max(AHEAD, threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
