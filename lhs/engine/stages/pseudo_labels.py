"""Ray Data: the baseline fills the unlabelled pixels of training images (paper section 4.4)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from lhs.config import Config
from lhs.data.filling import fill_of
from lhs.data.scenes import Scene
from lhs.engine.runtime.model_pool import (
    IMAGE,
    Arrays,
    ImageJob,
    StoredModel,
    model_files,
    over_images,
    stored_model,
)
from lhs.engine.runtime.progress import followed
from lhs.engine.runtime.resources import inference_precision, wants_gpu
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.evaluation import png, precision_setting
from lhs.engine.stages.pseudo_label_maps import IMAGES, MAPS, Fills, map_path, read_fill
from lhs.engine.stages.scenes import CheckedScenes
from lhs.engine.storage import Storage, explained
from lhs.evaluation.model import WEIGHTS

if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model

logger = logging.getLogger("lhs")

ANNOTATED = "-annotated"
"""Added to the key of filled maps, where only what people annotated is trained on."""
BATCH = 16
"""Images that travel to a model together."""


def build_filled(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Predict the void pixels of the training images of which too few are labelled.

    Test scenes are not handed to it, so their labels are not read. A killed stage goes on with what
    it had filled. The folder holds `maps/IMAGE.png`, ids where the model filled and void where
    people labelled, and `images.parquet`, a row an image filled: `image`, `pixels`, `annotated`,
    `counts` (L,) of filled pixels. The facts say by which model: `model`, its key, and `digest`,
    the sha256 of its weights.
    """
    config, storage, dataset = work.config, work.storage, scenes.dataset
    model = work.inputs["model"]
    sparse = _sparse(storage, scenes, config.unlabelled.below)
    logger.info(f"{len(sparse)} of {len(scenes.split('train'))} training images are less than "
                f"{config.unlabelled.below:.0%} labelled: the baseline fills them")  # fmt: skip
    files = model_files(storage, f"{model.path}/model")
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    table = _SCHEMA.empty_table()
    if sparse:
        # Where a killed attempt with these very weights goes on.
        name = f".filling-{work.key[:16]}-{digest[:16]}"
        maps = storage.path("stages", "filled", name)
        storage.make_folder(maps)
        every = config.unlabelled.every if config.network.patches else 1
        stored = stored_model(files, every, inference_precision(config))
        job = _FillJob(stored, storage, maps, dataset.void, len(dataset.classes))
        table = _fill(job, sparse, config)
        storage.move(maps, f"{path}/{MAPS}")
    with (
        explained(storage.uri),
        storage.filesystem.open_output_stream(f"{path}/{IMAGES}") as stream,
    ):
        pq.write_table(table, stream)
    counts = np.zeros(len(dataset.classes), np.int64)
    for row in table["counts"]:
        counts += row.values.to_numpy()
    return {
        "model": model.key,
        "digest": digest,
        "images": len(sparse),
        "training_images": len(scenes.split("train")),
        "annotated_pixels": int(scenes.class_pixels.sum()),
        "filled_pixels": int(counts.sum()),
        "filled_class_pixels": counts.tolist(),
    }


def filled_settings(config: Config) -> dict[str, Any]:
    """Which images are filled, how densely a patch network looks, and the arithmetic."""
    settings: dict[str, Any] = {"below": config.unlabelled.below}
    if config.network.patches:
        settings["every"] = config.unlabelled.every
    return settings | precision_setting(config)


def with_fill(
    scenes: CheckedScenes, storage: Storage, result: StageResult, *, trains_on_fill: bool = True
) -> CheckedScenes:
    """Checked scenes with the maps of a finished stage `filled`."""
    fills = Fills(storage, result.path, trains_on_fill)
    pixels = scenes.class_pixels
    if trains_on_fill:
        pixels = pixels + np.array(result.facts["filled_class_pixels"], np.int64)
    return replace(
        scenes,
        dataset=fills.over(scenes.dataset),
        key=result.key + ("" if trains_on_fill else ANNOTATED),
        class_pixels=pixels,
        fills=fills,
    )


def _sparse(storage: Storage, scenes: CheckedScenes, below: float) -> list[Scene]:
    """The readable training scenes of which less than this share is labelled."""
    table = pq.read_table(
        f"{scenes.path}/scenes.parquet",
        columns=["id", "split", "height", "width", "labelled"],
        filesystem=storage.filesystem,
    ).filter(pc.field("split") == "train")
    pixels = pc.multiply(pc.cast(table["height"], pa.int64()), table["width"])
    chosen = set(table.filter(pc.less(table["labelled"], pc.multiply(pixels, below)))["id"]
                 .to_pylist())  # fmt: skip
    return [scene for scene in scenes.split("train") if scene.id in chosen]


def _fill(job: _FillJob, scenes: list[Scene], config: Config) -> pa.Table:
    """Rows `_SCHEMA` of the scenes, sorted by image."""
    ordered = sorted(scenes, key=lambda scene: scene.id)
    gpu, share = wants_gpu(config.train.gpu), config.train.gpu_share
    with followed("images filled", len(ordered)) as progress, explained(job.storage.uri):
        filled = over_images(job, ordered, progress, batch=BATCH, gpu=gpu, share=share)
        return pa.concat_tables(ray.get(filled.materialize().to_arrow_refs())).sort_by("image")


_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("pixels", pa.int64()),
        ("annotated", pa.int64()),
        ("counts", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class _FillJob(ImageJob):
    """Predict the void pixels of scenes; one file an image, which a killed run finds again."""

    model: StoredModel
    storage: Storage
    maps: str
    void: int
    num_classes: int

    schema = _SCHEMA

    def done(self, item: Scene) -> bool:
        return self.storage.exists(map_path(self.maps, item.id))

    def read(self, item: Scene) -> Arrays:
        image, label_map = item.load()
        return {IMAGE: image, "label_map": label_map}

    def load(self, device: torch.device) -> Model:
        return self.model.load(device)

    def compute(self, model: Model, images: Sequence[Arrays]) -> list[Arrays]:
        labels = model.label_batch([one[IMAGE] for one in images])
        return [
            {"label_map": one["label_map"], "labels": each.cpu().numpy()}
            for one, each in zip(images, labels, strict=True)
        ]

    def write(self, item: Scene, arrays: Arrays) -> dict[str, Any]:
        path = map_path(self.maps, item.id)
        fill = fill_of(arrays["label_map"], arrays["labels"], self.void)
        if "/" in item.id:
            self.storage.make_folder(path.rpartition("/")[0])
        self.storage.replace(path, png(fill))
        return self._row(item, fill)

    def write_done(self, item: Scene) -> dict[str, Any]:
        return self._row(item, read_fill(self.storage, map_path(self.maps, item.id)))

    def _row(self, item: Scene, fill: np.ndarray) -> dict[str, Any]:
        counts = np.bincount(fill.ravel(), minlength=self.void + 1)
        return {
            "image": item.id,
            "pixels": fill.size,
            "annotated": int(counts[self.void]),
            "counts": counts[: self.num_classes],
        }
