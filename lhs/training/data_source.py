"""Training batches: the interface of all data sources, and batches prepared in threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from lhs.config import TrainConfig
from lhs.errors import UserError

CPU = torch.device("cpu")
AHEAD = 4
"""Batches prepared in advance; more where there are more threads."""

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Examples of one size.

    Attributes
    ----------
    images
        (B, 3, h, w) uint8 0..255.
    labels, subclasses
        (B, h, w) uint8 or int32, see `small_ids`; (B, 1, 1) for patches: those of the centre.
    places
        (B,) int64 index of each example in the global batch.
    """

    images: Tensor
    labels: Tensor
    subclasses: Tensor
    places: Tensor

    def micro_batches(self, most: int | None, count: int) -> list[Batch]:
        """The batch split into at least `count` parts, none larger than `most`."""
        size = len(self.labels)
        if most is not None:
            count = max(count, -(-size // most))
        if count <= 1:
            return [self]
        cuts = [part.tensor_split(count) for part in self]
        return [Batch(*parts) for parts in zip(*cuts, strict=True)]

    def pinned(self, device: torch.device) -> Batch:
        """The batch in pinned memory, from which copies to a GPU are asynchronous."""
        if device.type != "cuda":
            return self
        # In a new thread the current GPU is the first, which may be another worker's.
        with torch.cuda.device(device):
            return Batch(*(part.pin_memory() for part in self))


@dataclass(frozen=True, kw_only=True)
class DataSource(ABC):
    """A worker's shard of the training examples, in an order that depends on seed and epoch alone.

    Parameters
    ----------
    train
        Batch size over all workers, seed.
    rank, world_size
        This worker, and how many there are.
    threads
        Threads that prepare batches in advance.
    device
        Where the batches will be used.
    """

    train: TrainConfig
    rank: int = 0
    world_size: int = 1
    threads: int = 2
    device: torch.device = CPU

    @property
    @abstractmethod
    def examples(self) -> int:
        """Number of all examples."""

    @property
    def batch_size(self) -> int:
        """Examples of a global batch."""
        return min(self.train.batch_size, self.examples)

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches of an epoch; another epoch leaves other examples out."""
        return self.examples // self.batch_size

    @abstractmethod
    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's shard of each global batch of an epoch, from number `first` on.

        Parameters
        ----------
        epoch
            Counted over all phases, so that no two epochs are the same.
        first
            Number of the first batch wanted.

        Yields
        ------
        list of Batch
            One for each size of its examples.
        """

    def shuffled(self, epoch: int) -> np.ndarray:
        """(steps, batch size) numbers of the examples of each global batch of an epoch."""
        order = np.random.default_rng([self.train.seed, epoch]).permutation(self.examples)
        steps, size = self.steps_per_epoch, self.batch_size
        return order[: steps * size].reshape(steps, size)

    def shard(self) -> np.ndarray:
        """Indices into a global batch of this worker's examples: rank, rank + world_size, ...

        Raises
        ------
        UserError
            If some worker would have none.
        """
        if self.world_size > self.batch_size:
            raise UserError(
                f"train.workers = {self.world_size}: must not exceed the images or patches of a "
                f"batch ({self.batch_size}); set fewer workers or a larger train.batch_size"
            )
        return np.arange(self.rank, self.batch_size, self.world_size)


def prefetched(
    make: Callable[[Item], list[Batch]], items: Iterable[Item], threads: int, device: torch.device
) -> Iterator[list[Batch]]:
    """`make(item)` for each item, in order, computed in threads in advance.

    Batches for a GPU are pinned in the threads too.
    """

    def work(item: Item) -> list[Batch]:
        return [batch.pinned(device) for batch in make(item)]

    with ThreadPoolExecutor(threads, thread_name_prefix="examples") as pool:
        waiting: deque[Future[list[Batch]]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                # At least as many as threads, or some threads would idle.
                if len(waiting) > max(AHEAD, threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def small_ids(ids: np.ndarray) -> Tensor:
    """Ids as uint8 where they are, else as int32: torch has few operations for uint16."""
    return torch.from_numpy(np.ascontiguousarray(ids, ids.dtype if ids.dtype == np.uint8 else "i4"))
