"""The losses against the paper's equations in plain numpy, sums written out pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lhs.errors import UserError
from lhs.training.losses import (
    auxiliary_loss,
    class_weights,
    hierarchical_loss,
    label_loss,
    masked_cross_entropy,
    pixel_count,
)

VOID = 255
PARENTS = np.array([0, 0, 1, 2, 2, 2])
MATRIX = (PARENTS[None, :] == np.arange(3)[:, None]).astype(np.float64)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())


def written_out(scores, subclass, label, matrix, alpha, void):
    """Eqs. 2 to 4: one pixel after the other; the loss and its gradients in p and in W."""
    batch, outputs = scores.shape[:2]
    p = scores.reshape(batch, outputs, -1)
    i, k = subclass.reshape(batch, -1), label.reshape(batch, -1)
    counted = [(b, x) for b in range(batch) for x in range(p.shape[2]) if k[b, x] != void]
    loss, in_p, in_w = 0.0, np.zeros_like(p), np.zeros_like(matrix)
    for b, x in counted:
        fine = log_softmax(p[b, :, x])
        coarse = log_softmax(matrix @ p[b, :, x])
        loss -= fine[i[b, x]] + alpha * coarse[k[b, x]]
        error = alpha * (np.exp(coarse) - np.eye(len(matrix))[k[b, x]])
        in_p[b, :, x] = np.exp(fine) - np.eye(outputs)[i[b, x]] + matrix.T @ error
        in_w += np.outer(error, p[b, :, x])
    number = max(1, len(counted))
    return loss / number, (in_p / number).reshape(scores.shape), in_w / number


def drawn(seed: int, shape: tuple[int, ...], void_share: float, matrix=MATRIX):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (shape[0], matrix.shape[1], *shape[1:]))
    subclass = rng.integers(0, matrix.shape[1], shape)
    label = matrix.argmax(axis=0)[subclass]
    hidden = rng.random(shape) < void_share
    return scores, np.where(hidden, VOID, subclass), np.where(hidden, VOID, label)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(5,), (2, 3), (2, 4, 3), (1, 2, 3, 2)]),
    alpha=st.sampled_from([0.0, 0.3, 1.0, 7.0]),
    void_share=st.sampled_from([0.0, 0.4, 1.0]),
    learned=st.booleans(),
)
def test_the_joint_loss_and_its_gradients_are_the_papers(seed, shape, alpha, void_share, learned):
    scores, subclass, label = drawn(seed, shape, void_share)
    matrix = MATRIX + learned * np.random.default_rng(seed).normal(0, 0.2, MATRIX.shape)
    expected, in_p, in_w = written_out(scores, subclass, label, matrix, alpha, VOID)
    p = torch.tensor(scores, requires_grad=True)
    w = torch.tensor(matrix, requires_grad=True)
    loss = hierarchical_loss(p, torch.tensor(subclass), torch.tensor(label), w, alpha, VOID)
    loss.backward()
    assert loss.shape == ()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(p.grad.numpy(), in_p, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), in_w, rtol=1e-8, atol=1e-12)


def test_gradients_against_finite_differences():
    scores, subclass, label = (torch.tensor(part) for part in drawn(3, (2, 3, 2), 0.3))
    scores.requires_grad_()
    matrix = torch.tensor(MATRIX, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, w: hierarchical_loss(p, subclass, label, w, 0.7, VOID), (scores, matrix)
    )


def test_scores_are_summed_not_probabilities():
    p = torch.tensor([[1.0, 2.0, 0.5, 0.0, 0.0, 0.0]])
    loss = hierarchical_loss(
        p, torch.tensor([1]), torch.tensor([0]), torch.tensor(MATRIX).float(), 1.0, VOID
    )
    fine = -np.log(np.exp(2) / (np.e + np.exp(2) + np.exp(0.5) + 3))
    coarse = -np.log(np.exp(3) / (np.exp(3) + np.exp(0.5) + 1))
    assert loss.item() == pytest.approx(fine + coarse, rel=1e-5)


def test_without_alpha_it_is_the_subclass_loss():
    scores, subclass, label = (torch.tensor(part) for part in drawn(5, (2, 6), 0.2))
    loss = hierarchical_loss(scores, subclass, label, torch.tensor(MATRIX), 0.0, VOID)
    expected = functional.cross_entropy(scores, subclass, ignore_index=VOID)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)])
def test_a_void_batch_has_no_loss_and_no_gradient(shape):
    p = torch.randn(shape[0], 6, *shape[1:], requires_grad=True)
    w = torch.tensor(MATRIX, dtype=torch.float32, requires_grad=True)
    void = torch.full(shape, VOID)
    for loss in (hierarchical_loss(p, void, void, w, 1.0, VOID), label_loss(p, void, VOID)):
        p.grad = w.grad = None
        loss.backward()
        assert loss.item() == 0
        assert p.grad.abs().max() == 0
    assert w.grad is None  # label_loss does not know it


def test_what_the_scores_are_on_void_does_not_matter():
    scores, subclass, label = (torch.tensor(part) for part in drawn(6, (2, 5, 5), 0.5))
    wild = torch.where((label == VOID)[:, None], torch.full_like(scores, 1e6), scores)
    for alpha in (0.0, 2.0):
        losses = [
            hierarchical_loss(s, subclass, label, torch.tensor(MATRIX), alpha, VOID)
            for s in (scores, wild)
        ]
        torch.testing.assert_close(losses[0], losses[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.9), st.sampled_from([torch.uint8, torch.int64]))
def test_label_loss_is_torchs_cross_entropy(seed, void_share, kind):
    scores, label, _ = drawn(seed, (2, 4, 4), void_share)
    label[0, 0, 0] = 0
    p, k = torch.tensor(scores), torch.tensor(label)
    expected = functional.cross_entropy(p, k, ignore_index=VOID)
    torch.testing.assert_close(label_loss(p, k.to(kind), VOID), expected)


def test_above_255_subclasses_the_class_void_is_an_ordinary_subclass():
    """33 classes have void 255; of their 300 subclasses, number 255 is one like the others."""
    matrix = np.zeros((33, 300))
    matrix[np.arange(300) % 33, np.arange(300)] = 1
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (1, 300, 4))
    subclass = np.array([[255, 7, 255, 65535]])
    label = np.array([[255 % 33, 7, 255 % 33, VOID]])
    expected, in_p, _ = written_out(scores, subclass, label, matrix, 1.0, VOID)
    p = torch.tensor(scores, requires_grad=True)
    loss = hierarchical_loss(
        p, torch.tensor(subclass), torch.tensor(label), torch.tensor(matrix), 1.0, VOID
    )
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(p.grad.numpy(), in_p, atol=1e-12)
    assert p.grad[0, 255, 0] < 0, "the pixel of subclass 255 pulls its score up"
    fine = masked_cross_entropy(p, torch.tensor(subclass), torch.tensor(label) != VOID)
    rows = [-log_softmax(scores[0, :, x])[subclass[0, x]] for x in range(3)]
    assert fine.item() == pytest.approx(np.mean(rows), rel=1e-9)


def test_a_label_id_without_a_score_is_not_swallowed():
    with pytest.raises((IndexError, RuntimeError)):
        label_loss(torch.zeros(1, 3, 2), torch.tensor([[0, 3]]), VOID)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), layout=st.sampled_from(["NCHW", "NHWC"]))
def test_coarse_scores_are_upsampled_before_all_else(seed, layout):
    """W and the upsampling commute: the loss is that of scores upsampled first."""
    _, subclass, label = (torch.tensor(part) for part in drawn(seed, (2, 16, 24), 0.3))
    coarse = torch.tensor(np.random.default_rng(seed).normal(0, 2, (2, 6, 2, 3)))
    fine = functional.interpolate(coarse, size=(16, 24), mode="bilinear", align_corners=False)
    if layout == "NHWC":
        coarse = coarse.contiguous(memory_format=torch.channels_last)
    matrix = torch.tensor(MATRIX)
    args = (subclass, label, matrix, 0.7, VOID)
    torch.testing.assert_close(hierarchical_loss(coarse, *args), hierarchical_loss(fine, *args))
    torch.testing.assert_close(
        masked_cross_entropy(coarse, subclass, label != VOID),
        functional.cross_entropy(fine, subclass.masked_fill(label == VOID, -100)),
    )


def test_parts_of_a_batch_add_up_to_its_mean():
    scores, subclass, label = (torch.tensor(part) for part in drawn(1, (4, 5, 3), 0.4))
    whole = hierarchical_loss(scores, subclass, label, torch.tensor(MATRIX), 0.5, VOID)
    count = (label != VOID).sum()
    parts = [
        hierarchical_loss(
            scores[part], subclass[part], label[part], torch.tensor(MATRIX), 0.5, VOID, count
        )
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(sum(parts), whole)
    halves = [label_loss(scores[i::2, :3], label[i::2], VOID, count) for i in range(2)]
    torch.testing.assert_close(sum(halves), label_loss(scores[:, :3], label, VOID))


def test_weighted_losses_are_torchs():
    scores, subclass, label = (torch.tensor(part) for part in drawn(2, (4, 5, 3), 0.4))
    weights = torch.tensor([0.5, 3.0, 1.5], dtype=torch.float64)
    of_subclasses = weights[PARENTS]
    expected = functional.cross_entropy(scores[:, :3], label, weights, ignore_index=VOID)
    torch.testing.assert_close(label_loss(scores[:, :3], label, VOID, weights=weights), expected)
    fine = functional.cross_entropy(
        scores, subclass.masked_fill(label == VOID, -100), of_subclasses
    )
    coarse = functional.cross_entropy(
        torch.einsum("ln,bnhw->blhw", torch.tensor(MATRIX), scores), label, weights,
        ignore_index=VOID,
    )  # fmt: skip
    loss = hierarchical_loss(
        scores, subclass, label, torch.tensor(MATRIX), 0.5, VOID, None, weights, of_subclasses
    )
    torch.testing.assert_close(loss, fine + 0.5 * coarse)


def test_weighted_parts_of_a_batch_add_up_to_its_mean():
    scores, _, label = (torch.tensor(part) for part in drawn(3, (4, 5, 3), 0.4))
    weights = torch.tensor([0.5, 3.0, 1.5], dtype=torch.float64)
    count = pixel_count(label, label != VOID, weights)
    assert count.item() == pytest.approx(sum(weights[k] for k in label[label != VOID].tolist()))
    parts = [label_loss(scores[i::2, :3], label[i::2], VOID, count, weights) for i in range(2)]
    torch.testing.assert_close(sum(parts), label_loss(scores[:, :3], label, VOID, weights=weights))


def test_class_weights_are_inverse_roots_with_mean_one():
    pixels = [100, 400, 0, 2500]
    weights = class_weights("inverse_root", pixels).numpy()
    np.testing.assert_allclose(weights[[0, 1, 3]] / weights[3], [5, 2.5, 1], rtol=1e-6)
    assert weights[2] == 0
    assert np.average(weights, weights=pixels) == pytest.approx(1)
    assert class_weights("none", pixels) is None
    assert class_weights([1, 2, 3, 0], pixels).tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("given", [[1.0, 2.0], [0.0, 0.0, 0.0]])
def test_a_wrong_list_of_class_weights_is_refused(given):
    with pytest.raises(UserError, match=r"train.class_weights: .* allowed are 3"):
        class_weights(given, [5, 5, 5])


def test_two_heads_have_the_losses_of_each():
    scores, subclass, label = (torch.tensor(part) for part in drawn(2, (3, 4, 5), 0.3))
    of_classes = torch.tensor(np.random.default_rng(1).normal(0, 3, (3, 3, 4, 5)))
    loss = auxiliary_loss(of_classes, scores, subclass, label, 0.3, VOID)
    fine = functional.cross_entropy(scores, subclass, ignore_index=VOID)
    coarse = functional.cross_entropy(of_classes, label, ignore_index=VOID)
    torch.testing.assert_close(loss, fine + 0.3 * coarse)
    void = torch.full_like(label, VOID)
    assert auxiliary_loss(of_classes, scores, void, void, 0.3, VOID).item() == 0
