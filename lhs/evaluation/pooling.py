"""Class scores from subclass scores, other than by W: at test time, for networks of H."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lhs.names import ClassScores


class SubclassPool:
    """Pools subclass scores over each class, after they are interpolated.

    `best_subclass` gives a class the score of its best subclass, so the best class is the parent of
    the best subclass. `summed_probabilities` gives it the logarithm of the sum of its subclasses'
    exponentials: the softmax of these class scores is the softmax of the subclass scores, summed
    over each class.

    Parameters
    ----------
    rule
        `best_subclass` or `summed_probabilities`.
    parents
        (n,) class of each subclass; every class has one at least.

    Raises
    ------
    ValueError
        For another rule.
    """

    def __init__(self, rule: ClassScores, parents: Sequence[int] | np.ndarray) -> None:
        if rule == "w":
            raise ValueError("W p is not pooled")
        self.rule = rule
        order = np.argsort(parents, kind="stable").tolist()
        self.sizes = np.bincount(parents).tolist()
        # Subclasses are ordered by class already, but for hierarchies that others made.
        self.order = None if order == list(range(len(order))) else order

    def __call__(self, scores: Tensor) -> Tensor:
        """Class scores (L, ...) of subclass scores (n, ...)."""
        if self.order is not None:
            scores = scores[self.order]
        parts = scores.split(self.sizes)
        if self.rule == "best_subclass":
            return torch.stack([part.amax(dim=0) for part in parts])
        return torch.stack([part.logsumexp(dim=0) for part in parts])
