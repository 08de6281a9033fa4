"""Ray Data: training images -> one vector each, of which image clusters are made."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lhs.config import Config, DataConfig, NetworkConfig
from lhs.context.gist import gist
from lhs.engine.cluster import cores
from lhs.engine.progress import Progress, followed
from lhs.engine.resources import predictors_at_once, wants_gpu
from lhs.engine.samples import row_tables
from lhs.engine.scenes import CheckedScenes, blocks, worker_dataset
from lhs.engine.stages import StageResult, Stages
from lhs.engine.storage import Storage, explained

# What needs torch is imported where it is used: processes that make GIST or clusters do without.

BATCH = 8
"""Images that an actor takes at a time."""

DESCRIPTORS = pa.schema([("image", pa.string()), ("descriptor", pa.list_(pa.float32()))])


def descriptor_stage(stages: Stages, config: Config, scenes: CheckedScenes) -> StageResult:
    """Describe every training image, as it is: its GIST, or what a pretrained network sees.

    The folder holds `rows/*.parquet` (see `DESCRIPTORS`); the facts `images` and `described_by`.
    """
    train = scenes.split("train")
    rows = [{"image": scene.id} for scene in train]

    def build(path: str) -> dict[str, Any]:
        with followed("images described", len(rows)) as progress, explained(stages.storage.uri):
            if config.hierarchy.kind == "image_clusters":
                described = ray.data.from_items(
                    rows, override_num_blocks=blocks(len(rows))
                ).map_batches(
                    gist_batch,
                    batch_size=None,
                    batch_format="pyarrow",
                    fn_kwargs={"data": config.data, "progress": progress},
                )
            else:
                described = _embedded(config, rows, progress)
            described.write_parquet(f"{path}/rows", filesystem=stages.storage.filesystem)
        return {"images": len(rows), "described_by": described_by(config)}

    return stages.run("descriptors", *descriptor_slice(config, scenes.key), build)


def descriptor_slice(config: Config, scenes: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What descriptors depend on: how they are made, and the key of the checked scenes."""
    if config.hierarchy.kind == "image_clusters":
        return {"by": "gist"}, {"scenes": scenes}
    from lhs.networks.weights import weights_digest

    network = embedder_of(config.network)
    digest = weights_digest(network)
    inputs = {"scenes": scenes} | ({} if digest is None else {"weights": digest})
    return {"by": "embedding", "network": network.name, "weights": network.weights}, inputs


def embedder_of(config: NetworkConfig) -> NetworkConfig:
    """The network that describes images: the one that is trained, or `lite` where that starts from
    random weights, which see nothing."""
    return NetworkConfig() if config.weights == "none" else config


def described_by(config: Config) -> str:
    """What the descriptors are, in a few words."""
    if config.hierarchy.kind == "image_clusters":
        return "gist"
    network = embedder_of(config.network)
    return f"{network.name}, {network.weights} weights"


def gist_batch(batch: pa.Table, data: DataConfig, progress: Progress) -> pa.Table:
    """Rows `DESCRIPTORS` of the images that a batch names."""
    dataset = worker_dataset(data)
    rows = []
    for name in batch["image"].to_pylist():
        rows.append({"image": name, "descriptor": gist(dataset.scene(name).image())})
        progress.add(1)
    return pa.Table.from_pylist(rows, schema=DESCRIPTORS)


def _embedded(config: Config, rows: list[dict[str, str]], progress: Progress) -> ray.data.Dataset:
    gpu = wants_gpu(config.train.gpu)
    actors = predictors_at_once(gpu)
    return ray.data.from_items(
        rows, override_num_blocks=max(1, -(-len(rows) // BATCH))
    ).map_batches(
        _Embedder,
        batch_size=BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows))),
        num_cpus=1,
        num_gpus=1 if gpu else None,
        fn_constructor_kwargs={
            "data": config.data,
            "network": embedder_of(config.network),
            "gpu": gpu,
            "progress": progress,
        },
    )


class _Embedder:
    """An actor: a pretrained network, and the images it looks at."""

    def __init__(
        self, data: DataConfig, network: NetworkConfig, gpu: bool, progress: Progress
    ) -> None:
        import torch

        from lhs.networks.embedding import image_embedding, pretrained

        if not gpu:
            torch.set_num_threads(cores())
        ready = pretrained(network).to("cuda" if gpu else "cpu")
        self.describe = partial(image_embedding, ready)
        self.data, self.progress = data, progress

    def __call__(self, batch: pa.Table) -> pa.Table:
        dataset = worker_dataset(self.data)
        rows = [
            {"image": name, "descriptor": self.describe(dataset.scene(name).image())}
            for name in batch["image"].to_pylist()
        ]
        self.progress.add(len(rows))
        return pa.Table.from_pylist(rows, schema=DESCRIPTORS)


def read_descriptors(storage: Storage, path: str) -> tuple[list[str], np.ndarray]:
    """Ids of the described images, sorted, and their descriptors (N, D) float32."""
    # Which file a row lies in hangs on the machines that wrote it; its order here does not.
    table = pa.concat_tables(row_tables(storage, path, DESCRIPTORS.names)).sort_by("image")
    values = table["descriptor"].combine_chunks().flatten().to_numpy()
    return table["image"].to_pylist(), values.reshape(len(table), -1)
