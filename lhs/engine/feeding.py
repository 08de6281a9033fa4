"""Ray Data feeds Ray Train: patches are cut by tasks while the worker trains on those before."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import torch
from torch import Tensor

from lhs.config import Config, DataConfig
from lhs.engine.scenes import worker_dataset
from lhs.engine.targets import TargetReader
from lhs.networks.patch import PATCH
from lhs.training.feed import Batch, no_images
from lhs.training.patches import Targets, cut_patches, ordered_batches

Made = TypeVar("Made")

CHUNK, CHUNK_BYTES = 8, 80_000_000
"""Most batches, and bytes of patches, that one Ray Data pipeline makes. It ends before they are
used: a pipeline that waits for its consumer runs a busy loop in the consumer's process."""
AHEAD = 4
"""Batches that wait for the network, besides those of two chunks."""
OWNED = 512
"""Patches cut at a time, image after image, when features are kept."""


@dataclass
class PatchFeed:
    """A worker's share of the patches around all samples.

    Patches travel from tasks to the worker through Ray's object store and are never written. The
    sample with row number i belongs to worker i % world_size.

    Parameters
    ----------
    config
        The experiment.
    scenes
        Ids of the training images, in the order that targets count them in.
    reader
        The samples.
    rank, world_size
        Which share.
    """

    config: Config
    scenes: Sequence[str]
    reader: TargetReader
    rank: int = 0
    world_size: int = 1
    repeats: bool = field(default=True, init=False)

    @property
    def examples(self) -> int:
        """Samples of all workers."""
        return self.reader.total

    @property
    def batch_size(self) -> int:
        """Patches of a step, over all workers."""
        return min(self.config.train.batch_size, self.examples)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return self.examples // self.batch_size

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch."""
        shares = (
            targets.take(slice(self.rank, None, self.world_size))
            for targets in self._order(epoch, first)
        )
        return in_background(self._cut(shares), AHEAD)

    def one_size(self) -> tuple[int, int]:
        """Height and width of every patch."""
        return PATCH, PATCH

    def owned(self) -> Iterator[Batch]:
        """This worker's own samples, image after image: each image variant is made once."""
        targets = self.reader(0, self.examples)
        targets = targets.take(targets.ids % self.world_size == self.rank)
        targets = targets.take(np.lexsort([targets.variants, targets.images]))
        parts = (targets.take(slice(i, i + OWNED)) for i in range(0, len(targets.ids), OWNED))
        size = self.config.train.micro_batch or self.batch_size
        for (whole,) in in_background(self._cut(parts), 1):
            yield from whole.parts(size, 1)

    def owned_labels(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """Of each global batch this worker's own samples, without patches."""
        for targets in self._order(epoch, first):
            own = targets.take(targets.ids % self.world_size == self.rank)
            labels, subclasses, ids = _tensors(own)
            yield [Batch(no_images(labels), labels, subclasses, ids)]

    def _order(self, epoch: int, first: int) -> Iterator[Targets]:
        balanced = self.config.train.sampling == "balanced"
        return ordered_batches(
            self.reader,
            self.examples,
            batch_size=self.batch_size,
            seed=self.config.train.seed,
            epoch=epoch,
            first=first,
            class_counts=self.reader.class_counts if balanced else None,
        )

    def _cut(self, shares: Iterator[Targets]) -> Iterator[list[Batch]]:
        for chunk, blocks in in_background(self._chunks(shares), 1):
            for rows, block in zip(chunk, blocks, strict=True):
                labels, subclasses, ids = _tensors(rows)
                patches = torch.from_numpy(patches_of(ray.get(block), rows.ids))
                yield [Batch(patches.permute(0, 3, 1, 2), labels, subclasses, ids)]

    def _chunks(self, shares: Iterator[Targets]) -> Iterator[tuple[list[Targets], list[Any]]]:
        """The batches of a chunk, and references of the blocks with their patches."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        spare = int(ray.cluster_resources().get("CPU", 1)) // self.world_size - 1
        for first in shares:
            length = min(CHUNK, max(1, CHUNK_BYTES // (len(first.ids) * 3 * PATCH**2)))
            chunk = [first, *itertools.islice(shares, length - 1)]
            cut = (
                ray.data.from_arrow([self._table(rows) for rows in chunk])
                .map_batches(
                    cut_batch,
                    batch_size=None,
                    batch_format="pyarrow",
                    # A worker books its CPU also while it waits: patches must not wait for it.
                    num_cpus=0.05,
                    compute=ray.data.TaskPoolStrategy(size=max(1, min(spare, len(chunk)))),
                    fn_kwargs={"data": self.config.data, "seed": self.config.context.seed},
                )
                .materialize()
            )
            yield chunk, cut.to_arrow_refs()

    def _table(self, rows: Targets) -> pa.Table:
        names = [self.scenes[place] for place in rows.images.tolist()]
        columns = {name: getattr(rows, name) for name in ("ids", "variants", "y", "x")}
        return pa.table({"names": names, **columns})


def _tensors(rows: Targets) -> tuple[Tensor, Tensor, Tensor]:
    labels, subclasses = (
        torch.from_numpy(column.astype(np.int64)).view(-1, 1, 1)
        for column in (rows.labels, rows.subclasses)
    )
    return labels, subclasses, torch.from_numpy(rows.ids.astype(np.int64))


def cut_batch(rows: pa.Table, data: DataConfig, seed: int) -> pa.Table:
    """Cut the patches of a block of rows: names, variants, y, x, and ids, which come back too."""
    dataset = worker_dataset(data)
    patches = cut_patches(
        [dataset.scene(name) for name in rows["names"].to_pylist()],
        rows["variants"].to_numpy(),
        np.stack([rows["y"].to_numpy(), rows["x"].to_numpy()], axis=1),
        side=PATCH,
        seed=seed,
    )
    buffers = [None, pa.py_buffer(patches)]
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(3 * PATCH**2), len(rows), buffers)
    return pa.table({"ids": rows["ids"], "patches": column})


def patches_of(block: pa.Table, ids: np.ndarray) -> np.ndarray:
    """The patches (N, 227, 227, 3) uint8 that `cut_batch` gave for these rows."""
    if not np.array_equal(block["ids"].to_numpy(), ids):
        raise RuntimeError("Ray Data gave batches in another order than asked for")
    column = block["patches"].combine_chunks()
    # A copy: tensors must be writable, Ray's memory is not.
    pixels = np.frombuffer(column.buffers()[1], np.uint8).copy()
    pixels = pixels.reshape(-1, PATCH, PATCH, 3)
    return pixels[column.offset : column.offset + len(column)]


def in_background(items: Iterator[Made], ahead: int) -> Iterator[Made]:
    """The same items, made by a thread that runs so many ahead."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="patches", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
