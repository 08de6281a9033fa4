"""Random crops of whole images, the same for the same seed on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lhs.config import TrainConfig
from lhs.data.patches import mean_colour
from lhs.training.decoded import Example, TrainingScenes
from lhs.training.feed import CPU, Batch, own_places, prefetched, small_ids


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


@dataclass(frozen=True)
class CropFeed:
    """A worker's share of random crops.

    Crops depend on (seed, epoch, place in the epoch) only, not on the number of workers.

    Parameters
    ----------
    scenes
        All training images.
    config
        Batch size over all workers, crop size, seed.
    void, void_subclass
        Ids beyond the border.
    rank, world_size
        Which share is this worker's.
    threads
        Threads that decode and crop ahead of the network.
    device
        Where the batches will go.
    """

    scenes: TrainingScenes
    config: TrainConfig
    void: int
    void_subclass: int
    rank: int = 0
    world_size: int = 1
    threads: int = 2
    device: torch.device = CPU

    @property
    def batch_size(self) -> int:
        """Crops of a global batch."""
        return min(self.config.batch_size, len(self.scenes))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return steps_in_epoch(len(self.scenes), self.config.batch_size)

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's share of each global batch.

        Parameters
        ----------
        epoch
            Counted over all phases, so that no two epochs draw the same crops.
        first
            Number of the first batch wanted.
        """
        seed, size = self.config.seed, self.batch_size
        order = np.random.default_rng([seed, epoch]).permutation(len(self.scenes))
        own = own_places(size, self.rank, self.world_size)

        def share(step: int) -> list[Batch]:
            crops = [
                random_crop(
                    self.scenes.example(int(order[place])),
                    self.config,
                    self.void,
                    self.void_subclass,
                    np.random.default_rng([seed, epoch, place]),
                )
                for place in (step * size + own).tolist()
            ]
            return [stacked(crops, own)]

        steps = range(first, self.steps_per_epoch)
        yield from prefetched(share, steps, self.threads, self.device)


def stacked(examples: Sequence[Example], places: Sequence[int] | np.ndarray) -> Batch:
    """Examples of one size as tensors, and their places in the global batch."""
    # Channels stay last in memory, as the network takes them.
    images = torch.from_numpy(np.stack([example.image for example in examples]))
    return Batch(
        images.permute(0, 3, 1, 2),
        small_ids(np.stack([example.label_map for example in examples])),
        small_ids(np.stack([example.subclass_map for example in examples])),
        torch.from_numpy(np.array(places, np.int64)),
    )
