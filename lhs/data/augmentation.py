"""Variants of a training image, the same pixels on any machine (METHOD, section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lhs.data.patches import mean_colour

SCALE = (0.9, 1.1)
ROTATION = (-8.0, 8.0)
FLIP_PROBABILITY = 0.5


@dataclass(frozen=True)
class Change:
    """The transform of a variant: scale, rotation in degrees (counter-clockwise), flip."""

    scale: float
    rotation: float
    flip: bool


def change_of(*, seed: int, image_id: str, number: int) -> Change:
    """Draw the scale, rotation and flip of a variant; they depend on the arguments alone.

    Parameters
    ----------
    seed
        Of the experiment.
    image_id
        The scene's id.
    number
        0 is the image itself; from 1 on, a variant.

    Returns
    -------
    Change
        Scale uniform in [0.9, 1.1], rotation uniform in [-8, 8], flip with probability 0.5.

    Raises
    ------
    ValueError
        If number is negative.
    """
    if number < 0:
        raise ValueError(f"variant number {number} is negative")
    if number == 0:
        return Change(1.0, 0.0, False)
    key = hashlib.sha256(f"{seed}\n{image_id}\n{number}".encode("utf-8", "surrogatepass")).digest()
    random = np.random.default_rng(int.from_bytes(key, "big"))
    scale, rotation = random.uniform(*SCALE), random.uniform(*ROTATION)
    return Change(scale, rotation, bool(random.random() < FLIP_PROBABILITY))


def variant(
    image: np.ndarray, label_map: np.ndarray, *, seed: int, image_id: str, number: int, void: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make one augmented variant of a scene, of the same size.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    label_map
        (H, W) uint8 or uint16.
    seed, image_id, number
        Determine the transform, see `change_of`; number 0 gives the input itself.
    void
        The label of pixels from outside.

    Returns
    -------
    image : numpy.ndarray
        (H, W, 3) uint8, bilinear; pixels from outside have the image's mean colour.
    label_map : numpy.ndarray
        (H, W), nearest; pixels from outside are void.

    Raises
    ------
    ValueError
        If image and label map differ in size, or number is negative.
    """
    if image.shape[:2] != label_map.shape:
        raise ValueError(f"image {image.shape[:2]} and label map {label_map.shape} differ in size")
    return (
        variant_image(image, seed=seed, image_id=image_id, number=number),
        variant_label_map(label_map, seed=seed, image_id=image_id, number=number, void=void),
    )


def variant_image(image: np.ndarray, *, seed: int, image_id: str, number: int) -> np.ndarray:
    """Make the image of `variant` alone, where labels are known already.

    Parameters
    ----------
    image, seed, image_id, number
        As for `variant`.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8, equal to the image of `variant` in every pixel.
    """
    change = change_of(seed=seed, image_id=image_id, number=number)
    if not number:
        return image
    return _warp(image, change, cv2.INTER_LINEAR, mean_colour(image).tolist())


def variant_label_map(
    label_map: np.ndarray, *, seed: int, image_id: str, number: int, void: int
) -> np.ndarray:
    """Make the label map of `variant` alone, for stages that need no image.

    Parameters
    ----------
    label_map, seed, image_id, number, void
        As for `variant`.

    Returns
    -------
    numpy.ndarray
        (H, W), equal to the label map of `variant` in every pixel.
    """
    change = change_of(seed=seed, image_id=image_id, number=number)
    return _warp(label_map, change, cv2.INTER_NEAREST, (void,)) if number else label_map


def _warp(
    pixels: np.ndarray, change: Change, interpolation: int, border: Sequence[float]
) -> np.ndarray:
    height, width = pixels.shape[:2]
    # Pixel centres are whole numbers, so the centre of the image is at (size - 1) / 2.
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, change.rotation, change.scale)
    warped = cv2.warpAffine(
        pixels, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )  # fmt: skip
    return np.ascontiguousarray(warped[:, ::-1]) if change.flip else warped
