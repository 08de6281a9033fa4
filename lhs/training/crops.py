"""Random crops of whole images, the same for the same seed on any machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch

from lhs.config import TrainConfig
from lhs.data.patches import mean_colour
from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.training.feed import Batch

AHEAD = 4
"""Batches prepared while the network trains on one."""

Made = TypeVar("Made")


class Example(NamedTuple):
    """A training image (H, W, 3) uint8, its label map (H, W) and subclass map (H, W)."""

    image: np.ndarray
    label_map: np.ndarray
    subclass_map: np.ndarray


class TrainingScenes:
    """Training images with their subclass maps, kept decoded up to a bound of memory.

    Parameters
    ----------
    scenes
        The training split.
    hierarchy
        Makes the subclass maps; without one they are the label maps.
    cache_mb
        Decoded images kept in memory; what does not fit is read again when needed.
    """

    def __init__(self, scenes: Sequence[Scene], hierarchy: Hierarchy | None, cache_mb: int):
        self.scenes = scenes
        self.hierarchy = hierarchy
        self._room = cache_mb * 2**20
        self._kept: dict[int, Example] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.scenes)

    def example(self, index: int) -> Example:
        """The image, its labels and its subclasses."""
        if index in self._kept:
            return self._kept[index]
        scene = self.scenes[index]
        image, label_map = scene.load()
        subclass_map = label_map
        if self.hierarchy is not None:
            subclass_map = self.hierarchy.relabel(
                label_map, self.hierarchy.scene_of(scene), scene.surroundings()
            )
        example = Example(image, label_map, subclass_map)
        size = sum(array.nbytes for array in example)
        with self._lock:
            if size <= self._room:
                self._room -= size
                self._kept[index] = example
        return example


def random_crop(
    example: Example, config: TrainConfig, void: int, void_subclass: int, rng: np.random.Generator
) -> Example:
    """A scaled, perhaps mirrored crop of (crop_height, crop_width).

    Beyond the image stand its mean colour and void.
    """
    height, width = example.label_map.shape
    scale = rng.uniform(1 - config.scale_jitter, 1 + config.scale_jitter)
    mirror = rng.random() < config.flip
    top, left = (
        rng.uniform(min(0, spare), max(0, spare))
        for spare in (height * scale - config.crop_height, width * scale - config.crop_width)
    )
    # Pixel centres: out = scale * (in + 0.5) - 0.5 - offset.
    shift = 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, shift - left], [0, scale, shift - top]])
    if mirror:
        matrix[0] = -matrix[0]
        matrix[0, 2] += config.crop_width - 1
    size = (config.crop_width, config.crop_height)
    mean = mean_colour(example.image).tolist()
    return Example(
        cv2.warpAffine(
            example.image, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=mean
        ),
        _nearest(example.label_map, matrix, size, void),
        _nearest(example.subclass_map, matrix, size, void_subclass),
    )


def _nearest(ids: np.ndarray, matrix: np.ndarray, size: tuple[int, int], void: int) -> np.ndarray:
    return cv2.warpAffine(
        ids, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=void
    )


def steps_in_epoch(images: int, batch_size: int) -> int:
    """Whole batches of an epoch; the images left over come in other epochs' batches."""
    return max(1, images // batch_size)


def epoch_batches(
    scenes: TrainingScenes,
    config: TrainConfig,
    *,
    void: int,
    void_subclass: int,
    epoch: int,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    threads: int = 2,
) -> Iterator[Batch]:
    """This worker's share of each global batch of an epoch.

    Crops depend on (seed, epoch, place in the epoch) only, not on the number of workers.

    Parameters
    ----------
    scenes
        All training images.
    config
        Batch size over all workers, crop size, seed.
    void, void_subclass
        Ids beyond the border.
    epoch
        Counted over all phases, so that no two epochs draw the same crops.
    first
        Number of the first batch wanted.
    rank, world_size
        Which share is this worker's.
    threads
        Threads that decode and crop ahead of the network.
    """
    order = np.random.default_rng([config.seed, epoch]).permutation(len(scenes))
    size = min(config.batch_size, len(scenes))
    if world_size > size:
        raise UserError(
            f"train.workers = {world_size}: a batch has {size} images; allowed is one worker an "
            "image at most"
        )

    def batch(step: int) -> Batch:
        places = range(step * size + rank, (step + 1) * size, world_size)
        crops = [
            random_crop(
                scenes.example(int(order[place])),
                config,
                void,
                void_subclass,
                np.random.default_rng([config.seed, epoch, place]),
            )
            for place in places
        ]
        return stacked(crops)

    yield from ahead(batch, range(first, steps_in_epoch(len(scenes), config.batch_size)), threads)


def stacked(examples: Sequence[Example]) -> Batch:
    """Examples of one size as tensors."""
    images = np.stack([example.image for example in examples]).transpose(0, 3, 1, 2)
    return Batch(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(np.stack([example.label_map for example in examples]).astype(np.int64)),
        torch.from_numpy(np.stack([example.subclass_map for example in examples]).astype(np.int64)),
    )


def ahead(make: Callable[[int], Made], steps: Iterable[int], threads: int) -> Iterator[Made]:
    """What `make` gives for each step, in order, made in threads while earlier ones are used."""
    with ThreadPoolExecutor(threads, thread_name_prefix="examples") as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class CropFeed:
    """A worker's share of random crops: never the same twice, so nothing of them can be kept."""

    scenes: TrainingScenes
    config: TrainConfig
    void: int
    void_subclass: int
    rank: int = 0
    world_size: int = 1
    repeats: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return steps_in_epoch(len(self.scenes), self.config.batch_size)

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch: see `epoch_batches`."""
        for batch in epoch_batches(
            self.scenes,
            self.config,
            void=self.void,
            void_subclass=self.void_subclass,
            epoch=epoch,
            first=first,
            rank=self.rank,
            world_size=self.world_size,
        ):
            yield [batch]
