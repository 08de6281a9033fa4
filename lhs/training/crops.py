"""Random crops of whole images, the same for the same seed on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lhs.config import TrainConfig
from lhs.data.patches import mean_colour
from lhs.training.data_source import Batch, DataSource, prefetched, small_ids
from lhs.training.decoded import Example, TrainingScenes


def random_crop(
    example: Example, config: TrainConfig, void: int, void_subclass: int, rng: np.random.Generator
) -> Example:
    """A scaled and randomly mirrored crop of (crop_height, crop_width).

    Beyond the image it has the image's mean colour and void.
    """
    height, width = example.label_map.shape
    scale = np.exp(rng.uniform(np.log(config.scale_min), np.log(config.scale_max)))
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
    image = cv2.warpAffine(
        example.image, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=mean
    )
    if config.colour_jitter:
        image = jittered_colours(image, config.colour_jitter, rng)
    return Example(
        image,
        _nearest(example.label_map, matrix, size, void),
        _nearest(example.subclass_map, matrix, size, void_subclass),
    )


def _nearest(ids: np.ndarray, matrix: np.ndarray, size: tuple[int, int], void: int) -> np.ndarray:
    return cv2.warpAffine(
        ids, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=void
    )


def jittered_colours(image: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """An RGB image (H, W, 3) uint8 with other brightness, contrast and saturation.

    Each is changed by a factor drawn from 1 +- `jitter`, in this order, as torchvision defines it.
    """
    from torchvision.transforms.v2 import functional

    changed = torch.from_numpy(image).permute(2, 0, 1)
    for adjust in (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    ):
        changed = adjust(changed, float(rng.uniform(1 - jitter, 1 + jitter)))
    return changed.permute(1, 2, 0).numpy()


@dataclass(frozen=True)
class CropSource(DataSource):
    """Random crops of all training images, one of each image an epoch.

    A crop depends only on (seed, epoch, its index in the epoch), not on the number of workers.

    Parameters
    ----------
    scenes
        All training images.
    void, void_subclass
        Ids beyond the border.
    """

    scenes: TrainingScenes
    void: int
    void_subclass: int

    @property
    def examples(self) -> int:
        """Training images."""
        return len(self.scenes)

    def batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This worker's shard of each global batch: see `DataSource`."""
        order, shard = self.shuffled(epoch), self.shard()

        def make(step: int) -> list[Batch]:
            crops = [
                self._crop(
                    int(order[step, index]),
                    np.random.default_rng([self.train.seed, epoch, step * self.batch_size + index]),
                )
                for index in shard.tolist()
            ]
            return [stacked(crops, shard)]

        steps = range(first, self.steps_per_epoch)
        yield from prefetched(make, steps, self.threads, self.device)

    def _crop(self, image: int, rng: np.random.Generator) -> Example:
        if self.train.subclass_context == "image":
            example = self.scenes.example(image)
            return random_crop(example, self.train, self.void, self.void_subclass, rng)
        example = self.scenes.example_with_context(image)
        crop = random_crop(example, self.train, self.void, self.void, rng)
        subclass_map = self.scenes.relabel(image, crop.label_map, crop.subclass_map)
        return crop._replace(subclass_map=subclass_map)


def stacked(examples: Sequence[Example], places: Sequence[int] | np.ndarray) -> Batch:
    """Examples of one size as tensors, with their indices in the global batch."""
    # Channels stay last in memory, as networks run faster.
    images = torch.from_numpy(np.stack([example.image for example in examples]))
    return Batch(
        images.permute(0, 3, 1, 2),
        small_ids(np.stack([example.label_map for example in examples])),
        small_ids(np.stack([example.subclass_map for example in examples])),
        torch.from_numpy(np.array(places, np.int64)),
    )
