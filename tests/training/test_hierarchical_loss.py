"""HierarchicalLoss, against the equations written with probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lhs
from lhs.errors import UserError
from lhs.hierarchy.controls import from_classes
from tests.hierarchy.test_hierarchy import cluster_hierarchy

VOID = 255


def example() -> tuple[lhs.Hierarchy, torch.Tensor, torch.Tensor, torch.Tensor]:
    hierarchy = cluster_hierarchy()
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 3, 4, VOID], (2, 6, 7)).astype(np.uint8)
    subclasses = np.stack([hierarchy.relabel(label_map) for label_map in labels])
    scores = torch.from_numpy(rng.normal(size=(2, len(hierarchy.subclasses), 6, 7))).float()
    return hierarchy, scores.requires_grad_(), torch.from_numpy(subclasses), torch.tensor(labels)


def written_out(
    scores: torch.Tensor, subclass: torch.Tensor, label: torch.Tensor, w: torch.Tensor, alpha: float
) -> float:
    total, pixels = 0.0, 0
    for b, y, x in np.argwhere(label.numpy() != VOID).tolist():
        p = scores[b, :, y, x].detach().double()
        q = w.detach().double() @ p
        total -= float(p.softmax(0)[int(subclass[b, y, x])].log())
        total -= alpha * float(q.softmax(0)[int(label[b, y, x])].log())
        pixels += 1
    return total / pixels


@pytest.mark.parametrize("learn_w", [None, "dense", "masked"])
def test_it_is_the_mean_of_both_losses(learn_w: str | None) -> None:
    hierarchy, scores, subclass, label = example()
    criterion = lhs.HierarchicalLoss(hierarchy, alpha=0.5, learn_w=learn_w)
    loss = criterion(scores, subclass, label)
    expected = written_out(scores, subclass, label, criterion.w, 0.5)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    classes = criterion.classes(scores)
    expected_scores = np.einsum("ln,bnyx->blyx", hierarchy.matrix(), scores.detach().numpy())
    np.testing.assert_allclose(classes.detach().numpy(), expected_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learn_w", [None, "dense", "masked"])
def test_what_of_w_moves(learn_w: str | None) -> None:
    hierarchy, scores, subclass, label = example()
    criterion = lhs.HierarchicalLoss(hierarchy, learn_w=learn_w)
    learned = [one for one in criterion.parameters() if one.requires_grad]
    assert len(learned) == (learn_w is not None)
    optimizer = torch.optim.AdamW([scores, *criterion.parameters()], lr=0.1)
    first = float(criterion(scores, subclass, label).detach())
    for _ in range(3):
        optimizer.zero_grad()
        loss = criterion(scores, subclass, label)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first
    moved = (criterion.w.detach().numpy() != hierarchy.matrix()).ravel()
    ones = hierarchy.matrix().ravel() == 1
    assert moved[ones].any() == (learn_w is not None)
    assert moved[~ones].any() == (learn_w == "dense")
    again = lhs.HierarchicalLoss(hierarchy, learn_w=learn_w)
    again.load_state_dict(criterion.state_dict())
    torch.testing.assert_close(again.w, criterion.w)


def test_a_void_batch_has_no_loss() -> None:
    hierarchy, scores, subclass, label = example()
    void = torch.full_like(label, VOID)
    loss = lhs.HierarchicalLoss(hierarchy)(scores, torch.full_like(subclass, VOID), void)
    assert float(loss.detach()) == 0


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="learn_w: found 'sparse'"):
        lhs.HierarchicalLoss(cluster_hierarchy(), learn_w="sparse")
    many = from_classes(dataset="d", classes=[f"c{k}" for k in range(300)], counts=np.ones(300))
    with pytest.raises(UserError, match=r"void: found 255, the id of class c255; .* 65535"):
        lhs.HierarchicalLoss(many)
    assert lhs.HierarchicalLoss(many, void=many.void).void == 65535
