"""Losses over labelled pixels; void carries none."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lhs.networks.hierarchical import class_scores

IGNORE = -100
"""The target that torch's cross-entropy leaves out."""


def label_loss(scores: Tensor, label: Tensor, void: int) -> Tensor:
    """Mean cross-entropy over labelled pixels (paper Eq. 4).

    Parameters
    ----------
    scores
        (B, L, ...) unnormalised.
    label
        (B, ...) ids, `void` where there is none.
    void
        The id that carries no loss.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    return masked_cross_entropy(scores, label, label != void)


def hierarchical_loss(
    scores: Tensor, subclass: Tensor, label: Tensor, matrix: Tensor, alpha: float, void: int
) -> Tensor:
    """Joint loss on subclasses and classes (paper Eqs. 2 to 4, without the weight decay).

    mean over labelled pixels of CE(softmax(p), subclass) + alpha CE(softmax(W p), class).
    It is the scores that W sums, not the probabilities.

    Parameters
    ----------
    scores
        p, (B, n, ...) unnormalised subclass scores.
    subclass, label
        (B, ...) ids; where `label` is `void`, neither counts.
    matrix
        W, (L, n).
    alpha
        Weight of the class term.
    void
        The label that carries no loss.

    Returns
    -------
    Tensor
        A scalar; 0 where the whole batch is void.
    """
    labelled = label != void
    fine = masked_cross_entropy(scores, subclass, labelled)
    coarse = masked_cross_entropy(class_scores(scores, matrix), label, labelled)
    return fine + alpha * coarse


def masked_cross_entropy(scores: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels where `counted` (B, ...) is true; 0 without any.

    Parameters
    ----------
    scores
        (B, n, ...) unnormalised.
    target
        (B, ...) ids below n wherever `counted`.
    """
    ignored = torch.where(counted, target.long(), IGNORE)
    total = functional.cross_entropy(scores, ignored, ignore_index=IGNORE, reduction="sum")
    return total / counted.sum().clamp(min=1)
