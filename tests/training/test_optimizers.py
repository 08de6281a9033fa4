"""Rates and decay of every parameter, and what pretrained layers keep."""

import pytest
import torch
from timm.optim import param_groups_weight_decay

from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.training.optimizers import build_lr_scheduler, build_optimizer
from tests.training.test_loop import (
    CPU,
    MATRIX,
    config_of,
    moved,
    new_network,
    snapshot,
    trained,
)


def rates_and_decays(optimizer):
    return {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_every_parameter_has_its_rate_and_decay(kind):
    network = new_network()
    config = config_of("baseline", optimizer=kind, encoder_factor=0.1, weight_decay=0.2)
    optimizer = build_optimizer(network, network, config, 0.01, CPU)
    found = rates_and_decays(optimizer)
    # The peer: which parameters decay, by timm.
    peer = param_groups_weight_decay(network, 0.2)
    decays = {id(p): group["weight_decay"] for group in peer for p in group["params"]}
    if kind == "sgd":
        decays = dict.fromkeys(decays, 0.2)
    assert found.keys() == decays.keys()
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)
    for name, parameter in network.named_parameters():
        rate = 0.001 if name.startswith("encoder.") else 0.01
        assert found[id(parameter)] == (pytest.approx(rate), decays[id(parameter)]), name


@pytest.mark.parametrize(("decay", "expected"), [(None, 0.2), (0.0, 0.0)])
def test_w_has_a_rate_and_decay_of_its_own(decay, expected):
    network = new_network()
    model = HierarchicalNetwork(network, MATRIX, masked=False)
    config = config_of("baseline", w_factor=10, w_weight_decay=decay, weight_decay=0.2)
    assert id(model.w) not in rates_and_decays(build_optimizer(model, network, config, 0.01, CPU))
    model.w.requires_grad_(True)
    found = rates_and_decays(build_optimizer(model, network, config, 0.01, CPU))
    assert found[id(model.w)] == (pytest.approx(0.1), expected)
    assert len(found) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", ["one_cycle", "steps"])
def test_all_rates_follow_one_schedule(schedule):
    network = new_network()
    config = config_of("baseline", encoder_factor=0.1, schedule=schedule, step_size=3)
    optimizer = build_optimizer(network, network, config, 0.01, CPU)
    scheduler = build_lr_scheduler(optimizer, config, 8)
    for _ in range(8):
        first, *others = (group["lr"] for group in optimizer.param_groups)
        assert {round(rate / first, 6) for rate in others} == {1.0, 0.1}
        optimizer.step()
        scheduler.step()


@pytest.mark.thorough
def test_kept_statistics_stay_and_those_of_new_layers_follow():
    for keep, expected in (("keep", set()), ("update", {"encoder statistics"})):
        network = new_network()
        before = snapshot(network)
        trained("baseline", network, encoder_statistics=keep)
        parts = moved(before, snapshot(network))
        assert {part for part in parts if part == "encoder statistics"} == expected
        assert {"encoder", "head", "head statistics", "last"} <= parts


@pytest.mark.thorough
def test_random_weights_have_no_encoder_to_spare():
    """Without pretrained weights everything learns at the phase's rate."""
    one, other = new_network(), new_network()
    trained("baseline", one, encoder_factor=0.01, encoder_statistics="keep", pretrained=False)
    trained("baseline", other, encoder_factor=1.0, encoder_statistics="update")
    for name, tensor in snapshot(one).items():
        assert torch.equal(tensor, snapshot(other)[name]), name


@pytest.mark.thorough
def test_a_phase_ends_with_the_moving_average():
    """By hand: the average of the states after each step, by the rising decay."""
    decay = 0.4
    phases = {"new_layers": {"epochs": 0}, "all_layers": {"epochs": 2}}
    states = []
    plain = new_network()
    trained(
        "baseline",
        plain,
        lambda row, total: states.append(snapshot(plain)),
        max_steps=None,
        baseline=phases,
    )
    network = new_network()
    trained("baseline", network, max_steps=None, baseline=phases, ema=decay)
    for name, tensor in snapshot(network).items():
        if not tensor.is_floating_point():
            continue
        average = states[0][name].double()
        for step, state in enumerate(states[1:], 1):
            share = min(decay, 1 - (1 + step) ** (-2 / 3))
            average = share * average + (1 - share) * state[name]
        torch.testing.assert_close(tensor, average.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_an_epoch_is_scored_by_the_moving_average():
    network, raw, seen = new_network(), [], []
    trained(
        "baseline", network, lambda row, total: raw.append(snapshot(network)),
        on_epoch=lambda epoch, phase, model: seen.append(snapshot(model)), max_steps=None, ema=0.5,
        baseline={"new_layers": {"epochs": 0}, "all_layers": {"epochs": 2}},
    )  # fmt: skip
    average = raw[0]["last.weight"].double()
    for step, state in enumerate(raw[1:3], 1):
        share = min(0.5, 1 - (1 + step) ** (-2 / 3))
        average = share * average + (1 - share) * state["last.weight"]
    torch.testing.assert_close(seen[0]["last.weight"], average.float(), rtol=1e-4, atol=1e-6)
    assert not torch.equal(seen[0]["last.weight"], raw[2]["last.weight"])
