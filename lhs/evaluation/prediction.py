"""What a model says of one image, alone or as the mean of several looks at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch

from lhs.evaluation.grid import ScoreGrid
from lhs.evaluation.overlay import label_overlay


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image.

    Attributes
    ----------
    image
        (H, W, 3) uint8 RGB, what was labelled.
    label_map
        (H, W) class ids, uint8 (uint16 above 255 classes).
    known
        Scores as the model gave them: those of a grid, or (N, L) of superpixels.
    superpixels
        (H, W) ids into those of superpixels, if it gave such.
    classes
        Name of each id.
    colours
        (L, 3) uint8.
    """

    image: np.ndarray
    label_map: np.ndarray
    known: ScoreGrid | np.ndarray
    superpixels: np.ndarray | None = None
    classes: tuple[str, ...]
    colours: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """(L, H, W) float32, worked out when they are asked for; `probabilities`: their softmax."""
        if isinstance(self.known, ScoreGrid):
            return self.known.rows(0, self.known.height).numpy()
        return np.ascontiguousarray(self.known.T)[:, self.superpixels]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(L, H, W) float32 in 0..1, worked out when they are first asked for."""
        return torch.from_numpy(np.ascontiguousarray(self.scores)).softmax(dim=0).numpy()

    @property
    def overlay(self) -> np.ndarray:
        """(H, W, 3) uint8: the classes' colours over the image."""
        return label_overlay(self.image, self.label_map, self.colours, void=65535)


def best_scored(
    image: np.ndarray, scores: ScoreGrid, classes: tuple[str, ...], colours: np.ndarray
) -> Prediction:
    """The prediction that takes the class with the best score at each pixel."""
    return Prediction(
        image=image,
        label_map=best_classes(scores, len(classes)).cpu().numpy(),
        known=scores.cpu(),
        classes=classes,
        colours=colours,
    )


def best_classes(scores: ScoreGrid, num_classes: int) -> torch.Tensor:
    """The class with the best score at each pixel: (H, W) ids, where the scores lie.

    They are uint8, uint16 above 255 classes.
    """
    # CUDA has few kernels for uint16: int16 has the same bits.
    wide = num_classes > 255
    kind = torch.int16 if wide else torch.uint8
    # `max` is ten times as quick as `argmax` across planes.
    labels = torch.cat([strip.max(dim=0).indices.to(kind) for strip in scores.strips()])
    return labels.view(torch.uint16) if wide else labels


def count_pairs(
    predicted: torch.Tensor, truth: torch.Tensor, num_classes: int, void: int
) -> torch.Tensor:
    """Count pixels by true and predicted class, as `metrics.confusion_counts`, on the device.

    Parameters
    ----------
    predicted, truth
        (H, W) ids on one device, uint8 or uint16; `truth` may hold `void`.
    num_classes
        L.
    void
        Pixels with this truth do not count.

    Returns
    -------
    Tensor
        (L, L) int64, rows truth.

    Raises
    ------
    ValueError
        For shapes that differ or ids out of range.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"prediction {tuple(predicted.shape)} and truth {tuple(truth.shape)} differ in shape"
        )
    rows, columns = _ids(truth), _ids(predicted)
    # As a class beyond the last one, not by a mask, whose length the host would wait for.
    outside = ((rows >= num_classes) | (columns >= num_classes)) & (rows != void)
    flat = torch.where(rows == void, num_classes, rows) * num_classes + columns
    flat = torch.where(outside, (num_classes + 1) * num_classes, flat)
    counts = torch.bincount(flat.flatten(), minlength=(num_classes + 1) * num_classes + 1)
    if counts[-1]:
        raise ValueError(f"{int(counts[-1])} pixels hold ids out of 0..{num_classes - 1}")
    return counts[: num_classes**2].view(num_classes, num_classes)


def _ids(labels: torch.Tensor) -> torch.Tensor:
    if labels.dtype == torch.uint16:
        return labels.view(torch.int16).long() & 0xFFFF
    return labels.long()


def best_of_superpixels(
    image: np.ndarray,
    scores: torch.Tensor,
    superpixels: np.ndarray,
    classes: tuple[str, ...],
    colours: np.ndarray,
) -> Prediction:
    """The prediction that takes the class with the best score (N, L) of each superpixel."""
    labels = scores.argmax(dim=1).to(_kind(classes)).cpu().numpy()
    return Prediction(
        image=image,
        label_map=labels[superpixels],
        known=scores.cpu().numpy(),
        superpixels=superpixels,
        classes=classes,
        colours=colours,
    )


def _kind(classes: tuple[str, ...]) -> torch.dtype:
    return torch.uint8 if len(classes) <= 255 else torch.uint16


def mean_of_looks(
    predict: Callable[[np.ndarray], Prediction],
    image: np.ndarray,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Prediction:
    """Predict an image at several scales, mirrored too, and take the mean of the probabilities.

    Parameters
    ----------
    predict
        Labels (H, W, 3) uint8 of any size.
    image
        (H, W, 3) uint8 RGB.
    flip
        Whether each scale is also looked at mirrored left to right.
    scales
        Factors on the image's sides, above 0.

    Returns
    -------
    Prediction
        Of the image at its own size.
    """
    height, width = image.shape[:2]
    total: np.ndarray | float = 0.0
    looks = 0
    for scale in scales:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        same = size == (width, height)
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = image if same else cv2.resize(image, size, interpolation=shrinks)
        for mirrored in (False, True) if flip else (False,):
            seen = np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled
            one = predict(seen)
            part = one.probabilities[:, :, ::-1] if mirrored else one.probabilities
            if not same:
                part = np.stack([cv2.resize(plane, (width, height)) for plane in np.array(part)])
            total, looks = total + part, looks + 1
    # The softmax of a probability's logarithm is the probability.
    scores = torch.from_numpy(np.asarray(total / looks, np.float32)).log()
    grid = ScoreGrid(scores=scores, height=height, width=width)
    return best_scored(image, grid, one.classes, one.colours)


def vote(prediction: Prediction, superpixels: np.ndarray) -> Prediction:
    """Give all pixels of a superpixel the class that most of them have, the first of equal ones.

    Parameters
    ----------
    prediction
        Its scores stay as they are.
    superpixels
        (H, W) ids from 0.
    """
    classes = len(prediction.classes)
    pairs = superpixels.astype(np.int64) * classes + prediction.label_map
    votes = np.bincount(pairs.ravel(), minlength=(int(superpixels.max()) + 1) * classes)
    winners = votes.reshape(-1, classes).argmax(axis=1).astype(prediction.label_map.dtype)
    return replace(prediction, label_map=winners[superpixels])
