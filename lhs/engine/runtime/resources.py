"""What a training needs of the cluster, and what there is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import ray

from lhs.config import Config
from lhs.engine.runtime.devices import booked_share, gpu_query_task, precision_on
from lhs.errors import UserError
from lhs.hierarchy.kmeans import NO_GPU, Backend, CumlProbe, pick_backend, probe_cuml

if TYPE_CHECKING:
    from lhs.networks.precision import Precision

CPU_SHARE = 0.9
"""Of a core that a worker books when it trains on a CPU: the rest is for those that feed it."""


def wants_gpu(setting: Literal["auto"] | bool) -> bool:
    """Whether workers get a GPU: as set, or (`auto`) where the cluster has one."""
    if setting == "auto":
        return ray.cluster_resources().get("GPU", 0) >= 1
    return setting


def training_workers(config: Config) -> int:
    """How many workers train: as set, or (`auto`) one a GPU, and one where there is none.

    One worker on CPUs has all cores of its node already, and a share of a GPU is for one.
    """
    train = config.train
    if train.gpu_share < 1:
        return 1
    if train.workers != "auto":
        return train.workers
    gpus = int(ray.cluster_resources().get("GPU", 0)) if wants_gpu(train.gpu) else 0
    return max(1, min(gpus, train.batch_size))


def clustering_backend(setting: str) -> Backend:
    """`hierarchy.backend`, settled where clusters are made: the head may have no GPU.

    Raises
    ------
    UserError
        If cuML is asked for and cannot run, with the reason.
    """
    if setting == "sklearn":
        return "sklearn"
    # A GPU that this process sees and the cluster does not count is not to be used.
    there = ray.cluster_resources().get("GPU", 0)
    return _picked(setting, _cuml_on_a_gpu() if there else NO_GPU)


@functools.cache
def _picked(setting: str, probe: CumlProbe) -> Backend:
    # Asked for several times a run, its warning comes once.
    return pick_backend(setting, probe)


@functools.cache
def _cuml_on_a_gpu() -> CumlProbe:
    # A trifle of a GPU; where trainings hold all of them, it is waited for.
    found: CumlProbe = ray.get(gpu_query_task()(probe_cuml).remote())
    return found


def inference_precision(config: Config) -> Precision:
    """`evaluation.precision`, settled where a run's trained models label images.

    Raises
    ------
    UserError
        If the device there does not multiply what is asked for.
    """
    gpu = wants_gpu(config.train.gpu)
    return precision_on(config.evaluation.precision, gpu, "evaluation.precision")


def shares_of(gpus: float, share: float) -> int:
    """How many such shares so many GPUs hold; none lies on two."""
    # 1 / 0.1 may be a last digit below 10.
    return int(gpus) * int(1 / share + 1e-6)


def models_at_once(gpu: bool, share: float = 1.0) -> int:
    """Models that label images side by side: one a share of a GPU, or one a node with its cores."""
    if gpu:
        return max(1, shares_of(ray.cluster_resources().get("GPU", 0), share))
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def trainings_that_fit(config: Config) -> int:
    """How many such trainings the cluster holds at once.

    Raises
    ------
    UserError
        If it can't hold one: what is needed, and what there is.
    """
    there = ray.cluster_resources()
    train = config.train
    gpu = wants_gpu(train.gpu)
    kind, each = ("GPU", booked_share(train.gpu_share)) if gpu else ("CPU", CPU_SHARE)
    workers = training_workers(config)
    need, have = workers * each, there.get(kind, 0.0)
    if need > have:
        raise UserError(
            f"train.workers = {workers}: needs {need:g} {kind}s, the cluster has {have:g}; "
            f"allowed are up to {int(have / each)} workers"
        )
    kinds = [name.partition(":")[2] for name in there if name.startswith("accelerator_type:")]
    if train.accelerator and train.accelerator not in kinds:
        raise UserError(
            f"train.accelerator = {train.accelerator}: the cluster has {', '.join(kinds) or 'none'}"
        )
    if gpu:
        return shares_of(have, train.gpu_share) // workers
    # A core more for each: for those that read and decode beside it.
    return max(1, int(have / (need + 1)))
