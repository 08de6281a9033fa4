"""Patches around samples (paper section 4.1): which come in which order, and how they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lhs.data.augmentation import variant_image
from lhs.data.patches import cut_patch
from lhs.data.scenes import Scene

WINDOW = 2**18
"""Rows held and mixed at a time. They are in random order already: mixing a window at a time makes
every epoch another order without holding them all."""


class Targets(NamedTuple):
    """Rows of training samples, all arrays (N,).

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

    def take(self, rows: np.ndarray | slice) -> Targets:
        """Some of the rows."""
        return Targets(*(column[rows] for column in self))


def joined(parts: Sequence[Targets]) -> Targets:
    """Rows one after the other."""
    return Targets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def ordered_batches(
    read: Callable[[int, int], Targets],
    total: int,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    class_counts: np.ndarray | None = None,
    window: int = WINDOW,
) -> Iterator[Targets]:
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
    left: Targets | None = None
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


def cut_patches(
    scenes: Sequence[Scene],
    variants: np.ndarray,
    centres: np.ndarray,
    *,
    side: int,
    seed: int,
) -> np.ndarray:
    """Decode, augment and cut.

    Each image variant is made once, however many of the patches are from it.

    Parameters
    ----------
    scenes
        N, the scene of each patch.
    variants
        (N,) augmented variant of the scene.
    centres
        (N, 2) whole numbers (y, x), the middle of each patch.
    side
        Pixels of a patch, odd.
    seed
        Of the augmentation.

    Returns
    -------
    (N, side, side, 3) uint8
    """
    patches = np.empty((len(scenes), side, side, 3), np.uint8)
    rows_of: dict[tuple[str, int], list[int]] = {}
    for row, (scene, number) in enumerate(zip(scenes, variants.tolist(), strict=True)):
        rows_of.setdefault((scene.id, number), []).append(row)
    for (name, number), rows in rows_of.items():
        pixels = variant_image(scenes[rows[0]].image(), seed=seed, image_id=name, number=number)
        for row in rows:
            y, x = centres[row].tolist()
            patches[row] = cut_patch(pixels, (y, x), side)
    return patches
