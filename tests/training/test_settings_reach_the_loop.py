"""Settings of a step, against a step written by hand: what `train` does, not what its parts do."""

import copy
import itertools

import pytest
import torch
from torch.nn import functional

from lhs.networks.patch import BatchDropout, mask_keys
from lhs.training.data_source import Batch
from lhs.training.loop import train
from tests.training.test_loop import CLASSES, CPU, MATRIX, PARENTS, VOID, GivenSource, config_of
from tests.training.test_parallel import PlainNetwork

RATE = 0.5
ONE_STEP = {"steps": 1, "learning_rate": RATE}
NONE = {"enabled": False}
ALL_LAYERS = {"new_layers": NONE, "all_layers": ONE_STEP}
SGD = {
    "optimizer": "sgd", "schedule": "steps", "momentum": 0.0, "weight_decay": 0.0,
    "max_steps": None, "encoder_factor": 1.0, "w_factor": 1.0,
}  # fmt: skip


def batch_of_four(epoch: int):
    draw = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=draw, dtype=torch.uint8)
    subclasses = torch.randint(0, len(PARENTS), (4, 32, 32), generator=draw)
    labels = torch.tensor(PARENTS)[subclasses]
    hidden = (
        torch.rand(4, 32, 32, generator=draw) < torch.tensor([0.1, 0.7, 0.3, 0.5])[:, None, None]
    )
    yield Batch(images, labels.masked_fill(hidden, VOID), subclasses, torch.arange(4))


def network():
    """Without batch norm and dropout: a sum over parts is the whole."""
    torch.manual_seed(0)
    made = PlainNetwork()
    for layer in made.modules():
        if isinstance(layer, BatchDropout):
            layer.p = 0.0
    return made


class Stepped:
    """A network before and after one step, the step's loss, and how many images went through at
    once."""

    def __init__(self, strategy: str, trained: bool = False, weights=None, **settings):
        self.network, self.sizes = network(), []
        self.before = copy.deepcopy(self.network)
        self.fresh = 0
        reset = self.network.reset_classifier

        def kept(outputs):
            reset(outputs)
            self.fresh += 1
            self.before = copy.deepcopy(self.network)
            del self.before.reset_classifier

        self.network.reset_classifier = kept
        self.network.register_forward_pre_hook(lambda _, given: self.sizes.append(len(given[0])))
        source = GivenSource(batch_of_four)
        source.steps_per_epoch, source.batch_size = 1, 4
        _, history = train(
            self.network, config_of(strategy, **SGD | settings), classes=CLASSES,
            matrix=None if strategy == "baseline" else MATRIX, void=VOID, data=source,
            device=CPU, on_step=lambda row, total: None, trained=trained, class_weights=weights,
        )  # fmt: skip
        self.loss = history[0]["loss"]

    def check(self, by_hand) -> None:
        """The loss, and every weight after it: before - rate * gradient."""
        self.before.requires_grad_(True)
        (batch,) = batch_of_four(0)
        scores = self.before(batch.images.float())
        scores = functional.interpolate(scores, size=(32, 32), mode="bilinear")
        loss = by_hand(scores, batch)
        gradients = torch.autograd.grad(loss, list(self.before.parameters()))
        assert self.loss == pytest.approx(loss.item(), rel=1e-5)
        pairs = zip(self.before.parameters(), gradients, self.network.parameters(), strict=True)
        for before, gradient, after in pairs:
            assert float(gradient.abs().max()) > 0
            torch.testing.assert_close(after, before - RATE * gradient, rtol=1e-4, atol=1e-6)


def cross_entropy(scores, target, labels, weights=None):
    return functional.cross_entropy(
        scores, target.masked_fill(labels == VOID, VOID), weights, ignore_index=VOID
    )


def of_classes(scores, batch):
    return cross_entropy(scores, batch.labels, batch.labels)


WEIGHTS = torch.tensor([0.5, 3.0, 1.5])
OF_SUBCLASSES = WEIGHTS[torch.tensor(PARENTS)]


def test_class_weights_reach_the_loss_of_a_baseline_and_of_h():
    def classes(scores, batch):
        return cross_entropy(scores, batch.labels, batch.labels, WEIGHTS)

    def both(scores, batch):
        summed = torch.einsum("ln,bnyx->blyx", MATRIX, scores)
        fine = cross_entropy(scores, batch.subclasses, batch.labels, OF_SUBCLASSES)
        return fine + cross_entropy(summed, batch.labels, batch.labels, WEIGHTS)

    Stepped("baseline", weights=WEIGHTS, baseline=ALL_LAYERS).check(classes)
    phases = {"fixed_w": ONE_STEP, "learned_w": NONE}
    Stepped("hierarchical", weights=WEIGHTS, alpha=1.0, hierarchical=phases).check(both)


@pytest.mark.parametrize("weighted", [False, True])
def test_s_learns_the_subclasses_then_the_classes(weighted):
    phases = {
        "subclass_new_layers": NONE, "subclass_all_layers": ONE_STEP,
        "class_last_layer": ONE_STEP, "class_all_layers": NONE,
    }  # fmt: skip
    made, starts = network(), []
    reset = made.reset_classifier

    def kept(outputs):
        reset(outputs)
        starts.append(copy.deepcopy(made))

    made.reset_classifier = kept
    source = GivenSource(batch_of_four)
    source.steps_per_epoch, source.batch_size = 1, 4
    _, history = train(
        made, config_of("sequential", **SGD, sequential=phases), classes=CLASSES, matrix=MATRIX,
        void=VOID, data=source, device=CPU, on_step=lambda row, total: None,
        class_weights=WEIGHTS if weighted else None,
    )  # fmt: skip
    (batch,) = batch_of_four(0)
    targets = ((batch.subclasses, OF_SUBCLASSES), (batch.labels, WEIGHTS))
    for start, row, (target, weights) in zip(starts, history, targets, strict=True):
        scores = functional.interpolate(start(batch.images.float()), size=(32, 32), mode="bilinear")
        expected = cross_entropy(scores, target, batch.labels, weights if weighted else None)
        assert row["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_masks_are_new_at_every_step_in_every_layer_and_by_the_seed():
    made, seen = network(), []
    for layer in made.modules():
        if isinstance(layer, BatchDropout):
            layer.register_forward_pre_hook(lambda layer, _: seen.append(layer.keys.tolist()))
    phases = {"new_layers": NONE, "all_layers": {"steps": 3, "learning_rate": 1e-3}}
    train(
        made, config_of("baseline", **SGD, seed=3, baseline=phases), classes=CLASSES, matrix=None,
        void=VOID, data=GivenSource(lambda epoch: itertools.repeat(next(batch_of_four(0)), 3)),
        device=CPU, on_step=lambda row, total: None,
    )  # fmt: skip
    assert seen == [
        mask_keys(3, step, layer, torch.arange(4)).tolist()
        for step in range(3) for layer in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("alpha", [0.0, 0.25, 3.0])
def test_alpha_weighs_the_class_loss(alpha):
    def both(scores, batch):
        summed = torch.stack(
            [scores[:, [k for k, p in enumerate(PARENTS) if p == label]].sum(1)
             for label in range(CLASSES)], dim=1,
        )  # fmt: skip
        fine = cross_entropy(scores, batch.subclasses, batch.labels)
        return fine + alpha * cross_entropy(summed, batch.labels, batch.labels)

    phases = {"fixed_w": ONE_STEP, "learned_w": NONE}
    Stepped("hierarchical", alpha=alpha, hierarchical=phases).check(both)


@pytest.mark.parametrize(
    ("most", "sizes"), [(None, [4]), (1, [1] * 4), (2, [2, 2]), (3, [2, 2]), ("auto", [4])]
)
def test_a_step_in_parts_has_the_gradient_of_the_whole(most, sizes):
    """Of a mean over all labelled pixels, which lie unevenly on the parts."""
    done = Stepped("baseline", micro_batch=most, baseline=ALL_LAYERS)
    assert done.sizes == sizes
    done.check(of_classes)


@pytest.mark.parametrize("trained", [True, False])
def test_a_last_layer_that_is_trained_is_kept(trained):
    """What an FCN-16s takes from the coarser network."""
    done = Stepped("baseline", trained, baseline=ALL_LAYERS)
    assert done.fresh == (0 if trained else 1)
    done.check(of_classes)


def test_precision_reaches_the_network():
    seen = []
    for precision in ("float32", "bfloat16"):
        made = network()
        made.body[0].register_forward_hook(lambda *given: seen.append(given[2].dtype))
        train(
            made,
            config_of("baseline", **SGD, baseline=ALL_LAYERS),
            classes=CLASSES,
            matrix=None,
            void=VOID,
            data=GivenSource(batch_of_four),
            device=CPU,
            on_step=lambda row, total: None,
            precision=precision,
        )
    assert seen == [torch.float32, torch.bfloat16]


def test_the_rate_of_a_phase_is_its_own():
    rates = {"new_layers": {"steps": 2, "learning_rate": 0.25}, "all_layers": ONE_STEP}
    found = []
    source = GivenSource(lambda epoch: itertools.repeat(next(batch_of_four(0)), 3))
    train(
        network(), config_of("baseline", **SGD, baseline=rates), classes=CLASSES, matrix=None,
        void=VOID, data=source, device=CPU,
        on_step=lambda row, total: found.append((row["phase"], row["learning_rate"])),
    )  # fmt: skip
    assert found == [("new_layers", 0.25)] * 2 + [("all_layers", RATE)]
