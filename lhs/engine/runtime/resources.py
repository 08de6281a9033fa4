"""What a run needs of the cluster, what the cluster has, and which device does what."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import ray

from lhs.config import Config
from lhs.engine.runtime.cluster import cluster_nodes, cluster_resources
from lhs.engine.runtime.devices import booked_share, gpu_query_task, precision_on
from lhs.errors import UserError
from lhs.hierarchy.kmeans import NO_GPU, Backend, CumlProbe, pick_backend, probe_cuml

if TYPE_CHECKING:
    from lhs.networks.precision import Precision

CPU_SHARE = 0.9
"""CPUs that a worker reserves when it trains on a CPU; the rest of the core reads its data."""


def wants_gpu(setting: Literal["auto"] | bool) -> bool:
    """Whether workers get a GPU: as set, or (`auto`) if the cluster has one."""
    if setting == "auto":
        return cluster_resources().get("GPU", 0) >= 1
    return setting


def training_workers(config: Config) -> int:
    """Number of training workers: as set, or (`auto`) one per GPU, and one without a GPU.

    One worker on CPUs uses all cores of its node already; a share of a GPU allows one worker.
    """
    train = config.train
    if train.gpu_share < 1:
        return 1
    if train.workers != "auto":
        return train.workers
    gpus = int(cluster_resources().get("GPU", 0)) if wants_gpu(train.gpu) else 0
    return max(1, min(gpus, train.batch_size))


def clustering_backend(setting: str) -> Backend:
    """`hierarchy.backend`, resolved on a node with a GPU: the head may have none.

    Raises
    ------
    UserError
        If cuML is requested and cannot run, with the reason.
    """
    if setting == "sklearn":
        return "sklearn"
    # A GPU that Ray does not count must not be used, even if this process sees it.
    there = cluster_resources().get("GPU", 0)
    return _picked(setting, _cuml_on_a_gpu() if there else NO_GPU)


@functools.cache
def _picked(setting: str, probe: CumlProbe) -> Backend:
    # Called several times a run, but its warning should appear once.
    return pick_backend(setting, probe)


@functools.cache
def _cuml_on_a_gpu() -> CumlProbe:
    # Needs a tiny share of a GPU, and waits while trainings hold all of them.
    found: CumlProbe = ray.get(gpu_query_task()(probe_cuml).remote())
    return found


def inference_precision(config: Config) -> Precision:
    """`evaluation.precision`, resolved on the device where trained models predict.

    Raises
    ------
    UserError
        If the device does not support it.
    """
    gpu = wants_gpu(config.train.gpu)
    return precision_on(config.evaluation.precision, gpu, "evaluation.precision")


def shares_of(gpus: float, share: float) -> int:
    """How many shares of this size fit on the GPUs; a share lies on one GPU."""
    # 1 / 0.1 may be slightly less than 10.
    return int(gpus) * int(1 / share + 1e-6)


def models_at_once(gpu: bool, share: float = 1.0) -> int:
    """Number of models that predict at the same time: one per share of a GPU, or per CPU node."""
    if gpu:
        return max(1, shares_of(cluster_resources().get("GPU", 0), share))
    return sum(node.get("CPU", 0) > 0 for node in cluster_nodes())


def trainings_that_fit(config: Config) -> int:
    """How many trainings of this configuration the cluster can run at the same time.

    Raises
    ------
    UserError
        If it cannot run one, with what is needed and what there is.
    """
    there = cluster_resources()
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
    kinds = _accelerators(there)
    if train.accelerator and train.accelerator not in kinds:
        raise UserError(
            f"train.accelerator = {train.accelerator}: the cluster has {', '.join(kinds) or 'none'}"
        )
    if gpu:
        return shares_of(have, train.gpu_share) // workers
    # As many cores as it is given, or one a worker and another that reads and decodes images.
    cores = need + 1 if train.threads is None else workers * train.threads
    return max(1, int(have / cores))


def _accelerators(resources: Mapping[str, float]) -> list[str]:
    return [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]


def preflight(config: Config) -> str:
    """Two log lines: the cluster; where samples, clustering and training run in it.

    Raises
    ------
    UserError
        If clustering, training or evaluation needs what the cluster does not have.
    """
    there = cluster_resources()
    if config.evaluation.precision != "auto":
        # Fails now, not after the training.
        inference_precision(config)
    kinds = sorted(_accelerators(there))
    gpus = _many(there.get("GPU", 0), "GPU") + f" ({', '.join(kinds)})" * bool(kinds)
    cpus = _many(there.get("CPU", 0), "CPU")
    on = "GPU" if wants_gpu(config.train.gpu) else "CPU"
    parts = []
    if config.train.strategy != "baseline" or config.network.patches:
        parts.append(f"samples on {cpus}")
    clustered = config.hierarchy.source not in ("scene_names", "classes", "file")
    if config.train.strategy != "baseline" and clustered:
        backend = clustering_backend(config.hierarchy.backend)
        parts.append(f"clustering by {backend} on {'GPUs' if backend == 'cuml' else 'CPUs'}")
    workers = training_workers(config)
    if on == "GPU" and config.train.gpu_share < 1:
        place = f"{config.train.gpu_share:g} of a GPU"
    else:
        place = f"a {on}" if workers == 1 else f"{on}s"
    parts.append(f"training by {_many(workers, 'worker')} on {place}")
    return f"cluster: {_many(len(cluster_nodes()), 'node')}, {cpus}, {gpus}\n" + ", ".join(parts)


def _many(count: float, what: str) -> str:
    return f"{count:g} {what}" + "s" * (count != 1)
