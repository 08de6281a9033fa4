"""Ray Data feeds Ray Train: patches are cut by tasks while the worker trains on those before."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

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

CHUNK = 128
"""Batches of one Ray Data pipeline; the next one starts while the last is used."""
AHEAD = 4
"""Batches that wait for the network."""
TASKS = 2
"""Tasks that cut patches for a worker at a time."""
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
        return _in_background(self._cut(shares))

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
        for (whole,) in _in_background(self._cut(parts)):
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
        options = ray.data.DataContext.get_current()
        options.execution_options.preserve_order = True
        options.enable_progress_bars = False
        options.print_on_execution_start = False
        while chunk := list(itertools.islice(shares, CHUNK)):
            cut = (
                ray.data.from_arrow([self._table(rows) for rows in chunk])
                .map_batches(
                    cut_batch,
                    batch_size=None,
                    batch_format="numpy",
                    # A worker books its CPU also while it waits: patches must not wait for it.
                    num_cpus=0.05,
                    compute=ray.data.TaskPoolStrategy(size=min(TASKS, len(chunk))),
                    fn_kwargs={"data": self.config.data, "seed": self.config.context.seed},
                )
                .iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=AHEAD)
            )
            for rows, columns in zip(chunk, cut, strict=True):
                if not np.array_equal(columns["ids"], rows.ids):
                    raise RuntimeError("Ray Data gave batches in another order than asked for")
                labels, subclasses, ids = _tensors(rows)
                patches = torch.from_numpy(np.array(columns["patches"])).permute(0, 3, 1, 2)
                yield [Batch(patches, labels, subclasses, ids)]

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


def cut_batch(columns: dict[str, np.ndarray], data: DataConfig, seed: int) -> dict[str, np.ndarray]:
    """Cut the patches of a block of rows: names, variants, y, x, and ids, which come back too."""
    dataset = worker_dataset(data)
    patches = cut_patches(
        [dataset.scene(str(name)) for name in columns["names"]],
        columns["variants"],
        np.stack([columns["y"], columns["x"]], axis=1),
        side=PATCH,
        seed=seed,
        void=dataset.void,
    )
    return {"ids": columns["ids"], "patches": patches}


def _in_background(batches: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
    """The same batches, made by a thread that runs a few ahead."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=AHEAD)
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
            for batch in batches:
                if not put(batch):
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
