"""A GPU that is out of memory, played by an error where the network is too full."""

from types import SimpleNamespace

import pytest
import torch

from lhs.errors import UserError
from lhs.training.data_source import Batch
from lhs.training.trainer import PhaseTrainer
from tests.training.test_checkpoints import Killed, Shelf, attempt, same
from tests.training.test_loop import tiny_batches, trained
from tests.training.test_parallel import PlainNetwork


def weights(network, **settings):
    model, _ = trained("baseline", network, batches=wide_batches, **settings)
    return model.state_dict()


@pytest.fixture
def limit(monkeypatch):
    """Sets how many images the network holds; the sizes of all passes that were tried."""
    whole, tried, most = PhaseTrainer.forward_backward_step, [], [1]

    def step(self, batch, count):
        tried.append(len(batch.labels))
        loss = whole(self, batch, count)
        if len(batch.labels) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nMore")
        return loss

    monkeypatch.setattr(PhaseTrainer, "forward_backward_step", step)

    def set_limit(images):
        most[0] = images
        return tried

    return set_limit


def plain(seed=0):
    torch.manual_seed(seed)
    network = PlainNetwork()
    # `attempt` sets it.
    network.dropout = SimpleNamespace(p=0.0)
    return network


def wide_batches(epoch):
    """Of 64 x 64 pixels: batch norm needs several values of each channel."""
    for batch in tiny_batches(epoch):
        yield Batch(*(part.repeat(1, *[1] * (part.ndim - 3), 2, 2) for part in batch[:3]), batch[3])


@pytest.mark.thorough
@pytest.mark.parametrize("network", [plain, lambda: None])
def test_auto_halves_and_ends_as_with_that_number_from_the_start(limit, network):
    """Also running statistics, which the failed pass moved."""
    tried = limit(1)
    expected = weights(network(), micro_batch=1)
    del tried[:]
    same(weights(network(), micro_batch="auto"), expected)
    # Tried once with both, then one at a time in all four steps.
    assert tried == [2, *[1] * 8]


def test_auto_with_room_is_the_whole_batch(limit):
    tried = limit(2)
    same(weights(plain(), micro_batch="auto"), weights(plain()))
    assert set(tried) == {2}


@pytest.mark.parametrize(
    ("images", "micro_batch", "message"),
    [
        (1, None, r"in step 1 of 4 with 2 examples .*set train\.micro_batch=1, or .*=auto"),
        (0, 1, r"with 1 examples at a time .*train\.crop_height"),
        (0, "auto", r"with 1 examples .*micro_batch = auto.*train\.crop_height"),
    ],
)
def test_the_message_names_what_to_set(limit, images, micro_batch, message):
    limit(images)
    with pytest.raises(UserError, match=message) as error:
        trained("baseline", plain(), micro_batch=micro_batch)
    assert str(error.value).endswith("(CUDA out of memory. Tried to allocate 2 MiB.)")


def test_a_resumed_training_goes_on_with_the_number_it_came_to(limit):
    tried = limit(1)
    settings = {"micro_batch": "auto"}
    expected, losses, _ = attempt("baseline", None, network=plain(), settings=settings)
    shelf = Shelf()
    with pytest.raises(Killed):
        attempt("baseline", shelf, kill_at=3, network=plain(), settings=settings)
    limit(2)
    del tried[:]
    found, again, _ = attempt("baseline", shelf, network=plain(9), settings=settings)
    same(found, expected)
    assert again == losses
    assert set(tried) == {1}
