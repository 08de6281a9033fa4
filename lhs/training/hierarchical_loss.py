"""H in anyone's training loop: the loss of a network that scores subclasses (paper 3.2.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.networks.hierarchical import HierarchicalNetwork, class_scores
from lhs.training.losses import hierarchical_loss


class HierarchicalLoss(nn.Module):
    """Joint loss on subclasses and classes (paper Eqs. 2 to 4), with W as its own parameter.

    Parameters
    ----------
    hierarchy
        Gives W, (L, n): 1 where a subclass belongs to a class.
    alpha
        Weight of the class term.
    learn_w
        None: W stays. `dense`: all of it is learned. `masked`: its zeros stay zero. Give the
        optimizer this module's parameters too; the paper begins to learn W in a second step.
    void
        The label that carries no loss, `hierarchy.void`.

    Raises
    ------
    lhs.errors.UserError
        If `learn_w` is another, or `void` is the id of a class.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.random.default_rng(0).integers(0, 3, (2, 40, 50))
    >>> made = Hierarchy.from_label_maps(maps, ["sky", "sea", "sand"], region=9, n_star=5)
    >>> loss, scores = HierarchicalLoss(made), torch.zeros(2, len(made.subclasses), 40, 50)
    >>> subclass = torch.from_numpy(np.stack([made.relabel(label_map) for label_map in maps]))
    >>> bool(loss(scores, subclass, torch.from_numpy(maps)) > 0)
    True
    >>> loss.classes(scores).shape
    torch.Size([2, 3, 40, 50])
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        alpha: float = 1.0,
        learn_w: Literal["dense", "masked"] | None = None,
        void: int = 255,
    ) -> None:
        super().__init__()
        if learn_w not in (None, "dense", "masked"):
            raise UserError(f"learn_w: found {learn_w!r}, allowed are None, 'dense' and 'masked'")
        if 0 <= void < len(hierarchy.classes):
            raise UserError(
                f"void: found {void}, the id of class {hierarchy.classes[void]}; allowed is an id "
                f"of no class, such as {hierarchy.void}, that of the hierarchy's label maps"
            )
        self.alpha, self.void = alpha, void
        matrix = torch.from_numpy(hierarchy.matrix())
        self.layer = HierarchicalNetwork(nn.Identity(), matrix, masked=learn_w == "masked")
        self.layer.w.requires_grad_(learn_w is not None)

    @property
    def w(self) -> Tensor:
        """W as it is now, (L, n)."""
        return self.layer.current_w()

    def forward(self, scores: Tensor, subclass: Tensor, label: Tensor) -> Tensor:
        """The loss, a scalar; 0 where the whole batch is void.

        Parameters
        ----------
        scores
            (B, n, ...) unnormalised subclass scores; maps coarser than the labels are upsampled.
        subclass, label
            (B, ...) ids, `subclass` from `Hierarchy.relabel`; where `label` is `void`, neither
            counts.
        """
        return hierarchical_loss(scores, subclass, label, self.w, self.alpha, self.void)

    def classes(self, scores: Tensor) -> Tensor:
        """Class scores W p, (B, L, ...), of subclass scores (B, n, ...)."""
        return class_scores(scores, self.w)
