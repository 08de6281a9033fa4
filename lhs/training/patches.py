"""Patches around samples (paper section 4.1): which come in which order, and how they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from lhs.data.augmentation import variant_image
from lhs.data.patches import cut_patch
from lhs.training.data_source import Batch, DataSource, prefetched, small_ids
from lhs.training.decoded import TrainingScenes

WINDOW = 2**18
"""Rows held and mixed at a time. They are in random order already: mixing a window at a time makes
every epoch another order without holding them all."""


class SampleIndex(NamedTuple):
    """Rows of the index of training samples, all arrays (N,).

    Attributes
    ----------
    ids
        Number of the row among all rows.
    images
        Place of the scene in the training split.
    variants
        Augmented variant of the scene.
    y, x
        The middle of the patch.
    labels, subclasses
        What it shows.
    """

    ids: np.ndarray
    images: np.ndarray
    variants: np.ndarray
    y: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    subclasses: np.ndarray

    def take(self, rows: np.ndarray | slice) -> SampleIndex:
        """Some of the rows."""
        return SampleIndex(*(column[rows] for column in self))


def joined(parts: Sequence[SampleIndex]) -> SampleIndex:
    """Rows one after the other."""
    return SampleIndex(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def ordered_batches(
    read: Callable[[int, int], SampleIndex],
    total: int,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    class_counts: np.ndarray | None = None,
    window: int = WINDOW,
) -> Iterator[SampleIndex]:
    """Global batches of an epoch, the same for the same seed and epoch.

    Parameters
    ----------
    read
        Gives rows [start, stop).
    total
        Number of all rows.
    batch_size
        Rows of a batch; what is left over at the end of an epoch is left out.
    seed, epoch
        Decide the order.
    first
        Number of the first batch wanted.
    class_counts
        (L,) rows of each class: given, rows are drawn with replacement so that all classes come
        equally often; else each row comes once.
    window
        Rows held at a time.
    """
    starts = np.arange(0, total, window)
    left: SampleIndex | None = None
    number = 0
    for start in np.random.default_rng([seed, epoch]).permutation(starts).tolist():
        stop = min(start + window, total)
        held = 0 if left is None else len(left.ids)
        whole = (held + stop - start) // batch_size
        rng = np.random.default_rng([seed, epoch, start])
        rows = read(start, stop)
        if class_counts is None:
            rows = rows.take(rng.permutation(len(rows.ids)))
        else:
            chance = 1.0 / class_counts[rows.labels]
            rows = rows.take(rng.choice(len(rows.ids), len(rows.ids), p=chance / chance.sum()))
        if left is not None:
            rows = joined([left, rows])
        for place in range(whole):
            if number >= first:
                yield rows.take(slice(place * batch_size, (place + 1) * batch_size))
            number += 1
        left = rows.take(slice(whole * batch_size, None))


class SampleIndexRows(Protocol):
    """Reads rows of samples by their numbers."""

    @property
    def total(self) -> int:
        """Number of all rows."""

    @property
    def class_counts(self) -> np.ndarray:
        """(L,) rows of each class."""

    def __call__(self, start: int, stop: int) -> SampleIndex:
        """Rows [start, stop)."""


@dataclass(frozen=True)
class PatchSource(DataSource):
    """The patches around all samples, cut in threads, never written.

    Parameters
    ----------
    scenes
        The training images, in the order that the rows count them in.
    rows
        The samples.
    variants_seed
        Of the augmentation, `context.seed`.
    side
        Pixels of a patch, odd.
    """

    scenes: TrainingScenes
    rows: SampleIndexRows
    variants_seed: int
    side: int

    @property
    def examples(self) -> int:
        """Samples."""
        return self.rows.total

    def order(self, epoch: int, first: int = 0) -> Iterator[SampleIndex]:
        """The rows of each global batch of an epoch, from number `first` on."""
        balanced = self.train.sampling == "balanced"
        return ordered_batches(
            self.rows,
            self.rows.total,
            batch_size=self.batch_size,
            seed=self.train.seed,
            epoch=epoch,
            first=first,
            class_counts=self.rows.class_counts if balanced else None,
        )

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's shard of each global batch: see `DataSource`."""
        shard = self.shard()

        def make(index: SampleIndex) -> list[Batch]:
            rows = index.take(shard)
            patches = cut_patches(self.scenes, rows, side=self.side, seed=self.variants_seed)
            labels, subclasses = (
                small_ids(column).view(-1, 1, 1) for column in (rows.labels, rows.subclasses)
            )
            images = torch.from_numpy(patches).permute(0, 3, 1, 2)
            return [Batch(images, labels, subclasses, torch.from_numpy(shard))]

        yield from prefetched(make, self.order(epoch, first), self.threads, self.device)


def cut_patches(scenes: TrainingScenes, rows: SampleIndex, *, side: int, seed: int) -> np.ndarray:
    """Augment and cut; each image variant is made once, whatever the number of its patches.

    Parameters
    ----------
    scenes
        The training images that `rows.images` counts.
    rows
        N samples.
    side
        Pixels of a patch, odd.
    seed
        Of the augmentation.

    Returns
    -------
    (N, side, side, 3) uint8
    """
    patches = np.empty((len(rows.images), side, side, 3), np.uint8)
    rows_of: dict[tuple[int, int], list[int]] = {}
    pairs = zip(rows.images.tolist(), rows.variants.tolist(), strict=True)
    for row, pair in enumerate(pairs):
        rows_of.setdefault(pair, []).append(row)
    for (place, number), here in rows_of.items():
        name = scenes.scenes[place].id
        pixels = variant_image(scenes.image(place), seed=seed, image_id=name, number=number)
        for row in here:
            patches[row] = cut_patch(pixels, (int(rows.y[row]), int(rows.x[row])), side)
    return patches
