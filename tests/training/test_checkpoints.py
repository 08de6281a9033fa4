"""A training that is killed anywhere and started again ends as one that was not."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lhs.training.checkpoints import Checkpoints, TrainState
from lhs.training.loop import train
from tests.training.test_loop import (
    AUXILIARY,
    CLASSES,
    CPU,
    MATRIX,
    VOID,
    GivenSource,
    config_of,
    new_network,
    tiny_batches,
)


class Killed(Exception):
    pass


class Shelf:
    """Keeps what is written, as a folder would."""

    def __init__(self):
        self.content = None
        self.writes = 0

    def write(self, content):
        self.content = content
        self.writes += 1

    def checkpoints(self, minutes=60.0, steps=1):
        return Checkpoints(lambda: self.content, self.write, minutes, steps)


def attempt(strategy, shelf, kill_at=None, *, network=None, keep=None, settings=None):
    """One attempt; `kill_at` is the step after which it dies. Two steps a phase."""
    network = network or new_network()
    network.dropout.p = 0.3
    resumed = []

    def on_step(row, total):
        if row["step"] == kill_at:
            raise Killed

    model, history = train(
        network,
        config_of(strategy, **settings or {}),
        classes=CLASSES,
        matrix=None if strategy == "baseline" else MATRIX,
        void=VOID,
        data=GivenSource(tiny_batches),
        device=CPU,
        on_step=on_step,
        on_resume=resumed.extend,
        checkpoints=None if shelf is None else shelf.checkpoints(**keep or {}),
    )
    return model.state_dict(), [row["loss"] for row in history], resumed


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


LENGTHS = {"baseline": 4, "sequential": 8, "hierarchical": 4}
KEPT = {"optimizer_state": "kept"}
# SGD's gradients are not scaled: it diverges at AdamW's rates.
SLOW = {"epochs": 1, "learning_rate": 1e-5}
BY_SGD = {"optimizer": "sgd", "hierarchical": {"fixed_w": SLOW, "learned_w": SLOW}}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("strategy", "settings", "length"),
    [
        *((strategy, {}, length) for strategy, length in LENGTHS.items()),
        *(
            pytest.param(strategy, {"ema": 0.5}, length, marks=pytest.mark.slow)
            for strategy, length in LENGTHS.items()
        ),
        pytest.param("hierarchical", KEPT, 4, marks=pytest.mark.slow),
        ("hierarchical", KEPT | {"ema": 0.5}, 4),
        pytest.param(
            "hierarchical", KEPT | BY_SGD | {"learn_w": "masked"}, 4, marks=pytest.mark.slow
        ),
        ("hierarchical", AUXILIARY, 2),
    ],
)
def test_killed_after_any_step_it_ends_bit_for_bit_the_same(strategy, settings, length):
    weights, losses, _ = attempt(strategy, None, settings=settings)
    assert len(losses) == length
    for step in range(1, length + 1):
        shelf = Shelf()
        with pytest.raises(Killed):
            attempt(strategy, shelf, kill_at=step, settings=settings)
        # Once there is a checkpoint, what the new process starts from does not matter.
        fresh = new_network(seed=9 if shelf.content else 0)
        again, again_losses, resumed = attempt(strategy, shelf, network=fresh, settings=settings)
        same(again, weights)
        assert again_losses == losses
        # At most one step, reported but not yet written, is repeated.
        assert len(resumed) == step - 1


@pytest.mark.thorough
def test_killed_again_and_again():
    weights, losses, _ = attempt("sequential", None)
    shelf = Shelf()
    for step in (2, 3, 5, 8):
        with pytest.raises(Killed):
            attempt("sequential", shelf, kill_at=step)
    again, again_losses, _ = attempt("sequential", shelf)
    same(again, weights)
    assert again_losses == losses


@pytest.mark.thorough
def test_checkpoints_between_phases_alone_are_enough():
    weights, _, _ = attempt("sequential", None)
    shelf = Shelf()
    with pytest.raises(Killed):
        attempt("sequential", shelf, kill_at=6, keep={"steps": None})
    assert shelf.writes == 2
    again, _, resumed = attempt("sequential", shelf)
    assert len(resumed) == 4
    same(again, weights)


@pytest.mark.thorough
def test_a_finished_training_is_not_done_again():
    shelf = Shelf()
    weights, losses, _ = attempt("hierarchical", shelf)
    writes = shelf.writes
    again, again_losses, resumed = attempt("hierarchical", shelf, kill_at=1)
    same(again, weights)
    assert again_losses == losses
    assert len(resumed) == len(losses)
    assert shelf.writes == writes + 1


@pytest.mark.thorough
def test_a_worker_that_only_reads_writes_nothing():
    shelf = Shelf()
    attempt("baseline", shelf)
    reader = Checkpoints(lambda: shelf.content, None, 1e-9, 1)
    assert not reader.due(1)
    assert reader.load()["position"]["phase"] == 1


def test_due_by_time_or_by_steps():
    shelf = Shelf()
    by_steps = shelf.checkpoints(minutes=60, steps=5)
    assert [step for step in range(1, 16) if by_steps.due(step)] == [5, 10, 15]
    by_time = shelf.checkpoints(minutes=1e-9, steps=None)
    assert by_time.due(1)
    assert not shelf.checkpoints(minutes=60, steps=None).due(1)


@pytest.mark.thorough
def test_a_checkpoint_with_the_random_states_of_gpus_is_taken_up():
    """Earlier versions stored one a GPU; there may be fewer by now, and nothing draws from them."""
    weights, losses, _ = attempt("baseline", None)
    shelf = Shelf()
    with pytest.raises(Killed):
        attempt("baseline", shelf, kill_at=3)
    state = dict(shelf.checkpoints().load())
    state["random_cuda"] = [torch.zeros(16, dtype=torch.uint8)] * 8
    stream = io.BytesIO()
    torch.save(state, stream)
    shelf.content = stream.getvalue()
    again, again_losses, _ = attempt("baseline", shelf)
    same(again, weights)
    assert again_losses == losses


@pytest.mark.thorough
def test_what_is_stored_holds_no_code():
    shelf = Shelf()
    attempt("baseline", shelf)
    state = shelf.checkpoints().load()
    assert set(state) == {
        "position", "model", "optimizer", "schedule", "random", "history",
    }  # fmt: skip
    assert np.isfinite([row["loss"] for row in state["history"]]).all()


def test_the_time_counts_from_the_last_checkpoint(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("lhs.training.checkpoints.time", clock)
    kept = Shelf().checkpoints(minutes=1, steps=None)
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    now[0] = 61.0
    assert kept.due(1)
    kept.save(TrainState(), layer, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1), [])
    assert not kept.due(2)
    now[0] = 122.0
    assert kept.due(3)
