"""Two workers (gloo, two processes) train as one does with the same global batch."""

import os
import threading

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from lhs.loading import build_config
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.patch import BatchDropout
from lhs.networks.weights import load_weights
from lhs.training.feed import Batch
from lhs.training.loop import train
from lhs.training.parallel import act_as_one, keep_to_own_cores, total, world

VOID = 255
PARENTS = torch.tensor([0, 0, 1, 2])
MATRIX = (PARENTS[None, :] == torch.arange(3)[:, None]).float()


class SharedFeed:
    """Six random images a step; worker r has numbers r, r + world, ... of them."""

    steps_per_epoch, repeats = 3, False

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def batches(self, epoch, first):
        for step in range(first, 3):
            draw = torch.Generator().manual_seed(100 * epoch + step)
            images = torch.randint(0, 256, (6, 3, 64, 64), generator=draw, dtype=torch.uint8)
            subclasses = torch.randint(0, 4, (6, 8, 8), generator=draw)
            subclasses = subclasses.repeat_interleave(8, 1).repeat_interleave(8, 2)
            hidden = torch.rand(6, 64, 64, generator=draw) < torch.rand(6, 1, 1, generator=draw)
            labels = PARENTS[subclasses].masked_fill(hidden, VOID)
            own = slice(self.rank, None, self.size)
            yield [Batch(images[own], labels[own], subclasses[own])]


def settings(strategy, **more):
    phase = {"epochs": 1, "learning_rate": 0.001}
    names = {
        "baseline": ("new_layers", "all_layers"),
        "hierarchical": ("fixed_w", "learned_w"),
    }[strategy]
    tree = {
        "strategy": strategy,
        "batch_size": 6,
        "solver": "sgd",
        "schedule": "steps",
        strategy: dict.fromkeys(names, phase),
        **more,
    }
    return build_config({"train": tree}).train


def curve(rank, size, strategy, **more):
    """Losses and final weights of one worker."""
    torch.manual_seed(0)
    config = build_config({"network": {"channels": 32}}).network
    network = build_network(config, 3)
    load_weights(network, config)
    model, history = train(
        network,
        settings(strategy, **more),
        classes=3,
        matrix=None if strategy == "baseline" else MATRIX,
        void=VOID,
        feed=SharedFeed(rank, size),
        device=torch.device("cpu"),
        on_step=lambda row, total: None,
    )
    return [row["loss"] for row in history], model.state_dict()


def _join(rank, size, folder, work, arguments):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    torch.save(work(rank, size, *arguments), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def together(folder, work, *arguments, size=2):
    """What `work(rank, size, ...)` gives in each of `size` processes."""
    multiprocessing.spawn(_join, (size, str(folder), work, arguments), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _curve(rank, size, strategy, more):
    return curve(rank, size, strategy, **more)


@pytest.mark.parametrize(
    ("strategy", "more"),
    [("baseline", {}), ("hierarchical", {}), ("baseline", {"micro_batch": 2})],
)
def test_two_workers_give_the_losses_of_one(tmp_path, strategy, more):
    """Batch norm, dropout and void pixels that lie unevenly on the workers included."""
    results = together(tmp_path, _curve, strategy, more)
    if "micro_batch" in more:
        # One worker takes the six in three passes, two workers take theirs in two: batch norm
        # sees other parts, so only the workers are compared.
        assert results[0][0] == results[1][0]
        return
    alone, weights = curve(0, 1, strategy, **more)
    for losses, _ in results:
        np.testing.assert_allclose(losses, alone, rtol=0, atol=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(results[0][1][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def _norms(rank, size):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    act_as_one(norm)
    draw = torch.Generator().manual_seed(2)
    whole = torch.randn(7, 5, 4, 3, generator=draw) * 3 + 1
    # The workers' shares have different sizes.
    own = (whole[:2], whole[2:])[rank].clone().requires_grad_()
    out = norm(own)
    goal = torch.randn(7, 5, 4, 3, generator=draw)
    (out * (goal[:2], goal[2:])[rank]).sum().backward()
    return out.detach(), own.grad, norm.running_mean, norm.running_var, norm.num_batches_tracked


def test_batch_norm_of_the_global_batch_is_torchs(tmp_path):
    first, second = together(tmp_path, _norms)
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    draw = torch.Generator().manual_seed(2)
    whole = (torch.randn(7, 5, 4, 3, generator=draw) * 3 + 1).requires_grad_()
    out = norm(whole)
    (out * torch.randn(7, 5, 4, 3, generator=draw)).sum().backward()
    torch.testing.assert_close(torch.cat([first[0], second[0]]), out.detach())
    torch.testing.assert_close(torch.cat([first[1], second[1]]), whole.grad, rtol=1e-4, atol=1e-5)
    for side in (first, second):
        torch.testing.assert_close(side[2], norm.running_mean)
        torch.testing.assert_close(side[3], norm.running_var)
        assert side[4] == 1


def _masks(rank, size):
    torch.manual_seed(3)
    drop = BatchDropout(0.4)
    act_as_one(nn.Sequential(drop))
    return drop(torch.ones(3, 4, 2, 2)), total(torch.tensor([1.0, rank])), world()


def test_masks_and_sums_over_workers(tmp_path):
    first, second = together(tmp_path, _masks)
    torch.manual_seed(3)
    whole = BatchDropout(0.4)(torch.ones(6, 4, 2, 2))
    assert torch.equal(whole[0::2], first[0])
    assert torch.equal(whole[1::2], second[0])
    assert first[1].tolist() == second[1].tolist() == [2.0, 1.0]
    assert (first[2], second[2]) == ((0, 2), (1, 2))


def _cores_of_threads(rank, size):
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    before = os.sched_getaffinity(0)
    keep_to_own_cores(len(before), 1)
    unchanged = os.sched_getaffinity(0) == before
    keep_to_own_cores(1, 1)
    both = [sorted(os.sched_getaffinity(tid)) for tid in (0, thread.native_id)]
    done.set()
    return torch.tensor([unchanged, both == [[sorted(before)[1]]] * 2])


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else True,
    reason="needs two cores, and a system that keeps threads to cores",
)
def test_every_thread_keeps_to_the_cores_of_its_worker(tmp_path):
    """Those that run already as well; where cores are too few nothing changes."""
    assert together(tmp_path, _cores_of_threads, size=1)[0].tolist() == [True, True]


def test_alone_nothing_changes():
    network = nn.Sequential(nn.BatchNorm2d(3), BatchDropout(0.5))
    act_as_one(network)
    assert "forward" not in vars(network[0])
    assert network[1].world_size == 1
    value = torch.ones(2)
    assert torch.equal(total(value), value)
    assert world() == (0, 1)


def test_every_dropout_of_the_networks_is_one_of_the_batch():
    """Another kind would draw other masks on two workers than on one."""
    for name in ("lite", "squeezenet", "timm:resnet18"):
        config = build_config({"network": {"name": name, "weights": "none"}}).network
        network = build_network(config, 2)
        assert isinstance(network, SceneNetwork)
        kinds = {type(m) for m in network.modules() if "Drop" in type(m).__name__}
        assert kinds <= {BatchDropout}, name
