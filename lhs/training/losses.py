"""Losses over labelled pixels; void carries none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lhs.errors import UserError
from lhs.networks.hierarchical import class_scores

IGNORE = -100
"""The target that torch's cross-entropy leaves out."""


def label_loss(
    scores: Tensor,
    label: Tensor,
    void: int,
    count: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over labelled pixels (paper Eq. 4).

    Parameters
    ----------
    scores
        (B, L, ...) unnormalised; maps coarser than the labels are upsampled, bilinearly.
    label
        (B, ...) ids, `void` where there is none.
    void
        The id that carries no loss.
    count
        Number of pixels that the mean is over, where these are part of a larger batch; with
        weights the sum of theirs.
    weights
        (L,) weight of each class's pixels in a weighted mean; None: all equal.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    return masked_cross_entropy(scores, label, label != void, count, weights)


def hierarchical_loss(
    scores: Tensor,
    subclass: Tensor,
    label: Tensor,
    matrix: Tensor,
    alpha: float,
    void: int,
    count: Tensor | None = None,
    weights: Tensor | None = None,
    subclass_weights: Tensor | None = None,
) -> Tensor:
    """Joint loss on subclasses and classes (paper Eqs. 2 to 4, without the weight decay).

    mean over labelled pixels of CE(softmax(p), subclass) + alpha CE(softmax(W p), class).
    W sums scores, not probabilities.

    Parameters
    ----------
    scores
        p, (B, n, ...) unnormalised subclass scores, upsampled as in `label_loss`.
    subclass, label
        (B, ...) ids; where `label` is `void`, neither counts.
    matrix
        W, (L, n).
    alpha
        Weight of the class term.
    void
        The label that carries no loss.
    count, weights
        As in `label_loss`.
    subclass_weights
        (n,) weight of each subclass's pixels: its class's.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    labelled = label != void
    fine = masked_cross_entropy(scores, subclass, labelled, count, subclass_weights)
    # W and the upsampling commute, and upsampling fewer classes is cheaper.
    coarse = masked_cross_entropy(class_scores(scores, matrix), label, labelled, count, weights)
    return fine + alpha * coarse


def auxiliary_loss(
    scores: Tensor,
    subclass_scores: Tensor,
    subclass: Tensor,
    label: Tensor,
    alpha: float,
    void: int,
    count: Tensor | None = None,
    weights: Tensor | None = None,
    subclass_weights: Tensor | None = None,
) -> Tensor:
    """The loss of two separate heads: CE(subclass) + alpha CE(class), without W.

    Parameters
    ----------
    scores, subclass_scores
        (B, L, ...) and (B, n, ...) unnormalised, upsampled as in `label_loss`.
    subclass, label, alpha, void, count, weights, subclass_weights
        As in `hierarchical_loss`.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    labelled = label != void
    fine = masked_cross_entropy(subclass_scores, subclass, labelled, count, subclass_weights)
    return fine + alpha * masked_cross_entropy(scores, label, labelled, count, weights)


def masked_cross_entropy(
    scores: Tensor,
    target: Tensor,
    counted: Tensor,
    count: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over the pixels where `counted` (B, ...) is true; 0 without any.

    Parameters
    ----------
    scores
        (B, n, ...) unnormalised, upsampled as in `label_loss`.
    target
        (B, ...) ids below n wherever `counted`.
    count
        As in `label_loss`; None for the pixels counted here.
    weights
        (n,) weight of each target's pixels; None: all equal.
    """
    if scores.shape[2:] != target.shape[1:]:
        scores = functional.interpolate(
            scores, size=target.shape[1:], mode="bilinear", align_corners=False
        )
    ignored = torch.where(counted, target.long(), IGNORE).flatten()
    # One row per pixel: on CPUs the softmax along the last dimension takes half the time.
    rows = scores.movedim(1, -1).flatten(0, -2)
    total = functional.cross_entropy(rows, ignored, weights, ignore_index=IGNORE, reduction="sum")
    if count is None:
        count = pixel_count(target, counted, weights)
    # Without any labelled pixel the total is 0 as well.
    return total / torch.where(count > 0, count, 1)


def pixel_count(target: Tensor, counted: Tensor, weights: Tensor | None) -> Tensor:
    """Number of the pixels where `counted` is true, or the sum of their weights: a scalar."""
    if weights is None:
        return counted.sum()
    return (weights[torch.where(counted, target, 0).long()] * counted).sum()


def class_weights(setting: str | Sequence[float], pixels: Sequence[int]) -> Tensor | None:
    """`train.class_weights` as numbers: (L,) float32, or None where all are equal.

    Parameters
    ----------
    setting
        `none`, `inverse_root` or one weight for each class.
    pixels
        (L,) labelled training pixels of each class. `inverse_root` is 1 / sqrt(share), scaled so
        that the weights' mean over all pixels is 1; without pixels, a class's weight is 0.

    Raises
    ------
    UserError
        If a list has not one weight for each class, or all are 0.
    """
    if setting == "none":
        return None
    if setting == "inverse_root":
        counts = torch.tensor(pixels, dtype=torch.float64)
        roots = counts.sqrt()
        # sum of counts * weights = sum of counts
        weights = torch.where(counts > 0, counts.sum() / roots.sum() / roots, 0.0)
        return weights.float()
    if len(setting) != len(pixels) or not any(setting):
        raise UserError(
            f"train.class_weights: found {len(setting)} weights, {sum(w > 0 for w in setting)} of "  # type: ignore[operator]
            f"them above 0; allowed are {len(pixels)}, one for each class in their order"
        )
    return torch.tensor(setting, dtype=torch.float32)
