"""A model's prediction for one image, and the average of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch

from lhs.data.resizing import nearest_places, resized_nearest
from lhs.evaluation.grid import STRIP, ScoreGrid
from lhs.evaluation.overlay import label_overlay


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The labels and scores of one image.

    Attributes
    ----------
    image
        (H, W, 3) uint8 RGB.
    label_map
        (H, W) class ids, uint8 (uint16 above 255 classes).
    known
        The model's scores: at a grid of pixels, or (N, L) of superpixels; of the resized image if
        the model resizes it.
    superpixels
        Rows of `known` (h, w), where scores are those of superpixels.
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
        """(L, H, W) float32, computed at each call; `probabilities` is their softmax.

        Where the image was resized each pixel has the scores of the nearest one, as its label.
        """
        if isinstance(self.known, ScoreGrid):
            found = self.known.rows(0, self.known.height).numpy()
        else:
            found = np.ascontiguousarray(self.known.T)[:, self.superpixels]
        return resized_nearest(found, self.label_map.shape)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(L, H, W) float32 in 0..1, computed at the first call."""
        return torch.from_numpy(np.ascontiguousarray(self.scores)).softmax(dim=0).numpy()

    def probabilities_of_rows(self, top: int, below: int) -> np.ndarray:
        """`probabilities[:, top:below]`, computed alone: (L, below - top, W)."""
        known, (height, width) = self.known, self.label_map.shape
        small = (
            (known.height, known.width)
            if isinstance(known, ScoreGrid)
            else np.asarray(self.superpixels).shape
        )
        rows, columns = nearest_places(small[0], height)[top:below], nearest_places(small[1], width)
        if isinstance(known, ScoreGrid):
            strip = known.rows(int(rows[0]), int(rows[-1]) + 1).softmax(dim=0).numpy()
            return strip[:, (rows - rows[0])[:, None], columns]
        ids = np.asarray(self.superpixels)[rows[:, None], columns]
        return torch.from_numpy(known).softmax(dim=1).numpy().T[:, ids]

    @property
    def confidence(self) -> np.ndarray:
        """(H, W) float32 in 0..1: the probability of each pixel's label, computed at each call."""
        height, width = self.label_map.shape
        found = np.empty((height, width), np.float32)
        step = max(1, STRIP // (len(self.classes) * width))
        for top in range(0, height, step):
            strip = self.probabilities_of_rows(top, min(height, top + step))
            labels = self.label_map[None, top : top + step].astype(np.intp)
            found[top : top + step] = np.take_along_axis(strip, labels, axis=0)[0]
        return found

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


def at_full_size(prediction: Prediction, image: np.ndarray) -> Prediction:
    """The prediction of a resized image as one of the image (H, W, 3) itself: each pixel has the
    label and the scores of the nearest one."""
    label_map = resized_nearest(prediction.label_map, image.shape[:2])
    return replace(prediction, image=image, label_map=label_map)


def enlarged(labels: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Label ids (h, w) brought to (height, width) as `resized_nearest` does, on their device."""
    if labels.shape == shape:
        return labels
    rows, columns = (
        torch.from_numpy(nearest_places(*sizes)).to(labels.device)
        for sizes in zip(labels.shape, shape, strict=True)
    )
    # CUDA has few kernels for uint16: int16 has the same bits.
    plain = labels.view(torch.int16) if labels.dtype == torch.uint16 else labels
    return plain[rows[:, None], columns].view(labels.dtype)


def best_classes(scores: ScoreGrid, num_classes: int) -> torch.Tensor:
    """The class with the best score at each pixel: (H, W) uint8 (uint16 above 255 classes)."""
    # CUDA has few kernels for uint16: int16 has the same bits.
    wide = num_classes > 255
    kind = torch.int16 if wide else torch.uint8
    # `max` is ten times as fast as `argmax` across planes.
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
    # Void becomes a class of its own: the host would wait for the length of a mask.
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
    kind = torch.uint8 if len(classes) <= 255 else torch.uint16
    labels = scores.argmax(dim=1).to(kind).cpu().numpy()
    return Prediction(
        image=image,
        label_map=labels[superpixels],
        known=scores.cpu().numpy(),
        superpixels=superpixels,
        classes=classes,
        colours=colours,
    )


def average_predictions(
    predict: Callable[[np.ndarray], Prediction],
    image: np.ndarray,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Prediction:
    """Average the probabilities of an image over scales and flips (test-time augmentation).

    Parameters
    ----------
    predict
        Predicts (H, W, 3) uint8 of any size.
    image
        (H, W, 3) uint8 RGB.
    flip
        Whether to predict each scale mirrored left to right too.
    scales
        Factors on the image's sides, above 0.

    Returns
    -------
    Prediction
        At the image's own size.
    """
    height, width = image.shape[:2]
    total: np.ndarray | float = 0.0
    count = 0
    for scale in scales:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        same = size == (width, height)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = image if same else cv2.resize(image, size, interpolation=method)
        for mirrored in (False, True) if flip else (False,):
            view = np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled
            one = predict(view)
            part = one.probabilities[:, :, ::-1] if mirrored else one.probabilities
            if not same:
                part = np.stack([cv2.resize(plane, (width, height)) for plane in np.array(part)])
            total, count = total + part, count + 1
    # The softmax of a probability's logarithm is the probability.
    scores = torch.from_numpy(np.asarray(total / count, np.float32)).log()
    grid = ScoreGrid(scores=scores, height=height, width=width)
    return best_scored(image, grid, one.classes, one.colours)


def vote(prediction: Prediction, superpixels: np.ndarray) -> Prediction:
    """Give each superpixel the most frequent class of its pixels (the lowest id of several).

    Parameters
    ----------
    prediction
        Its scores do not change.
    superpixels
        (H, W) ids from 0.
    """
    classes = len(prediction.classes)
    pairs = superpixels.astype(np.int64) * classes + prediction.label_map
    votes = np.bincount(pairs.ravel(), minlength=(int(superpixels.max()) + 1) * classes)
    winners = votes.reshape(-1, classes).argmax(axis=1).astype(prediction.label_map.dtype)
    return replace(prediction, label_map=winners[superpixels])
