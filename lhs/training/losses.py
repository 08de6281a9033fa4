"""Losses over labelled pixels; void carries none."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lhs.networks.hierarchical import class_scores

IGNORE = -100
"""The target that torch's cross-entropy leaves out."""


def label_loss(scores: Tensor, label: Tensor, void: int, count: Tensor | None = None) -> Tensor:
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
        Number of pixels that the mean is over, where these are part of a larger batch.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    return masked_cross_entropy(scores, label, label != void, count)


def hierarchical_loss(
    scores: Tensor,
    subclass: Tensor,
    label: Tensor,
    matrix: Tensor,
    alpha: float,
    void: int,
    count: Tensor | None = None,
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
    count
        As in `label_loss`.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    labelled = label != void
    fine = masked_cross_entropy(scores, subclass, labelled, count)
    # W and the upsampling commute, and upsampling fewer classes is cheaper.
    coarse = masked_cross_entropy(class_scores(scores, matrix), label, labelled, count)
    return fine + alpha * coarse


def auxiliary_loss(
    scores: Tensor,
    subclass_scores: Tensor,
    subclass: Tensor,
    label: Tensor,
    alpha: float,
    void: int,
    count: Tensor | None = None,
) -> Tensor:
    """The loss of two separate heads: CE(subclass) + alpha CE(class), without W.

    Parameters
    ----------
    scores, subclass_scores
        (B, L, ...) and (B, n, ...) unnormalised, upsampled as in `label_loss`.
    subclass, label, alpha, void, count
        As in `hierarchical_loss`.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    labelled = label != void
    fine = masked_cross_entropy(subclass_scores, subclass, labelled, count)
    return fine + alpha * masked_cross_entropy(scores, label, labelled, count)


def masked_cross_entropy(
    scores: Tensor, target: Tensor, counted: Tensor, count: Tensor | None = None
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
    """
    if scores.shape[2:] != target.shape[1:]:
        scores = functional.interpolate(
            scores, size=target.shape[1:], mode="bilinear", align_corners=False
        )
    ignored = torch.where(counted, target.long(), IGNORE).flatten()
    # One row per pixel: on CPUs the softmax along the last dimension takes half the time.
    rows = scores.movedim(1, -1).flatten(0, -2)
    total = functional.cross_entropy(rows, ignored, ignore_index=IGNORE, reduction="sum")
    return total / (counted.sum() if count is None else count).clamp(min=1)
