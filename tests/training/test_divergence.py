"""A training whose loss or weights are no longer finite stops, and says where and what to lower."""

import math

import pytest
import torch

from lhs.config import PhaseConfig
from lhs.errors import UserError
from lhs.loading import build_config
from lhs.training.phases import learning_rate_setting, phases
from tests.training.test_checkpoints import Shelf, attempt
from tests.training.test_loop import new_network, trained

RATES = {"new_layers": {"epochs": 1}, "all_layers": {"epochs": 1, "learning_rate": 1e6}}


def spoiled_at(step, log_every=10, **settings):
    """Train with a last layer that is not finite from a step on; the rows that were reported."""
    network, reported, calls = new_network(), [], []

    def spoil(module, inputs):
        calls.append(0)
        if len(calls) == step:
            torch.nn.init.constant_(module.weight, math.inf)

    network.reset_classifier = lambda outputs: None
    network.last.register_forward_pre_hook(spoil)
    with pytest.raises(UserError) as error:
        trained(
            "baseline", network, lambda row, total: reported.append(row), log_every=log_every,
            **settings,
        )  # fmt: skip
    return str(error.value), reported


@pytest.mark.parametrize("log_every", [1, 10])
def test_the_first_step_with_a_bad_loss_is_named(log_every):
    message, reported = spoiled_at(2, log_every)
    assert "step 2 of 4" in message
    assert "phase new_layers" in message
    assert "learning rate" in message
    assert "lower train.baseline.new_layers.learning_rate (0.01 now)" in message
    assert [row["step"] for row in reported] == [1]


def test_a_rate_of_a_million_stops():
    with pytest.raises(UserError, match=r"lower train\.baseline\.all_layers\.learning_rate"):
        trained("baseline", baseline=RATES, max_steps=20, optimizer="sgd", schedule="steps")


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_no_phase_ends_with_weights_that_are_not_finite(ema):
    """Although each loss is finite: the last step alone may spoil them."""

    def spoil(epoch, phase, model):
        if epoch == 1:
            torch.nn.init.constant_(model.last.bias, math.nan)

    with pytest.raises(UserError, match=r"last\.bias .*after step 2 of 4 .*phase new_layers"):
        trained("baseline", on_epoch=spoil, ema=ema)


@pytest.mark.thorough
def test_the_last_finite_checkpoint_stays(monkeypatch):
    shelf = Shelf()
    settings = {"baseline": RATES, "max_steps": 20, "optimizer": "sgd", "schedule": "steps"}
    with pytest.raises(UserError, match="diverged"):
        attempt("baseline", shelf, settings=settings)
    state = shelf.checkpoints().load()
    assert shelf.writes >= 3
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert all(math.isfinite(row["loss"]) for row in state["history"])
    # Started again, it comes to the same error.
    before = shelf.content
    with pytest.raises(UserError, match="diverged"):
        attempt("baseline", shelf, settings=settings)
    assert shelf.content == before


def test_the_setting_of_a_coarser_network_is_its_own():
    train = build_config({"train": {"coarser": {"epochs": 2}}}).train
    [_, phase] = phases(train)
    assert learning_rate_setting(train, phase) == "train.baseline.all_layers.learning_rate"
    coarser = train.model_copy(
        update={
            "baseline": train.baseline.model_copy(
                update={"new_layers": PhaseConfig(), "all_layers": train.coarser}
            )
        }
    )
    [phase] = phases(coarser)
    assert learning_rate_setting(coarser, phase) == "train.coarser.learning_rate"
