"""Procedural outdoor scenes: the embedded default dataset.

Every scene is painted on demand from (seed, split, number), without a file. Its composition does
not depend on the counts, so a larger dataset holds the smaller one. The same versions of numpy
and OpenCV paint the same scene, up to the last bit of floating point between kinds of processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.scenes import SPLITS, Scene, void_of
from lhs.data.synthetic.canvas import (
    CLASSES,
    Array,
    Canvas,
    Rng,
    draw_light,
    noise_tile,
    spread,
)
from lhs.data.synthetic.places import PLACES, compose

__all__ = ["CLASSES", "SyntheticScene", "synthetic_dataset"]

GENERATOR = 1  # part of the fingerprint: raise it with every change of the pixels


@dataclass(frozen=True, kw_only=True)
class SyntheticScene(Scene):
    """One procedural scene.

    Attributes
    ----------
    seed, part, number
        What the scene is drawn from; `part` is the place of the split it was made for.
    height, width
        Of the image, pixels.
    unlabelled
        The expected share of void pixels, 0 to 0.9.
    """

    seed: int
    part: int
    number: int
    height: int
    width: int
    unlabelled: float

    def image(self) -> np.ndarray:
        """Paint the image: (H, W, 3) uint8 RGB."""
        return _painted(self)[0].copy()

    def label_map(self) -> np.ndarray:
        """Paint the label map: (H, W) uint8, class ids and 255 where unlabelled."""
        return _painted(self)[1].copy()


def synthetic_dataset(
    train: int, test: int, height: int, width: int, unlabelled: float, seed: int
) -> Dataset:
    """Make a dataset of procedural outdoor scenes.

    Parameters
    ----------
    train, test
        Numbers of scenes, from 0. The scene types take turns in random order.
    height, width
        Of every image, pixels, from 32.
    unlabelled
        Expected share of void pixels, 0 to 0.9: along boundaries and in blobs.
    seed
        From 0. Other seeds give other scenes.

    Returns
    -------
    Dataset
        14 classes, 6 scene names; ids as "coast_00012" and, in the test split, "coast_test00012".

    Examples
    --------
    >>> dataset = synthetic_dataset(6, 2, 48, 64, unlabelled=0.1, seed=0)
    >>> dataset.split("train")[0].image().shape
    (48, 64, 3)
    """
    shared: dict[str, Any] = {
        "height": height, "width": width, "unlabelled": unlabelled, "seed": seed
    }  # fmt: skip
    scenes = []
    for part, (split, count) in enumerate(zip(SPLITS, (train, test), strict=True)):
        mark = "" if split == "train" else split
        for number, name in enumerate(_names(seed, part, count)):
            scenes.append(
                SyntheticScene(
                    id=f"{name}_{mark}{number:05d}",
                    split=split,
                    num_classes=len(CLASSES),
                    name=name,
                    part=part,
                    number=number,
                    **shared,
                )
            )
    identity = {"generator": GENERATOR, **shared}
    return Dataset("synthetic", CLASSES, scenes, identity=identity)


def _names(seed: int, part: int, count: int) -> list[str]:
    """Scene types by number: each run of six holds every type once."""
    names = sorted(PLACES)
    rounds = -(-count // len(names))
    order = np.random.default_rng([seed, part]).random((rounds, len(names))).argsort(axis=1)
    return [names[i] for i in order.ravel()[:count]]


@lru_cache(maxsize=4)  # image() and label_map() of one scene follow each other
def _painted(scene: SyntheticScene) -> tuple[np.ndarray, np.ndarray]:
    assert scene.name is not None
    rng = np.random.default_rng([scene.seed, scene.part, scene.number, 1])
    canvas = compose(scene.name, scene.height, scene.width, draw_light(rng), rng)
    image = _photograph(canvas, rng)
    labels = canvas.labels
    if scene.unlabelled:
        labels = _leave_unlabelled(labels, scene.unlabelled, rng)
    return image, labels


def _photograph(canvas: Canvas, rng: Rng) -> np.ndarray:
    """Give the picture what a camera does to it: blur, cast, exposure, vignette and noise."""
    image: Array = cv2.GaussianBlur(canvas.image, (0, 0), float(rng.uniform(0.35, 0.75)))
    cast = 1 + 0.05 * rng.normal(size=3)
    # Most of an automatic exposure, and an error.
    exposure = float(np.clip(0.46 / image.mean(), 0.6, 2.2) ** 0.65 * np.exp(0.12 * rng.normal()))
    ys, xs = canvas.ys / canvas.height - 0.5, canvas.xs / canvas.width - 0.5
    vignette = 1 - np.float32(rng.uniform(0, 0.35)) * (ys * ys + xs * xs)
    image *= vignette[..., None] * (exposure * cast).astype(np.float32)
    grey = np.float32(0.45)
    image = grey + (image - grey) * np.float32(rng.uniform(0.85, 1.2))
    noise = rng.standard_normal(canvas.labels.shape, np.float32)
    strength = np.float32(rng.uniform(0.005, 0.024))
    gains = (0.4 * rng.normal(size=3)).astype(np.float32)
    image += spread(strength * noise)
    image += spread(strength * noise[:, ::-1]) * gains
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _leave_unlabelled(labels: np.ndarray, share: float, rng: Rng) -> np.ndarray:
    """Set pixels to void as annotators do: uncertain boundaries, and regions nobody drew.

    Parameters
    ----------
    labels
        (H, W) class ids.
    share
        Expected share of void; an image's own share is drawn from a beta distribution round it.

    Returns
    -------
    numpy.ndarray
        (H, W) uint8 with void.
    """
    own = float(rng.beta(20 * share, 20 * (1 - share)))
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    away = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 3)
    size = float(np.sqrt(labels.size))
    blobs: Array = np.roll(noise_tile(1.8), rng.integers(0, 512, 2), axis=(0, 1))[:128, :128]
    blobs = cv2.resize(blobs, labels.shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    # Rank the pixels by how likely they are left out, then take as many as the share asks for.
    score = blobs + 2.2 * np.exp(-away / np.float32(0.01 * size + 0.6))
    count = min(round(own * labels.size), labels.size)
    if not count:
        return labels
    chosen = np.argpartition(score.ravel(), labels.size - count)[labels.size - count :]
    result = labels.copy()
    result.ravel()[chosen] = void_of(len(CLASSES))
    return result
