"""Workers (gloo, processes of their own) train as one does with the same global batch."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.loading import build_config
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.patch import BatchDropout
from lhs.networks.weights import load_weights
from lhs.training import parallel, trainer
from lhs.training.data_source import Batch
from lhs.training.decoded import TrainingScenes
from lhs.training.loop import train
from lhs.training.parallel import has_batch_norm, share_batch_norm, shared, total, world
from lhs.training.variants import VariantSource

VOID = 255
CPU = torch.device("cpu")
PARENTS = torch.tensor([0, 0, 1, 2])
MATRIX = (PARENTS[None, :] == torch.arange(3)[:, None]).float()
LIMIT = 300


class PlainNetwork(SceneNetwork):
    """Convolutions and dropout, without batch norm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), BatchDropout(0.4),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), BatchDropout(0.4),
        )  # fmt: skip
        self.reset_classifier(3)

    def forward_features(self, image):
        return (self.body(image / 255),)

    def forward_head(self, features):
        return self.last(features[0])

    def last_layers(self):
        return [self.last]

    def reset_classifier(self, outputs):
        self.last = nn.Conv2d(8, outputs, 1)


class SharedSource:
    """Seven random images a step; worker r has numbers r, r + world, ... of them."""

    steps_per_epoch, batch_size = 3, 7

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def batches(self, epoch, first):
        for step in range(first, 3):
            draw = torch.Generator().manual_seed(100 * epoch + step)
            images = torch.randint(0, 256, (7, 3, 64, 64), generator=draw, dtype=torch.uint8)
            subclasses = torch.randint(0, 4, (7, 8, 8), generator=draw)
            subclasses = subclasses.repeat_interleave(8, 1).repeat_interleave(8, 2)
            hidden = torch.rand(7, 64, 64, generator=draw) < torch.rand(7, 1, 1, generator=draw)
            labels = PARENTS[subclasses].masked_fill(hidden, VOID)
            own = slice(self.rank, None, self.size)
            yield [Batch(images[own], labels[own], subclasses[own], torch.arange(7)[own])]


def settings(strategy, **more):
    phase = {"epochs": 1, "learning_rate": 0.01}
    names = {
        "baseline": ("new_layers", "all_layers"),
        "sequential": ("subclass_new_layers", "subclass_all_layers", "class_last_layer",
                       "class_all_layers"),
        "hierarchical": ("fixed_w", "learned_w"),
    }[strategy]  # fmt: skip
    tree = {
        "strategy": strategy,
        "batch_size": 7,
        "optimizer": "sgd",
        "schedule": "steps",
        strategy: dict.fromkeys(names, phase),
        **more,
    }
    return build_config({"train": tree}).train


def trained(network, config, data):
    model, history = train(
        network,
        config,
        classes=3,
        matrix=None if config.strategy == "baseline" else MATRIX,
        void=VOID,
        data=data,
        device=CPU,
        on_step=lambda row, total: None,
    )
    return [row["loss"] for row in history], model.state_dict()


def curve(rank, size, name, strategy, more):
    """Losses and final weights of one worker."""
    torch.manual_seed(0)
    if name == "plain":
        network = PlainNetwork()
    else:
        config = build_config({"network": {"name": name, "channels": 16}}).network
        network = build_network(config, 3)
        load_weights(network, config)
    return trained(network, settings(strategy, **more), SharedSource(rank, size))


def _join(rank, size, folder, work, arguments):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    torch.save(work(rank, size, *arguments), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def together(folder, work, *arguments, size=2):
    """What `work(rank, size, ...)` gives in each of `size` processes, within `LIMIT` seconds."""
    running = multiprocessing.spawn(
        _join, (size, str(folder), work, arguments), nprocs=size, join=False
    )
    end = time.monotonic() + LIMIT
    while not running.join(timeout=max(0.1, end - time.monotonic())):
        if time.monotonic() > end:
            for process in running.processes:
                process.kill()
            pytest.fail(f"the workers still wait for each other after {LIMIT} s")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("strategy", "more", "size"),
    [("sequential", {}, 3), ("hierarchical", {}, 2), ("baseline", {"micro_batch": 2}, 2)],
)
def test_without_batch_norm_workers_give_the_losses_of_one(tmp_path, strategy, more, size):
    """Dropout, uneven shares and void pixels that lie unevenly on the workers included. The one
    worker takes each batch at once, whatever `train.micro_batch` the others have."""
    results = together(tmp_path, curve, "plain", strategy, more, size=size)
    alone, weights = curve(0, 1, "plain", strategy, {})
    for losses, _ in results:
        np.testing.assert_allclose(losses, alone, rtol=0, atol=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(results[0][1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.thorough
def test_with_batch_norm_workers_end_with_one_network(tmp_path):
    """Each has its own statistics; rank 0's running ones are taken by all before each step."""
    first, second = together(tmp_path, curve, "lite", "baseline", {})
    assert first[0] == second[0]
    assert np.isfinite(first[0]).all()
    for name, tensor in first[1].items():
        if "running" not in name:
            assert torch.equal(tensor, second[1][name]), name


# Images of several sizes


class Noise(Scene):
    """Scenes of two sizes."""

    def image(self):
        return np.random.default_rng(int(self.id)).integers(0, 256, (*self.shape, 3), np.uint8)

    def label_map(self):
        return np.random.default_rng(int(self.id)).integers(0, 3, self.shape).astype(np.uint8)

    @property
    def shape(self):
        return (32, 64) if int(self.id) % 5 else (64, 32)


def of_two_sizes(rank, size, name):
    torch.manual_seed(0)
    tree = {
        "context": {"variants": 0},
        "network": {"name": "lite", "weights": "none", "channels": 8},
        "train": {"batch_size": 5},
    }
    config = build_config(tree)
    network = PlainNetwork() if name == "plain" else build_network(config.network, 3)
    scenes = [Noise(id=str(number), split="train", num_classes=3) for number in range(11)]
    train = settings("baseline", batch_size=5)
    data = VariantSource(
        TrainingScenes(scenes, None, 1), config.context, VOID, VOID, 32, has_batch_norm(network),
        train=train, rank=rank, world_size=size,
    )  # fmt: skip
    passes = [len(shard) for shard in data.batches(0, 0)]
    return *trained(network, train, data), passes


@pytest.mark.thorough
def test_sizes_need_not_lie_evenly_without_batch_norm(tmp_path):
    results = together(tmp_path, of_two_sizes, "plain")
    assert results[0][2] != results[1][2]
    alone, _, _ = of_two_sizes(0, 1, "plain")
    for losses, *_ in results:
        np.testing.assert_allclose(losses, alone, rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_a_batch_has_one_size_with_batch_norm(tmp_path):
    results = together(tmp_path, of_two_sizes, "lite")
    assert results[0][2] == results[1][2] == [1, 1]
    assert results[0][0] == results[1][0]


def few_examples(rank, size):
    """Nine examples whose last layer passes eight times over them, in batches of four."""
    torch.manual_seed(0)
    context = build_config({"context": {"variants": 0}}).context
    none = {"epochs": 0}
    phases = {
        "subclass_new_layers": none, "subclass_all_layers": none, "class_all_layers": none,
        "class_last_layer": {"epochs": 8},
    }  # fmt: skip
    train = settings("sequential", batch_size=4, sequential=phases)
    scenes = [Noise(id=str(number), split="train", num_classes=3) for number in range(9)]
    data = VariantSource(
        TrainingScenes(scenes, None, 1), context, VOID, VOID, 32, False,
        train=train, rank=rank, world_size=size,
    )  # fmt: skip
    return trained(PlainNetwork(), train, data)


@pytest.mark.slow
def test_a_frozen_phase_of_several_epochs_comes_through(tmp_path):
    """Features that were kept had owners, and a global batch may have had none of a worker's."""
    results = together(tmp_path, few_examples, size=4)
    alone, _ = few_examples(0, 1)
    for losses, _ in results:
        np.testing.assert_allclose(losses, alone, rtol=0, atol=1e-5)


# Parts


def test_every_worker_needs_an_example_of_each_batch():
    def shard(size, rank, world_size):
        context = build_config({"context": {"variants": 0}}).context
        scenes = TrainingScenes(
            [Noise(id=str(n), split="train", num_classes=3) for n in range(9)], None, 1
        )
        train = settings("baseline", batch_size=size)
        source = VariantSource(
            scenes, context, VOID, VOID, 32, False, train=train, rank=rank, world_size=world_size
        )
        return source.shard().tolist()

    assert shard(5, 1, 2) == [1, 3]
    with pytest.raises(UserError, match=r"train\.workers = 3: must not exceed .* \(2\)"):
        shard(2, 0, 3)


def test_batch_norm_is_converted_where_workers_have_gpus(monkeypatch):
    """timm's conversion: the activation inside its batch norm stays."""
    from timm.layers import BatchNormAct2d

    def network():
        return nn.Sequential(BatchNormAct2d(3), nn.BatchNorm2d(3))

    for workers, device, changed in ((1, "cuda", 0), (2, "cpu", 0), (2, "cuda", 2)):
        monkeypatch.setattr(parallel, "world", lambda workers=workers: (0, workers))
        made = network()
        names = list(made.state_dict())
        share_batch_norm(made, torch.device(device))
        assert sum(isinstance(m, nn.SyncBatchNorm) for m in made.modules()) == changed
        assert list(made.state_dict()) == names
        assert isinstance(made[0].act, nn.ReLU)
        assert has_batch_norm(made)
    made.eval()
    features = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(made[:1](features), network()[:1].eval()(features))


def _sums(rank, size):
    norm, plain = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
    broadcast = [shared(model, CPU).broadcast_buffers for model in (norm, plain)]
    return total(torch.tensor([1.0, rank])), world(), broadcast


@pytest.mark.thorough
def test_sums_over_workers(tmp_path):
    first, second = together(tmp_path, _sums)
    assert first[0].tolist() == second[0].tolist() == [2.0, 1.0]
    assert (first[1], second[1]) == ((0, 2), (1, 2))
    assert first[2] == [True, False]


def test_alone_nothing_changes():
    network = nn.Sequential(nn.BatchNorm2d(3))
    assert shared(network, CPU) is network
    value = torch.ones(2)
    assert torch.equal(total(value), value)
    assert world() == (0, 1)


@pytest.mark.parametrize(
    ("batch", "workers", "most", "passes"),
    [(7, 1, 2, 4), (8, 4, 1, 2), (7, 4, 1, 1), (7, 2, 2, 2), (8, 2, None, 1)],
)
def test_workers_with_batch_norm_pass_equally_often(monkeypatch, batch, workers, most, passes):
    """So often that the one with the fewest images has one for each pass."""
    monkeypatch.setattr(trainer, "world", lambda: (0, workers))
    made = SimpleNamespace(
        micro_batch=most, model=nn.BatchNorm2d(3), data=SimpleNamespace(batch_size=batch)
    )
    assert trainer.PhaseTrainer._gradient_accumulation_steps(made) == passes
