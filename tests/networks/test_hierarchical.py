"""The layer W: it sums a class's subclass scores, and moves only as it may."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lhs.networks.encoder import EncoderNetwork
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork, class_scores
from lhs.training.losses import auxiliary_loss, hierarchical_loss

PARENTS = np.array([2, 0, 0, 1, 2, 2, 0])
MATRIX = torch.tensor(PARENTS[None, :] == np.arange(3)[:, None]).float()


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 5, 3)])
def test_class_scores_are_sums_over_the_subclasses(shape):
    torch.manual_seed(0)
    p = torch.randn(shape[0], 7, *shape[1:])
    summed = class_scores(p, MATRIX)
    assert summed.shape == (shape[0], 3, *shape[1:])
    for label in range(3):
        own = [p[:, k] for k in range(7) if PARENTS[k] == label]
        torch.testing.assert_close(summed[:, label], sum(own))


def stepped(masked: bool, learned: bool, optimizer: str):
    torch.manual_seed(1)
    model = HierarchicalNetwork(nn.Conv2d(3, 7, 1), MATRIX, masked=masked)
    model.w.requires_grad_(learned)
    before = copy.deepcopy(model.state_dict())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = (
        torch.optim.AdamW(parameters, 0.1, weight_decay=0.1)
        if optimizer == "adamw"
        else torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1)
    )
    subclass = torch.randint(0, 7, (2, 4, 4))
    label = torch.tensor(PARENTS)[subclass]
    for _ in range(3):
        p, w = model(torch.randn(2, 3, 4, 4))
        optimizer.zero_grad()
        hierarchical_loss(p, subclass, label, w, 1.0, 255).backward()
        optimizer.step()
    return model, before


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_masked_keeps_the_zeros_and_moves_the_ones(optimizer):
    model, before = stepped(True, True, optimizer)
    w = model.current_w().detach()
    assert (w[MATRIX == 0] == 0).all()
    assert (w[MATRIX == 1] != 1).all()
    assert (model.state_dict()["network.weight"] != before["network.weight"]).any()
    assert torch.equal(model.matrix, MATRIX)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_dense_lets_the_zeros_move(optimizer):
    model, _ = stepped(False, True, optimizer)
    w = model.current_w().detach()
    assert (w[MATRIX == 0] != 0).any()
    assert (w[MATRIX == 1] != 1).any()


@pytest.mark.parametrize("masked", [True, False])
def test_fixed_w_stays(masked):
    model, before = stepped(masked, False, "adamw")
    assert torch.equal(model.current_w(), MATRIX)
    assert (model.state_dict()["network.weight"] != before["network.weight"]).any()


@pytest.mark.parametrize("masked", [True, False])
def test_drift_is_the_mean_distance_of_ones_and_of_zeros(masked):
    model = HierarchicalNetwork(nn.Identity(), MATRIX, masked=masked)
    with torch.no_grad():
        model.w += torch.where(MATRIX == 1, -0.25, 0.5)
    found = {name: float(value) for name, value in model.drift().items()}
    assert found == {"w_from_one": 0.25, "w_from_zero": 0.0 if masked else 0.5}


def test_the_caller_keeps_its_matrix():
    given = MATRIX.clone()
    model = HierarchicalNetwork(nn.Identity(), given, masked=False)
    with torch.no_grad():
        model.w += 1
    assert torch.equal(given, MATRIX)
    assert torch.equal(model.matrix, MATRIX)


def test_an_auxiliary_head_has_the_gradient_of_the_written_formula():
    """CE(subclass) + alpha CE(class) of two heads of their own on the same features."""
    torch.manual_seed(0)
    network = EncoderNetwork(3 + 7, 8).eval()
    model = AuxiliaryNetwork(network, 3, 7)
    image = torch.rand(2, 3, 32, 64) * 255
    subclass = torch.randint(0, 7, (2, 32, 64))
    label = torch.tensor(PARENTS)[subclass].masked_fill(torch.rand(2, 32, 64) < 0.2, 255)
    scores, subclass_scores = model(image)
    auxiliary_loss(scores, subclass_scores, subclass, label, 0.7, 255).backward()

    weight, bias = (part.detach() for part in (network.last.weight, network.last.bias))
    heads = [part.clone().requires_grad_() for part in (weight[:3], bias[:3], weight[3:], bias[3:])]
    features = network.forward_features(image)[0]

    def cross_entropy(weight, bias, target):
        scores = functional.interpolate(
            functional.conv2d(features, weight, bias), size=(32, 64), mode="bilinear"
        )
        return functional.cross_entropy(scores, target, ignore_index=255)

    fine = subclass.masked_fill(label == 255, 255)
    loss = cross_entropy(*heads[2:], fine) + 0.7 * cross_entropy(*heads[:2], label)
    below = network.head.projections[0].weight
    expected = torch.autograd.grad(loss, [*heads, below])
    found = [
        network.last.weight.grad[:3], network.last.bias.grad[:3],
        network.last.weight.grad[3:], network.last.bias.grad[3:], below.grad,
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert float(other.abs().max()) > 0
