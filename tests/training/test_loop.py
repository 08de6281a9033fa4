"""The loop on tiny batches: what moves in which phase, what repeats, how the rate goes."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from lhs.loading import build_config
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.networks.smp import SmpNetwork
from lhs.training import loop
from lhs.training.data_source import Batch
from lhs.training.loop import train

VOID = 255
CLASSES = 3
PARENTS = np.array([0, 0, 1, 2, 2])
MATRIX = torch.tensor(PARENTS[None, :] == np.arange(CLASSES)[:, None]).float()
CPU = torch.device("cpu")


def tiny_batches(epoch: int, steps: int = 3):
    for step in range(steps):
        draw = torch.Generator().manual_seed(1000 * epoch + step)
        images = torch.randint(0, 256, (2, 3, 32, 32), generator=draw, dtype=torch.uint8)
        subclasses = torch.randint(0, 5, (2, 32, 32), generator=draw)
        labels = torch.tensor(PARENTS)[subclasses]
        hidden = torch.rand(2, 32, 32, generator=draw) < 0.2
        labels, subclasses = (ids.masked_fill(hidden, VOID) for ids in (labels, subclasses))
        yield Batch(images, labels, subclasses, torch.arange(2))


def config_of(strategy: str, **settings):
    one = {"epochs": 1}
    tree = {
        "strategy": strategy,
        "max_steps": 2,
        "log_every": 1,
        "baseline": {"new_layers": one, "all_layers": one},
        "sequential": {
            "subclass_new_layers": one,
            "subclass_all_layers": one,
            "class_last_layer": one,
            "class_all_layers": one,
        },
        "hierarchical": {"fixed_w": one, "learned_w": one},
        **settings,
    }
    return build_config({"train": tree}).train


def new_network(seed: int = 0) -> EncoderNetwork:
    torch.manual_seed(seed)
    return EncoderNetwork(CLASSES, 8)


class GivenSource:
    """A data source of what `batches(epoch)` gives, three batches an epoch."""

    steps_per_epoch, batch_size = 3, 2

    def __init__(self, batches):
        self.given = batches

    def batches(self, epoch, first):
        for batch in itertools.islice(self.given(epoch), first, None):
            yield [batch]


def trained(
    strategy: str, network=None, on_step=None, batches=tiny_batches, on_epoch=None,
    precision="float32", pretrained=True, matrix=MATRIX, **settings,
):  # fmt: skip
    network = network or new_network()
    return train(
        network,
        config_of(strategy, **settings),
        classes=CLASSES,
        matrix=None if strategy == "baseline" else matrix,
        void=VOID,
        data=GivenSource(batches),
        device=CPU,
        precision=precision,
        pretrained=pretrained,
        on_step=on_step or (lambda row, total: None),
        on_epoch=on_epoch or (lambda epoch, phase, model: None),
    )


@pytest.fixture(scope="module")
def stories():
    """For each strategy: the state at the start and after every step, with the step's phase."""
    reported = {}
    for strategy in ("baseline", "sequential", "hierarchical"):
        network = new_network()
        rows = [("start", snapshot(network), None)]

        def keep(row, total, network=network, rows=rows):
            flags = {name: p.requires_grad for name, p in network.named_parameters()}
            rows.append((row["phase"], snapshot(network), flags))

        model, history = trained(strategy, network, keep, encoder_statistics="update")
        reported[strategy] = (model, history, rows, network)
    return reported


def snapshot(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def moved(before, after) -> set[str]:
    """The tensors that changed, as `encoder`, `encoder statistics`, `head`, ..."""
    parts = set()
    for name, tensor in after.items():
        if tensor.shape != before[name].shape or not torch.equal(tensor, before[name]):
            statistic = name.rpartition(".")[2] in (
                "running_mean",
                "running_var",
                "num_batches_tracked",
            )
            parts.add(name.split(".")[0] + statistic * " statistics")
    return parts


ALL = {"encoder", "encoder statistics", "head", "head statistics", "last"}
MAY_MOVE = {
    "new_layers": {"head", "head statistics", "last"},
    "all_layers": ALL,
    "subclass_new_layers": {"head", "head statistics", "last"},
    "subclass_all_layers": ALL,
    "class_last_layer": {"last"},
    "class_all_layers": ALL,
    "fixed_w": ALL,
    "learned_w": ALL,
}


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["baseline", "sequential", "hierarchical"])
def test_each_phase_moves_what_it_trains_and_nothing_else(stories, strategy):
    _, history, rows, _ = stories[strategy]
    assert len(history) == len(rows) - 1
    for (_, before, _), (phase, after, flags) in itertools.pairwise(rows):
        assert moved(before, after) == MAY_MOVE[phase], phase
        let = {name.split(".")[0] for name, free in flags.items() if free}
        assert let == {part for part in MAY_MOVE[phase] if "statistics" not in part}, phase


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["sequential", "hierarchical"])
def test_a_network_of_smp_trains_as_lite_does(strategy):
    torch.manual_seed(0)
    network = SmpNetwork(CLASSES, "unet")
    states, phases = [snapshot(network)], []

    def keep(row, total):
        states.append(snapshot(network))
        phases.append(row["phase"])

    trained(strategy, network, keep, encoder_statistics="update")
    decoder = {"head": "decoder", "head statistics": "decoder statistics"}
    for (before, after), phase in zip(itertools.pairwise(states), phases, strict=True):
        assert moved(before, after) == {decoder.get(part, part) for part in MAY_MOVE[phase]}, phase
    assert network.last.out_channels == (CLASSES if strategy == "sequential" else 5)


@pytest.mark.thorough
def test_every_weight_of_a_trained_part_moves():
    """No tensor is forgotten by the optimizer."""

    def larger_batches(epoch):
        draw = torch.Generator().manual_seed(epoch)
        images = torch.randint(0, 256, (2, 3, 96, 96), generator=draw, dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (2, 96, 96), generator=draw)
        yield Batch(images, labels, labels, torch.arange(2))

    network = new_network()
    before = snapshot(network)
    trained("baseline", network, batches=larger_batches)
    still = [n for n, p in network.named_parameters() if torch.equal(p, before[n])]
    assert still == []


@pytest.mark.thorough
def test_sequential_ends_with_the_baselines_architecture(stories):
    baseline, sequential = stories["baseline"][0], stories["sequential"][0]
    assert type(baseline) is type(sequential) is EncoderNetwork
    assert str(baseline) == str(sequential)
    assert {name: tensor.shape for name, tensor in baseline.state_dict().items()} == {
        name: tensor.shape for name, tensor in sequential.state_dict().items()
    }


def test_the_last_layer_has_the_outputs_of_its_target(stories):
    outputs = {
        phase: state["last.weight"].shape[0]
        for strategy in stories
        for phase, state, _ in stories[strategy][2]
        if phase != "start"
    }
    assert {
        phase: n for phase, n in outputs.items() if "subclass" in phase or "w" in phase[-1]
    } == {
        "subclass_new_layers": 5,
        "subclass_all_layers": 5,
        "fixed_w": 5,
        "learned_w": 5,
    }
    assert outputs["class_last_layer"] == outputs["class_all_layers"] == CLASSES
    assert outputs["new_layers"] == outputs["all_layers"] == CLASSES


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("strategy", "phases", "fresh"),
    [
        ("sequential", ["subclass_new_layers", "subclass_all_layers", "class_last_layer",
                        "class_all_layers"], 2),
        ("hierarchical", ["fixed_w", "learned_w"], 1),
    ],
)  # fmt: skip
def test_the_classes_as_their_own_subclasses(strategy, phases, fresh):
    """The control `hierarchy.kind=classes`: W is the identity, S's third step has a new layer."""

    def batches(epoch):
        for batch in tiny_batches(epoch):
            yield batch._replace(subclasses=batch.labels)

    network, made = new_network(), []
    reset = network.reset_classifier
    network.reset_classifier = lambda outputs: (made.append(outputs), reset(outputs))
    model, history = trained(strategy, network, batches=batches, matrix=torch.eye(CLASSES))
    assert list(dict.fromkeys(row["phase"] for row in history)) == phases
    assert made == [CLASSES] * fresh
    if strategy == "hierarchical":
        assert torch.equal(model.matrix, torch.eye(CLASSES))


@pytest.mark.thorough
@pytest.mark.parametrize("learn_w", ["dense", "masked"])
def test_w_is_fixed_then_learned(learn_w):
    only_first = {"fixed_w": {"epochs": 1}, "learned_w": {"epochs": 0}}
    model, _ = trained("hierarchical", learn_w=learn_w, hierarchical=only_first)
    assert isinstance(model, HierarchicalNetwork)
    assert torch.equal(model.current_w(), MATRIX)
    model, _ = trained("hierarchical", learn_w=learn_w)
    w = model.current_w().detach()
    assert (w[MATRIX == 1] != 1).all()
    assert bool((w[MATRIX == 0] != 0).any()) == (learn_w == "dense")


AUXILIARY = {
    "subclass_head": "auxiliary",
    "hierarchical": {"fixed_w": {"epochs": 1}, "learned_w": {"enabled": False}},
}


@pytest.mark.thorough
def test_an_auxiliary_head_leaves_the_baselines_architecture():
    during = []
    network = new_network()
    model, history = trained(
        "hierarchical", network, lambda row, total: during.append(network.last.out_channels),
        **AUXILIARY,
    )  # fmt: skip
    assert during == [CLASSES + len(PARENTS)] * 2
    assert model is network
    baseline, _ = trained("baseline")
    assert str(model) == str(baseline)
    assert model.state_dict().keys() == baseline.state_dict().keys()
    assert [row["phase"] for row in history] == ["fixed_w"] * 2
    assert "w_from_one" not in history[0]


@pytest.mark.thorough
def test_the_subclasses_of_an_auxiliary_head_teach_the_layers_below():
    """With alpha = 0 the class outputs learn nothing, and the encoder does."""
    before, after = new_network(), new_network()
    trained("hierarchical", after, alpha=0.0, weight_decay=0.0, **AUXILIARY)
    assert "encoder" in moved(snapshot(before), snapshot(after))
    torch.manual_seed(0)
    before.reset_classifier(CLASSES + len(PARENTS))
    assert torch.equal(after.last.weight, before.last.weight[:CLASSES])


# One optimizer over both steps of H


def both_steps(epochs, learning_rate=0.003, **settings):
    """Losses, rates and final state of H with steps of so many epochs."""
    steps = {
        name: {"epochs": count, "learning_rate": learning_rate}
        for name, count in zip(("fixed_w", "learned_w"), epochs, strict=True)
    }
    model, history = trained("hierarchical", max_steps=None, hierarchical=steps, **settings)
    rates = [row["learning_rate"] for row in history]
    return [row["loss"] for row in history], rates, snapshot(model)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.5},
        {"optimizer": "sgd", "learning_rate": 1e-4, "schedule": "steps", "step_size": 4},
    ],
)
def test_a_kept_optimizer_trains_both_steps_as_one(monkeypatch, settings):
    """With W frozen in both they are one phase of the summed length, bit for bit."""
    listed = loop.phases
    monkeypatch.setattr(
        loop, "phases",
        lambda config, trained: [
            dataclasses.replace(phase, learns_w=False) for phase in listed(config, trained=trained)
        ],
    )  # fmt: skip
    single = both_steps((3, 0), **settings)
    kept = both_steps((1, 2), optimizer_state="kept", **settings)
    assert np.isfinite(single[0]).all()
    assert kept[:2] == single[:2]
    assert all(torch.equal(tensor, single[2][name]) for name, tensor in kept[2].items())
    apart = both_steps((1, 2), **settings)
    assert apart[0] != single[0]
    assert apart[1] != single[1]


@pytest.mark.thorough
def test_w_joins_a_kept_optimizer_in_the_second_step():
    _, rates, state = both_steps((1, 2), optimizer_state="kept")
    assert rates == both_steps((3, 0))[1]
    assert (state["w"][MATRIX == 1] != 1).all()
    first = trained("hierarchical", optimizer_state="kept", max_steps=1)[1]
    assert [row["w_from_one"] > 0 for row in first] == [False, True]


@pytest.mark.thorough
def test_phase_names_epochs_and_steps_of_the_history():
    totals = []
    _, history = trained(
        "baseline",
        on_step=lambda row, total: totals.append(total),
        max_steps=None,
        baseline={"new_layers": {"epochs": 1}, "all_layers": {"epochs": 2}},
    )
    assert [row["step"] for row in history] == list(range(1, 10))
    assert [row["phase"] for row in history] == ["new_layers"] * 3 + ["all_layers"] * 6
    assert [row["epoch"] for row in history] == [1, 1, 1, 1, 1, 1, 2, 2, 2]
    assert totals == [9] * 9
    assert all(row["seconds"] >= row["waited"] >= 0 for row in history)
    assert all(math.isfinite(row["loss"]) for row in history)


def test_epochs_are_counted_over_all_phases():
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return tiny_batches(epoch)

    trained(
        "baseline",
        batches=batches,
        max_steps=None,
        baseline={"new_layers": {"epochs": 2}, "all_layers": {"epochs": 1}},
    )
    assert asked == [0, 1, 2]


@pytest.mark.thorough
@pytest.mark.parametrize("max_steps", [None, 4])
def test_on_epoch_is_called_and_may_change_the_models_mode(max_steps):
    reported = []

    def evaluate(epoch, phase, model):
        reported.append((epoch, phase.name))
        model.eval()

    settings = {
        "max_steps": max_steps,
        "baseline": {"new_layers": {"epochs": 2}, "all_layers": {"epochs": 1}},
    }
    seen, _ = trained("baseline", on_epoch=evaluate, **settings)
    unseen, _ = trained("baseline", **settings)
    # An epoch is three steps; one that the phase cuts short counts too.
    assert reported == [(1, "new_layers"), (2, "new_layers"), (3, "all_layers")]
    for name, tensor in snapshot(unseen).items():
        assert torch.equal(tensor, snapshot(seen)[name])


def test_the_batches_of_a_stopped_epoch_are_closed():
    closed = []

    def batches(epoch):
        try:
            yield from tiny_batches(epoch)
        finally:
            closed.append(epoch)

    trained("baseline", batches=batches, max_steps=1)
    assert closed == [0, 1]


# Repeating


def losses(seed: int, weights: int = 0, **settings) -> list[float]:
    history = trained("sequential", new_network(weights), seed=seed, **settings)[1]
    return [row["loss"] for row in history]


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_loss_at_every_step():
    torch.manual_seed(5)
    first = losses(7)
    torch.manual_seed(6)
    assert losses(7) == first
    assert losses(8) != first


@pytest.mark.thorough
def test_a_phase_draws_the_same_whatever_the_length_of_the_one_before():
    """Last layers are seeded by phase, so a longer first phase does not change the next's."""
    firsts = []
    for epochs in (1, 2):
        taken = {}
        network = new_network()

        def keep(row, total, network=network, taken=taken):
            taken.setdefault(row["phase"], network.last.bias.detach().clone())

        trained(
            "sequential",
            network,
            keep,
            max_steps=None,
            optimizer="sgd",
            weight_decay=0.0,
            sequential={
                "subclass_new_layers": {"epochs": epochs, "learning_rate": 1e-30},
                "subclass_all_layers": {"epochs": 0},
                "class_last_layer": {"epochs": 1, "learning_rate": 1e-30},
                "class_all_layers": {"epochs": 0},
            },
        )
        firsts.append(taken["class_last_layer"])
    assert torch.equal(*firsts)


def test_void_pixels_teach_nothing():
    def void_batches(epoch):
        for batch in tiny_batches(epoch):
            void = torch.full_like(batch.labels, VOID)
            yield batch._replace(labels=void, subclasses=void)

    network = new_network()
    before = snapshot(network)
    _, history = trained(
        "baseline",
        network,
        batches=void_batches,
        weight_decay=0.0,
        baseline={"new_layers": {"epochs": 0}, "all_layers": {"epochs": 1}},
    )
    assert [row["loss"] for row in history] == [0.0, 0.0]
    assert not any(
        "statistics" not in part and part != "last" for part in moved(before, snapshot(network))
    )


# Optimizer and schedule


def rates(steps: int, peak: float = 0.02, **settings) -> np.ndarray:
    phases = {"new_layers": {"epochs": 0}, "all_layers": {"epochs": 100, "learning_rate": peak}}
    _, history = trained("baseline", baseline=phases, max_steps=steps, **settings)
    return np.array([row["learning_rate"] for row in history])


@pytest.mark.thorough
def test_one_cycle_rises_to_the_peak_and_falls_to_nothing():
    rate = rates(20, schedule="one_cycle")
    # PyTorch's own shape: cosine from peak / 25 up within the first 15 %, then down to its
    # 1 / 10000th; written out with 21 points, the last of which is never used.
    peak, start, end = 0.02, 0.02 / 25, 0.02 / 25 / 1e4
    top = 0.15 * 21 - 1

    def at(step):
        if step <= top:
            low, high, part = start, peak, step / top
        else:
            low, high, part = peak, end, (step - top) / (20 - top)
        return high + (low - high) / 2 * (1 + math.cos(math.pi * part))

    np.testing.assert_allclose(rate, [at(step) for step in range(20)], rtol=1e-6)
    assert rate[0] == pytest.approx(start)
    assert rate.max() == pytest.approx(peak, rel=0.02)
    assert rate.argmax() in (2, 3)
    assert rate[-1] < peak / 50


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_cycle_of_few_steps_works(steps):
    rate = rates(steps, schedule="one_cycle")
    assert len(rate) == steps
    assert ((rate > 0) & (rate <= 0.02)).all()


@pytest.mark.thorough
def test_steps_are_a_tenth_every_step_size():
    rate = rates(8, schedule="steps", step_size=3, optimizer="sgd", peak=1e-4)
    np.testing.assert_allclose(rate, [1e-4] * 3 + [1e-5] * 3 + [1e-6] * 2)


@pytest.mark.thorough
def test_sgd_is_the_papers_weight_decay_and_momentum():
    """Two steps of the last layer by hand: v = 0.9 v + g + beta theta, theta -= rate v."""
    network = new_network()
    network.dropout.p = 0.0
    weights = {}

    def keep(row, total):
        weights[row["step"]] = network.last.weight.detach().clone()

    # Learning rate so small that only the ratio of the two moves tells momentum and decay.
    settings = {
        "optimizer": "sgd",
        "schedule": "steps",
        "momentum": 0.9,
        "weight_decay": 50.0,
        "max_steps": 3,
        "baseline": {
            "new_layers": {"epochs": 0},
            "all_layers": {"epochs": 1, "learning_rate": 1e-3},
        },
    }

    def void_batches(epoch):
        for batch in tiny_batches(epoch):
            yield batch._replace(labels=torch.full_like(batch.labels, VOID))

    trained("baseline", network, keep, batches=void_batches, **settings)
    first = weights[1]
    theta0 = first / (1 - 1e-3 * 50)
    v, theta = 50 * theta0, first
    for step in (2, 3):
        v = 0.9 * v + 50 * theta
        theta = theta - 1e-3 * v
        torch.testing.assert_close(weights[step], theta, rtol=1e-4, atol=1e-7)


@pytest.mark.thorough
def test_bfloat16_trains_about_as_float32_does():
    full, half = losses(0), losses(0, precision="bfloat16")
    np.testing.assert_allclose(half, full, rtol=0.05)
    assert half != full


@pytest.mark.thorough
def test_losses_are_read_when_they_are_logged_and_are_the_same(monkeypatch):
    monkeypatch.setattr("lhs.training.trainer.LONGEST_UNREAD", math.inf)
    reported = []

    def bursts(log_every):
        reported.clear()
        done = []

        def batches(epoch):
            for batch in tiny_batches(epoch):
                done.append(epoch)
                yield batch

        _, history = trained(
            "hierarchical",
            batches=batches,
            on_step=lambda row, total: reported.append((row["step"], len(done))),
            max_steps=None,
            log_every=log_every,
            hierarchical={"fixed_w": {"epochs": 2}, "learned_w": {"epochs": 1}},
        )
        return [{k: v for k, v in r.items() if k not in ("seconds", "waited")} for r in history]

    single = bursts(1)
    assert reported == [(step, step) for step in range(1, 10)]
    # Also at each epoch's end, where scores on held-out images may follow.
    assert bursts(2) == single
    assert reported == [(1, 2), (2, 2), (3, 3), (4, 5), (5, 5), (6, 6), (7, 8), (8, 8), (9, 9)]
    assert all("w_from_one" in row for row in single)


@pytest.mark.slow
def test_the_network_is_compiled_where_it_is_asked_for(monkeypatch):
    """With dropout's masks in it, made anew at each step by the same kernels."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=backend))
    settings = {"max_steps": 3, "compile": True, "seed": 0}
    compiled = trained("baseline", **settings)[1]
    few = len(graphs)
    assert few > 0
    eager = trained("baseline", **settings | {"compile": False})[1]
    assert len(graphs) == few
    np.testing.assert_allclose(
        [row["loss"] for row in compiled], [row["loss"] for row in eager], rtol=1e-5
    )
    trained("baseline", **settings | {"max_steps": 2})
    steps_more = len(graphs) - few
    assert steps_more <= few


def test_training_ends_with_torchs_own_dropout():
    model, _ = trained("baseline")
    assert model.dropout.keys is None
