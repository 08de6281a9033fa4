"""Ray Data: the baseline fills the unlabelled pixels of training images (paper section 4.4)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from lhs.config import Config
from lhs.data.filling import fill_of
from lhs.data.scenes import Dataset, Scene
from lhs.engine.cluster import cores
from lhs.engine.evaluation import png
from lhs.engine.fills import IMAGES, MAPS, Fills, map_path, read_fill
from lhs.engine.progress import Progress, followed, say
from lhs.engine.resources import predictors_at_once, wants_gpu
from lhs.engine.samples import sample_stage
from lhs.engine.scenes import CheckedScenes
from lhs.engine.stages import StageResult, Stages, stage_key
from lhs.engine.storage import Storage, explained
from lhs.engine.targets import target_stage
from lhs.engine.training import baseline_of, baseline_slice, training_stage
from lhs.evaluation.model import WEIGHTS, load_model

BATCH = 8
"""Images that an actor takes at a time."""


def labelled_scenes(
    stages: Stages, config: Config, scenes: CheckedScenes
) -> tuple[CheckedScenes, CheckedScenes]:
    """What the hierarchy is made of, and what the network trains on.

    With `unlabelled.mode = naive` both are the scenes as they are annotated. Otherwise the baseline
    is trained on those, where it is not yet, and fills what they lack.

    Returns
    -------
    around : CheckedScenes
        Samples and their surroundings come from these.
    learned : CheckedScenes
        The same; with `unlabelled.train_on_filled = no` labels are the annotated ones, while the
        filled ones tell what is around them.
    """
    if config.unlabelled.mode == "naive":
        return scenes, scenes
    result = filled_stage(stages, config, scenes, trained_baseline(stages, config, scenes))
    around = with_fill(scenes, stages.storage, result)
    if config.unlabelled.train_on_filled == "yes":
        return around, around
    return around, with_fill(scenes, stages.storage, result, trains_on_fill=False)


def trained_baseline(stages: Stages, config: Config, scenes: CheckedScenes) -> StageResult:
    """The model that fills: the one that the baseline's own recipe trains, from its own stages."""
    own, base = Stages(stages.storage), baseline_of(config)
    # Nobody looks at its scores here.
    base = base.model_copy(update={"train": base.train.model_copy(update={"validate_every": None})})
    targets = None
    if base.network.patches:
        rows = sample_stage(own, base, scenes)
        targets = target_stage(own, base, scenes, rows, None)
    return training_stage(own, base, scenes, None, targets, None)


def filled_stage(
    stages: Stages, config: Config, scenes: CheckedScenes, model: StageResult
) -> StageResult:
    """Predict the void pixels of the training images of which too few are labelled.

    Test scenes are not handed to it, so their labels are not read. A killed stage goes on with what
    it had filled.

    Parameters
    ----------
    stages, config, scenes
        Of the run; the scenes as they are annotated.
    model
        The trained baseline.

    Returns
    -------
    StageResult
        The folder holds `maps/IMAGE.png`, ids where the model filled and void where people
        labelled, and `images.parquet`, a row an image filled: `image`, `pixels`, `annotated`,
        `counts` (L,) of filled pixels. The facts say by which model: `model`, its key, and
        `digest`, the sha256 of its weights.
    """
    storage, dataset = stages.storage, scenes.dataset
    slice_ = filled_slice(config, scenes.key)

    def build(path: str) -> dict[str, Any]:
        sparse = _sparse(storage, scenes, config.unlabelled.below)
        say(f"{len(sparse)} of {len(scenes.split('train'))} training images are less than "
            f"{config.unlabelled.below:.0%} labelled: the baseline fills them")  # fmt: skip
        weights = storage.read(f"{model.path}/model/{WEIGHTS}")
        digest = hashlib.sha256(weights).hexdigest()
        table = _SCHEMA.empty_table()
        if sparse:
            # Where a killed attempt with these very weights goes on.
            name = f".filling-{stage_key('filled', *slice_)[:16]}-{digest[:16]}"
            maps = storage.path("stages", "filled", name)
            storage.make_folder(maps)
            gpu = wants_gpu(config.train.gpu)
            table = _fill(storage, f"{model.path}/model", dataset, sparse, maps, gpu, config)
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

    return stages.run("filled", *slice_, build)


def filled_slice(config: Config, scenes: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the filled maps depend on: their settings, the scenes' key, the baseline's key."""
    settings: dict[str, Any] = {"below": config.unlabelled.below}
    if config.network.patches:
        settings["every"] = config.unlabelled.every
    model = stage_key("model", *baseline_slice(baseline_of(config), scenes))
    return settings, {"scenes": scenes, "model": model}


def learned_key(filled: str, trains_on_fill: bool) -> str:
    """The key of the scenes that a network trains on, from the filled maps' own."""
    return filled if trains_on_fill else f"{filled}-annotated"


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
        key=learned_key(result.key, trains_on_fill),
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


def _fill(
    storage: Storage,
    model: str,
    dataset: Dataset,
    scenes: list[Scene],
    maps: str,
    gpu: bool,
    config: Config,
) -> pa.Table:
    actors = min(predictors_at_once(gpu), -(-len(scenes) // BATCH))
    rows = [{"place": place} for place in range(len(scenes))]
    with followed("images filled", len(rows)) as progress, explained(storage.uri):
        filled = (
            ray.data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // BATCH)))
            .map_batches(
                _Filler,
                batch_size=BATCH,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=1 if gpu else 0.5,
                num_gpus=1 if gpu else None,
                fn_constructor_kwargs={
                    "storage": storage,
                    "model": model,
                    "scenes": [ray.put(scenes)],
                    "maps": maps,
                    "void": dataset.void,
                    "gpu": gpu,
                    "every": config.unlabelled.every if config.network.patches else 1,
                    "progress": progress,
                },
            )
            .materialize()
        )
        return pa.concat_tables(ray.get(filled.to_arrow_refs())).sort_by("image")


class _Filler:
    """An actor: a model, and the images whose void pixels it predicts."""

    def __init__(
        self,
        storage: Storage,
        model: str,
        scenes: list[Any],
        maps: str,
        void: int,
        gpu: bool,
        every: int,
        progress: Progress,
    ) -> None:
        import torch

        if not gpu:
            torch.set_num_threads(cores())
        with storage.as_local(model) as folder:
            self.model = load_model(folder, "cuda" if gpu else "cpu", every)
        self.scenes: list[Scene] = ray.get(scenes[0])
        self.storage, self.maps, self.void, self.progress = storage, maps, void, progress

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = []
        for place in batch["place"].to_pylist():
            scene = self.scenes[place]
            fill = self._fill(scene)
            counts = np.bincount(fill.ravel(), minlength=self.void + 1)
            rows.append({
                "image": scene.id,
                "pixels": fill.size,
                "annotated": int(counts[self.void]),
                "counts": counts[: len(self.model.classes)],
            })  # fmt: skip
            self.progress.add(1)
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def _fill(self, scene: Scene) -> np.ndarray:
        path = map_path(self.maps, scene.id)
        if self.storage.exists(path):
            return read_fill(self.storage, path)
        image, label_map = scene.load()
        fill = fill_of(label_map, self.model.predict(image).label_map, self.void)
        if "/" in scene.id:
            self.storage.make_folder(path.rpartition("/")[0])
        self.storage.replace(path, png(fill))
        return fill


_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("pixels", pa.int64()),
        ("annotated", pa.int64()),
        ("counts", pa.list_(pa.int64())),
    ]
)
