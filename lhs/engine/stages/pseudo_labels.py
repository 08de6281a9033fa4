"""Ray Data: the baseline makes pseudo-labels for training images (paper section 4.4)."""

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
from lhs.data.pseudo_labels import pseudo_label_map
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
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import png, precision_setting
from lhs.engine.stages.pseudo_label_maps import IMAGES, MAPS, PseudoLabelMaps, map_path, read_map
from lhs.engine.storage import Storage, explained
from lhs.evaluation.model import WEIGHTS

if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model

logger = logging.getLogger("lhs")

BATCH = 16
"""Images sent to a model at a time."""


def build_pseudo_labels(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Predict the void pixels of sparsely labelled training images.

    Test scenes are not used, so their labels are not read. After a kill it continues with the
    images that are left. The folder holds `maps/IMAGE.png`, predicted ids, void where people
    annotated, and `images.parquet`, a row per image with pseudo-labels: `image`, `pixels`,
    `annotated`, `counts` (L,) of pseudo-labels. The facts name the model: `model`, its key, and
    `digest`, the sha256 of its weights.
    """
    config, storage, dataset = work.config, work.storage, scenes.dataset
    model = work.inputs["model"]
    sparse = _sparse(storage, scenes, config.unlabelled.below)
    logger.info(
        f"{len(sparse)} of {len(scenes.split('train'))} training images are less than "
        f"{config.unlabelled.below:.0%} labelled: the baseline labels the rest"
    )
    files = model_files(storage, f"{model.path}/model")
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    table = _SCHEMA.empty_table()
    if sparse:
        # An attempt with the same weights that was killed continues here.
        name = f".unfinished-{work.key[:16]}-{digest[:16]}"
        maps = storage.path("stages", "pseudo_labels", name)
        storage.make_folder(maps)
        stride = config.unlabelled.stride if config.network.patches else 1
        precision = inference_precision(config)
        stored = stored_model(files, stride, precision, stage=storage.address(model.path))
        job = _PseudoLabelJob(stored, storage, maps, dataset.void, len(dataset.classes))
        table = _label(job, sparse, config)
        storage.move(maps, f"{path}/{MAPS}")
    with explained(storage.uri):
        pq.write_table(table, f"{path}/{IMAGES}", filesystem=storage.filesystem)
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


def pseudo_label_settings(config: Config) -> dict[str, Any]:
    """Which images get pseudo-labels, the stride of a patch network, and the precision."""
    settings: dict[str, Any] = {"below": config.unlabelled.below}
    if config.network.patches:
        settings["stride"] = config.unlabelled.stride
    return settings | precision_setting(config)


def with_pseudo_labels(
    scenes: CheckedScenes,
    storage: Storage,
    result: StageResult,
    *,
    train_on_pseudo_labels: bool = True,
) -> CheckedScenes:
    """Checked scenes with the maps of a finished stage `pseudo_labels`."""
    maps = PseudoLabelMaps(storage, result.path, train_on_pseudo_labels)
    pixels = scenes.class_pixels
    if train_on_pseudo_labels:
        pixels = pixels + np.array(result.facts["filled_class_pixels"], np.int64)
    return replace(
        scenes,
        dataset=maps.add_to(scenes.dataset),
        class_pixels=pixels,
        pseudo_labels=maps,
    )


def _sparse(storage: Storage, scenes: CheckedScenes, below: float) -> list[Scene]:
    """The readable training scenes with less than this share of their pixels labelled."""
    table = pq.read_table(
        f"{scenes.path}/scenes.parquet",
        columns=["id", "split", "height", "width", "labelled"],
        filesystem=storage.filesystem,
    ).filter(pc.field("split") == "train")
    pixels = pc.multiply(pc.cast(table["height"], pa.int64()), table["width"])
    chosen = set(table.filter(pc.less(table["labelled"], pc.multiply(pixels, below)))["id"]
                 .to_pylist())  # fmt: skip
    return [scene for scene in scenes.split("train") if scene.id in chosen]


def _label(job: _PseudoLabelJob, scenes: list[Scene], config: Config) -> pa.Table:
    """Rows `_SCHEMA` of the scenes, sorted by image."""
    ordered = sorted(scenes, key=lambda scene: scene.id)
    gpu, share = wants_gpu(config.train.gpu), config.train.gpu_share
    title = "images with pseudo-labels"
    with followed(title, len(ordered)) as progress, explained(job.storage.uri):
        rows = over_images(job, ordered, progress, batch=BATCH, gpu=gpu, share=share).materialize()
        return pa.concat_tables(ray.get(rows.to_arrow_refs())).sort_by("image")


_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("pixels", pa.int64()),
        ("annotated", pa.int64()),
        ("counts", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class _PseudoLabelJob(ImageJob):
    """Predict the void pixels of scenes; one file per image, which a killed run finds again."""

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
        pseudo_labels = pseudo_label_map(arrays["label_map"], arrays["labels"], self.void)
        if "/" in item.id:
            self.storage.make_folder(path.rpartition("/")[0])
        self.storage.replace(path, png(pseudo_labels))
        return self._row(item, pseudo_labels)

    def write_done(self, item: Scene) -> dict[str, Any]:
        return self._row(item, read_map(self.storage, map_path(self.maps, item.id)))

    def _row(self, item: Scene, pseudo_labels: np.ndarray) -> dict[str, Any]:
        counts = np.bincount(pseudo_labels.ravel(), minlength=self.void + 1)
        return {
            "image": item.id,
            "pixels": pseudo_labels.size,
            "annotated": int(counts[self.void]),
            "counts": counts[: self.num_classes],
        }
