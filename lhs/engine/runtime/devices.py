"""The device of a process, and what the cluster's GPUs support."""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING, Any

import ray

from lhs.engine.runtime.cluster import cluster_resources
from lhs.errors import UserError

# torch is imported where it is used: planning a run and clustering do not need it.
if TYPE_CHECKING:
    import torch

    from lhs.networks.precision import Precision

NO_DRIVER = "Found no NVIDIA driver"
"""How torch says that a machine has none."""
QUERY_SHARE = 0.001
"""Share of a GPU that a task reserves only to query it; other shares leave room for it."""


def granted_device() -> torch.device:
    """The device of this process: CUDA only where Ray granted it a GPU and torch sees one.

    Ray leaves all GPUs visible to processes that reserved none, and it can have *logical* GPUs on
    machines without a card.

    Raises
    ------
    UserError
        If torch cannot use the card, for example because its driver is too old for torch.
    """
    import torch

    if not ray.is_initialized():
        return torch.device("cpu")
    granted = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    if not granted or not usable(torch.cuda):
        return torch.device("cpu")
    return torch.device("cuda")


def usable(cuda: Any) -> bool:
    """Whether torch sees a card; false without NVIDIA's driver: then the GPU is a logical one.

    Raises
    ------
    UserError
        If there is a driver, and torch cannot use it: Ray counts such a card too.
    """
    if cuda.is_available():
        return True
    try:
        cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(". ")[0].rstrip(".")
    else:
        reason = "torch sees no card"
    if NO_DRIVER in reason:
        return False
    raise UserError(
        f"{socket.gethostname()}: Ray counts a GPU here, and torch can't use it: {reason}; "
        "clusters/README.md says which driver and which torch are needed; to work on CPUs set "
        "train.gpu=false (a run or a sweep), or hide the card: CUDA_VISIBLE_DEVICES="
    )


@functools.cache
def has_cuda() -> bool:
    """Whether torch sees a GPU of the cluster: it does not see a logical one.

    Queries one, once per process; waits until one has room.
    """
    device: str = ray.get(gpu_query_task()(lambda: granted_device().type).remote())
    return device == "cuda"


def gpu_query_task() -> Any:
    """Decorator for a task that queries a GPU anywhere in the cluster.

    With the default scheduling strategy: a trial of Tune would restrict it to its own resources.
    """
    return ray.remote(num_cpus=0, num_gpus=QUERY_SHARE, scheduling_strategy="DEFAULT")


def precision_on(setting: str, gpu: bool, name: str) -> Precision:
    """Resolve `train.precision` or `evaluation.precision` for the device that will be used.

    Parameters
    ----------
    setting, name
        See `resolve_precision`.
    gpu
        Whether a GPU will be used.

    Raises
    ------
    UserError
        If the device does not support it.
    """
    if setting == "float32":
        return "float32"
    if not gpu:
        return _resolved(setting, "cpu", name)
    if not cluster_resources().get("GPU", 0):
        # The query would wait for one without end.
        raise UserError("train.gpu = true: the cluster has no GPU; allowed are auto and false")
    return _precision_on_gpu(setting, name)


@functools.cache
def _precision_on_gpu(setting: str, name: str) -> Precision:
    query = gpu_query_task()(lambda: _resolved(setting, str(granted_device()), name))
    resolved: Precision = ray.get(query.remote())
    return resolved


def _resolved(setting: str, device: str, name: str) -> Precision:
    import torch

    from lhs.networks.precision import resolve_precision

    return resolve_precision(setting, torch.device(device), name)


def booked_share(share: float) -> float:
    """GPUs to reserve for a share of one; below 1 it leaves room for tasks that query the GPU."""
    return share if share == 1 else max(QUERY_SHARE, round(share - QUERY_SHARE, 4))
