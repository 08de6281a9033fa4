"""Which device a process may use, and what the cluster's GPUs can do."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

# torch is imported where it is used: who only plans a run, or makes clusters, does without.
if TYPE_CHECKING:
    import torch

    from lhs.networks.precision import Precision

TRIFLE = 0.001
"""Of a GPU: what a task books that only looks at it. Shares leave room for it."""


def granted_device() -> torch.device:
    """The device of this process: CUDA only where Ray granted it a GPU and torch sees one.

    Ray leaves all cards visible to processes that booked none, and books *logical* GPUs on machines
    without a card.
    """
    import torch

    granted = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return torch.device("cuda" if granted and torch.cuda.is_available() else "cpu")


class Probe(NamedTuple):
    """What a process sees that booked a GPU."""

    cuda: bool
    """Whether torch sees a card; not so where the GPU is only logical."""
    name: str


def booked_gpu() -> Probe:
    """Look at a booked GPU of the cluster, once a process; waits where none is free."""
    return _probe()


@functools.cache
def _probe() -> Probe:
    found: Probe = ray.get(look_task()(_look).remote())
    return found


def look_task() -> Any:
    """What makes a function a task that books a trifle of a GPU.

    Anywhere in the cluster: a trial of Tune's would keep it to what the trial itself has booked.
    """
    return ray.remote(num_cpus=0, num_gpus=TRIFLE, scheduling_strategy="DEFAULT")


def _look() -> Probe:
    import torch

    device = granted_device()
    cuda = device.type == "cuda"
    return Probe(cuda, torch.cuda.get_device_name(device) if cuda else "cpu")


def precision_on(setting: str, gpu: bool, name: str) -> Precision:
    """Settle `train.precision` or `evaluation.precision` on the device that will be used.

    Parameters
    ----------
    setting, name
        See `resolve_precision`.
    gpu
        Whether a GPU will be booked.

    Raises
    ------
    UserError
        If the device does not multiply what is asked for.
    """
    if setting == "float32":
        return "float32"
    if not gpu:
        return _resolved(setting, "cpu", name)
    return _precision_there(setting, name)


@functools.cache
def _precision_there(setting: str, name: str) -> Precision:
    settled: Precision = ray.get(look_task()(_resolve_there).remote(setting, name))
    return settled


def _resolve_there(setting: str, name: str) -> Precision:
    return _resolved(setting, str(granted_device()), name)


def _resolved(setting: str, device: str, name: str) -> Precision:
    import torch

    from lhs.networks.precision import resolve_precision

    return resolve_precision(setting, torch.device(device), name)


def booked_share(share: float) -> float:
    """What a training or a model books of a GPU for a share of it, a trifle less than that below 1.

    Eight of 0.125 leave room for tasks that book a trifle.
    """
    return share if share == 1 else max(TRIFLE, round(share - TRIFLE, 4))
