"""Ray Data: a model over the images of a split, down to one confusion matrix of counts."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image

from lhs.config import Config, DataConfig
from lhs.data import open_dataset
from lhs.data.scenes import Dataset, Scene
from lhs.engine.cluster import cores
from lhs.engine.progress import Progress, followed
from lhs.engine.scenes import CheckedScenes
from lhs.engine.stages import StageResult, Stages
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError
from lhs.evaluation.metrics import Scores, confusion_counts, scores
from lhs.evaluation.model import load_model

COUNTS = "counts.npy"
IMAGES_A_TASK = 256
"""Images that a task labels with the model that it has read."""


@dataclass(frozen=True)
class Evaluation:
    """Counts (L, L), rows truth, and their scores."""

    counts: np.ndarray
    scores: Scores


def evaluation_stage(
    stages: Stages, config: Config, scenes: CheckedScenes, model: StageResult, gpu: bool
) -> StageResult:
    """Score a trained model on the test split.

    The folder holds `counts.npy` (L, L) and `predictions.parquet` (image id, PNG of the predicted
    label map); the facts hold the scores.
    """

    def build(path: str) -> dict[str, Any]:
        test = scenes.split("test")
        folder = f"{model.path}/model"
        every = config.evaluation.every if config.network.patches else 1
        table = predict_scenes(stages.storage, folder, scenes.dataset, test, gpu, every)
        counts = total_counts(table, len(scenes.dataset.classes))
        with explained(stages.storage.uri):
            with stages.storage.filesystem.open_output_stream(f"{path}/{COUNTS}") as stream:
                np.save(stream, counts)
            kept = table.select(["image", "png"])
            with stages.storage.filesystem.open_output_stream(
                f"{path}/predictions.parquet"
            ) as stream:
                pq.write_table(kept, stream)
        return {"images": len(test)} | scores(counts).as_dict()

    return stages.run("evaluation", *evaluation_slice(config, scenes.key, model.key), build)


def evaluation_slice(
    config: Config, scenes: str, model: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What scores depend on: scenes, model, and how densely a patch network looks."""
    settings = {"every": config.evaluation.every} if config.network.patches else {}
    return settings, {"scenes": scenes, "model": model}


def predict_scenes(
    storage: Storage,
    model: str,
    dataset: Dataset,
    scenes: list[Scene],
    gpu: bool,
    every: int = 1,
) -> pa.Table:
    """Predict scenes with one model, a task after another.

    Tasks, not an actor: they run in processes that earlier work left, where there are any.

    Returns
    -------
    pyarrow.Table
        `image`, `png` of the label map, and `counts`, L * L confusion counts; sorted by image.
    """
    rows = [{"place": place} for place in range(len(scenes))]
    with followed("images labelled", len(rows)) as progress:
        predicted = (
            ray.data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // IMAGES_A_TASK)))
            .map_batches(
                predict_batch,
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=1),
                num_cpus=1,
                num_gpus=1 if gpu else None,
                fn_kwargs={
                    "storage": storage,
                    "model": model,
                    "scenes": [ray.put(scenes)],
                    "void": dataset.void,
                    "progress": progress,
                    "gpu": gpu,
                    "every": every,
                },
            )
            .materialize()
        )
        return pa.concat_tables(ray.get(predicted.to_arrow_refs())).sort_by("image")


def evaluate_folder(folder: Path, config: DataConfig, gpu: bool, every: int = 1) -> Evaluation:
    """Score any model folder on the test split of a dataset; `every` as `evaluation.every`.

    Raises
    ------
    UserError
        If the model's classes are not the dataset's, or it can't score every n-th pixel alone.
    """
    dataset = open_dataset(config)
    model = load_model(folder, every=every)
    if model.classes != tuple(dataset.classes):
        raise UserError(
            f"{folder}: the model labels {len(model.classes)} classes of "
            f"{model.description.dataset} ({', '.join(model.classes[:5])}, ...), "
            f"{dataset.name} has {len(dataset.classes)} ({', '.join(dataset.classes[:5])}, ...)"
        )
    storage = Storage(str(folder.absolute()))
    table = predict_scenes(storage, storage.path(), dataset, dataset.split("test"), gpu, every)
    counts = total_counts(table, len(dataset.classes))
    return Evaluation(counts, scores(counts))


def total_counts(table: pa.Table, num_classes: int) -> np.ndarray:
    """Sum the rows' confusion counts to (L, L)."""
    total = np.zeros(num_classes**2, np.int64)
    for counts in table["counts"]:
        total += counts.values.to_numpy()
    return total.reshape(num_classes, num_classes)


def predict_batch(
    batch: pa.Table,
    storage: Storage,
    model: str,
    scenes: list[Any],
    void: int,
    progress: Progress,
    gpu: bool,
    every: int,
) -> pa.Table:
    """Rows of `predict_scenes` for the places, in the list of scenes, that a batch names."""
    import torch

    if not gpu:
        torch.set_num_threads(cores())
    with storage.as_local(model) as folder:
        ready = load_model(folder, "cuda" if gpu else "cpu", every)
    found: list[Scene] = ray.get(scenes[0])
    rows = []
    for place in batch["place"].to_pylist():
        scene = found[place]
        image, truth = scene.load()
        predicted = ready.predict(image).label_map
        counts = confusion_counts(predicted, truth, len(ready.classes), void)
        rows.append({"image": scene.id, "png": png(predicted), "counts": counts.ravel()})
        progress.add(1)
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [("image", pa.string()), ("png", pa.binary()), ("counts", pa.list_(pa.int64()))]
)


def png(label_map: np.ndarray) -> bytes:
    """A label map (H, W) as a PNG of ids, 8 or 16 bits."""
    stream = io.BytesIO()
    Image.fromarray(label_map).save(stream, "PNG", optimize=False)
    return stream.getvalue()


def read_evaluation(storage: Storage, result: StageResult) -> Evaluation:
    """The stored counts and their scores."""
    with storage.filesystem.open_input_file(f"{result.path}/{COUNTS}") as stream:
        counts = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    return Evaluation(counts, scores(counts))


def read_predictions(storage: Storage, result: StageResult) -> dict[str, np.ndarray]:
    """The stored predicted label maps: image id to (H, W)."""
    with storage.filesystem.open_input_file(f"{result.path}/predictions.parquet") as stream:
        table = pq.read_table(stream)
    return {row["image"]: np.array(Image.open(io.BytesIO(row["png"]))) for row in table.to_pylist()}
