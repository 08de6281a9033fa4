"""Before a run: what the cluster has, and where the run will use it."""

from __future__ import annotations

import ray

from lhs.config import Config
from lhs.engine.runtime.resources import (
    clustering_backend,
    inference_precision,
    training_workers,
    wants_gpu,
)


def preflight(config: Config) -> str:
    """Two log lines: the cluster; where samples, clustering and training run in it.

    Raises
    ------
    UserError
        If clustering, training or evaluation needs what the cluster does not have.
    """
    there = ray.cluster_resources()
    if config.evaluation.precision != "auto":
        # Fails now, not after the training.
        inference_precision(config)
    nodes = sum(node["Alive"] for node in ray.nodes())
    kinds = sorted(n.partition(":")[2] for n in there if n.startswith("accelerator_type:"))
    gpus = _many(there.get("GPU", 0), "GPU") + f" ({', '.join(kinds)})" * bool(kinds)
    cpus = _many(there.get("CPU", 0), "CPU")
    on = "GPU" if wants_gpu(config.train.gpu) else "CPU"
    parts = []
    if config.train.strategy != "baseline" or config.network.patches:
        parts.append(f"samples on {cpus}")
    if config.train.strategy != "baseline" and config.hierarchy.kind != "scene_names":
        backend = clustering_backend(config.hierarchy.backend)
        parts.append(f"clustering by {backend} on {'GPUs' if backend == 'cuml' else 'CPUs'}")
    workers = training_workers(config)
    if on == "GPU" and config.train.gpu_share < 1:
        place = f"{config.train.gpu_share:g} of a GPU"
    else:
        place = f"a {on}" if workers == 1 else f"{on}s"
    parts.append(f"training by {_many(workers, 'worker')} on {place}")
    return f"cluster: {_many(nodes, 'node')}, {cpus}, {gpus}\n" + ", ".join(parts)


def _many(count: float, what: str) -> str:
    return f"{count:g} {what}" + "s" * (count != 1)
