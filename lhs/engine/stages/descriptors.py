"""Ray Data: training images -> one descriptor each, for image clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from lhs.config import Config, DataConfig, NetworkConfig
from lhs.context.gist import gist, squared
from lhs.data.scenes import Scene
from lhs.engine.runtime.model_pool import IMAGE, Arrays, ImageJob, over_images
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.runtime.resources import wants_gpu
from lhs.engine.stage import Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.samples import row_tables
from lhs.engine.stages.scenes import blocks, mapped, worker_dataset
from lhs.engine.storage import Storage, explained

# Torch is imported only where it is used: processes that make GIST or clusters do not need it.

if TYPE_CHECKING:
    import torch

    from lhs.networks.base import SceneNetwork

BATCH = 16
"""Images sent to a network at a time."""

DESCRIPTORS = pa.schema([("image", pa.string()), ("descriptor", pa.list_(pa.float32()))])


def build_descriptors(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Describe every training image, unaugmented, by its GIST or a pretrained network's features.

    The folder holds `rows/*.parquet` (see `DESCRIPTORS`); the facts `images` and `described_by`.
    """
    config, storage = work.config, work.storage
    train = scenes.split("train")
    rows = [{"image": scene.id} for scene in train]
    with followed("images described", len(rows)) as progress, explained(storage.uri):
        if config.hierarchy.kind == "image_clusters":
            tasks = blocks(len(rows))
            described = mapped(gist_batch, rows, tasks, data=config.data, progress=progress)
        else:
            described = _embedded(config, train, progress)
        described.write_parquet(f"{path}/rows", filesystem=storage.filesystem)
    return {"images": len(rows), "described_by": described_by(config)}


def descriptor_settings(config: Config) -> dict[str, Any]:
    """The kind of descriptors, and the network that makes them."""
    if config.hierarchy.kind == "image_clusters":
        return {"by": "gist"}
    network = embedder_of(config.network)
    return {"by": "embedding", "network": network.label, "weights": network.weights}


def descriptor_weights(config: Config) -> dict[str, str]:
    """The digest of the weights of the network that describes images, if one does."""
    if config.hierarchy.kind == "image_clusters":
        return {}
    from lhs.networks.weights import weights_digest

    return weights_digest(embedder_of(config.network))


def embedder_of(config: NetworkConfig) -> NetworkConfig:
    """The network that describes images: the one to be trained, or `lite` if that starts from
    random weights."""
    return NetworkConfig() if config.weights == "none" else config


def described_by(config: Config) -> str:
    """The kind of descriptors, for people."""
    if config.hierarchy.kind == "image_clusters":
        return "gist"
    network = embedder_of(config.network)
    return f"{network.label}, {network.weights} weights"


def gist_batch(batch: pa.Table, data: DataConfig, progress: Progress) -> pa.Table:
    """Rows `DESCRIPTORS` of a batch of images."""
    dataset = worker_dataset(data)
    rows = []
    for name in batch["image"].to_pylist():
        rows.append({"image": name, "descriptor": gist(dataset.scene(name).image())})
        progress.add(1)
    return pa.Table.from_pylist(rows, schema=DESCRIPTORS)


def _embedded(config: Config, scenes: list[Scene], progress: Progress) -> ray.data.Dataset:
    ordered = sorted(scenes, key=lambda scene: scene.id)
    return over_images(
        _EmbedJob(embedder_of(config.network)), ordered, progress, batch=BATCH,
        gpu=wants_gpu(config.train.gpu), share=config.train.gpu_share,
    )  # fmt: skip


@dataclass(frozen=True)
class _EmbedJob(ImageJob):
    """Describe images by the features of a pretrained network."""

    network: NetworkConfig

    schema = DESCRIPTORS

    def read(self, item: Scene) -> Arrays:
        return {IMAGE: squared(item.image())}

    def load(self, device: torch.device) -> SceneNetwork:
        from lhs.networks.embedding import pretrained

        return pretrained(self.network).to(device)

    def compute(self, model: SceneNetwork, images: Sequence[Arrays]) -> list[Arrays]:
        from lhs.networks.embedding import square_embeddings

        found = square_embeddings(model, [one[IMAGE] for one in images])
        return [{"descriptor": row} for row in found]

    def write(self, item: Scene, arrays: Arrays) -> dict[str, Any]:
        return {"image": item.id, "descriptor": arrays["descriptor"]}


def read_descriptors(storage: Storage, path: str) -> tuple[list[str], np.ndarray]:
    """Ids of the described images, sorted, and their descriptors (N, D) float32."""
    # The file of a row depends on the cluster that wrote it; the order after sorting does not.
    table = pa.concat_tables(row_tables(storage, path, DESCRIPTORS.names)).sort_by("image")
    values = table["descriptor"].combine_chunks().flatten().to_numpy()
    return table["image"].to_pylist(), values.reshape(len(table), -1)
