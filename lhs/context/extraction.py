"""The samples of one image variant, and their label histograms (METHOD sections 2 and 3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lhs.context.histograms import label_histograms
from lhs.context.samples import superpixel_samples
from lhs.context.superpixels import segment
from lhs.data.augmentation import variant, variant_label_map
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene


class SampleRows(NamedTuple):
    """The samples of one image variant.

    Attributes
    ----------
    centres
        (N, 2) int32, (y, x).
    classes
        (N,) label at each centre; void centres give no sample.
    sizes
        (N,) pixels of each sample's superpixel.
    """

    centres: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray


def sample_rows(
    scene: Scene, number: int, *, superpixel_size: int, seed: int, void: int
) -> SampleRows:
    """Decode, augment, segment and sample one variant of a training image.

    Parameters
    ----------
    scene
        A training scene.
    number
        Variant; 0 is the image itself.
    superpixel_size
        Mean pixels of a superpixel.
    seed
        Of the augmentation.
    void
        Label of unlabelled pixels.
    """
    image, label_map = scene.load()
    image, label_map = variant(
        image, label_map, seed=seed, image_id=scene.id, number=number, void=void
    )
    superpixels = segment(image, mean_size=superpixel_size)
    centres, classes = superpixel_samples(label_map, superpixels, void)
    sizes = np.bincount(superpixels.ravel())[superpixels[centres[:, 0], centres[:, 1]]]
    return SampleRows(centres, classes, sizes)


def histogram_rows(
    dataset: Dataset, scene: Scene, number: int, centres: np.ndarray, *, region: float, seed: int
) -> np.ndarray:
    """Label histograms of samples of one variant: (N, L) counts for centres (N, 2).

    The label map is read and augmented again; stages do not store pixels.
    """
    label_map = variant_label_map(
        scene.label_map(), seed=seed, image_id=scene.id, number=number, void=dataset.void
    )
    return label_histograms(label_map, centres, region, len(dataset.classes), dataset.void)
