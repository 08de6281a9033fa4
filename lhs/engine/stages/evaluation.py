"""Ray Data: a model predicts the images of a split; confusion counts and scores."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lhs.config import Config, DataConfig
from lhs.data import open_dataset
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene
from lhs.engine.runtime.devices import precision_on
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
from lhs.engine.stages.checked_scenes import CheckedScenes, listed, unlabelled_test
from lhs.engine.storage import Storage, explained
from lhs.errors import BadImageError, UserError
from lhs.evaluation.metrics import Scores, scores
from lhs.names import ClassScores

# torch is imported where a model is: processes that read and write do without.
if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model

logger = logging.getLogger("lhs")

COUNTS, IMAGE_COUNTS = "counts.npy", "counts.parquet"
BATCH = 16
"""Images sent to a model at a time."""


@dataclass(frozen=True)
class Evaluation:
    """Counts (L, L), rows truth, and their scores."""

    counts: np.ndarray
    scores: Scores


def build_evaluation(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Score a trained model on the test split.

    The folder holds `counts.npy` (L, L), `counts.parquet` (image id, truth, predicted, pixels: the
    counts of each image that are not zero) and `predictions.parquet` (image id, PNG of the
    predicted label map); the facts hold the scores.
    """
    config, storage = work.config, work.storage
    test = scenes.split("test")
    stored = stored_model(
        model_files(storage, f"{work.inputs['model'].path}/model"),
        config.evaluation.stride if config.network.patches else 1,
        inference_precision(config),
        config.evaluation.class_scores,
        storage.address(work.inputs["model"].path),
    )
    gpu = wants_gpu(config.train.gpu)
    table = predict_scenes(stored, scenes.dataset, test, gpu, config.train.gpu_share)
    counts = total_counts(table, len(scenes.dataset.classes))
    with explained(storage.uri):
        with storage.filesystem.open_output_stream(f"{path}/{COUNTS}") as stream:
            np.save(stream, counts)
        with storage.filesystem.open_output_stream(f"{path}/predictions.parquet") as stream:
            pq.write_table(table.select(["image", "png"]), stream)
        with storage.filesystem.open_output_stream(f"{path}/{IMAGE_COUNTS}") as stream:
            pq.write_table(sparse_counts(table, len(scenes.dataset.classes)), stream)
    return {"images": len(test)} | scores(counts).as_dict()


def evaluation_settings(config: Config) -> dict[str, Any]:
    """The stride of a patch network, how H scores classes, and the precision."""
    settings: dict[str, Any] = {}
    if config.network.patches:
        settings["stride"] = config.evaluation.stride
    if config.evaluation.class_scores != "w":
        # Left out for W p, once the only way: its keys stay as they were.
        settings["class_scores"] = config.evaluation.class_scores
    return settings | precision_setting(config)


def precision_setting(config: Config) -> dict[str, Any]:
    """The precision of predictions, on which labels depend."""
    precision = inference_precision(config)
    # Left out for float32, once the only one: its keys stay as they were.
    return {} if precision == "float32" else {"precision": precision}


def predict_scenes(
    model: StoredModel,
    dataset: Dataset,
    scenes: Sequence[Scene],
    gpu: bool,
    share: float = 1.0,
    *,
    skip: bool = False,
) -> pa.Table:
    """Predict scenes with one model; `gpu` and `share` as in `over_images`.

    Returns
    -------
    pyarrow.Table
        `image`, `png` of the label map, and `counts`, L * L confusion counts; sorted by image.
        With `skip` also a row per bad image, without counts: `problem` says why, and is null in
        all other rows.
    """
    job = _ScoreJob(model, dataset.void, skip)
    ordered = sorted(scenes, key=lambda scene: scene.id)
    with followed("images labelled", len(ordered)) as progress:
        rows = over_images(job, ordered, progress, batch=BATCH, gpu=gpu, share=share).materialize()
        return pa.concat_tables(ray.get(rows.to_arrow_refs())).sort_by("image")


@dataclass(frozen=True)
class _ScoreJob(ImageJob):
    """Label scenes, and count the pixels of each true and predicted class on the device."""

    model: StoredModel
    void: int
    skip: bool

    schema = pa.schema(
        [
            ("image", pa.string()),
            ("png", pa.binary()),
            ("counts", pa.list_(pa.int64())),
            ("problem", pa.string()),
        ]
    )

    def read(self, item: Scene) -> Arrays:
        image, truth = item.load_scored()
        return {IMAGE: image, "truth": truth}

    def load(self, device: torch.device) -> Model:
        return self.model.load(device)

    def compute(self, model: Model, images: Sequence[Arrays]) -> list[Arrays]:
        import torch

        from lhs.evaluation.prediction import count_pairs, enlarged

        found: list[Arrays] = []
        for one, labels in zip(
            images, model.label_batch([each[IMAGE] for each in images]), strict=True
        ):
            truth = torch.from_numpy(one["truth"].copy()).to(model.device)
            whole = enlarged(labels, truth.shape)
            counts = count_pairs(whole, truth, len(model.classes), self.void)
            found.append({"labels": whole.cpu().numpy(), "counts": counts.cpu().numpy()})
        return found

    def write(self, item: Scene, arrays: Arrays) -> dict[str, Any]:
        return {
            "image": item.id,
            "png": png(arrays["labels"]),
            "counts": arrays["counts"].ravel(),
        }

    def accepts(self, error: UserError) -> bool:
        # Others say that the classes or the void id do not fit: no image to leave out.
        return self.skip and isinstance(error, BadImageError)

    def write_failed(self, item: Scene, error: str) -> dict[str, Any]:
        return {"image": item.id, "png": b"", "counts": [], "problem": error}


def evaluate_folder(
    folder: Path,
    config: DataConfig,
    gpu: bool,
    stride: int = 1,
    precision: str = "auto",
    class_scores: ClassScores = "w",
) -> Evaluation:
    """Score any model folder on the test split of a dataset, on whole GPUs where there are any.

    Parameters
    ----------
    folder
        A local model folder; it is read here, workers need not see it.
    config
        The dataset; with `on_bad_image` of `skip`, bad images are left out and reported. Where it
        gives no `data.folder.range` or `data.long_side`, the model's holds.
    gpu
        Whether models book GPUs.
    stride, precision, class_scores
        As `evaluation.stride`, `evaluation.precision` and `evaluation.class_scores`.

    Raises
    ------
    UserError
        If the model's classes or `data.long_side` are not the dataset's, or the network can't use
        the stride or the class scores, or the GPU the precision; if an image is bad, or the test
        split holds no readable image or no labelled pixel.
    """
    from lhs.evaluation.model import load_model

    model = load_model(folder, stride=stride, class_scores=class_scores)
    if config.folder.range is None:
        own = config.folder.model_copy(update={"range": model.description.image_range})
        config = config.model_copy(update={"folder": own})
    long_side = model.description.long_side
    if config.long_side not in (None, long_side):
        raise UserError(
            f"data.long_side = {config.long_side}: {folder} was trained with "
            f"{long_side or 'none'}, which holds for its predictions; leave it out"
        )
    dataset = open_dataset(config.model_copy(update={"long_side": long_side}))
    if model.classes != tuple(dataset.classes):
        raise UserError(
            f"{folder}: the model predicts {len(model.classes)} classes of "
            f"{model.description.dataset} ({', '.join(model.classes[:5])}, ...), "
            f"{dataset.name} has {len(dataset.classes)} ({', '.join(dataset.classes[:5])}, ...)"
        )
    settled = precision_on(precision, gpu, "evaluation.precision")
    stored = stored_model(folder_files(folder), stride, settled, class_scores)
    test, skip = dataset.split("test"), config.on_bad_image == "skip"
    if not test:
        raise UserError(f"{dataset.name}: the test split holds no image")
    table = predict_scenes(stored, dataset, test, gpu, skip=skip)
    problems = table["problem"].drop_null().to_pylist()
    if problems:
        logger.warning(f"{listed(dataset, problems)}\nleft out: data.on_bad_image = skip")
    if len(problems) == len(test):
        raise UserError(f"{dataset.name}: the test split holds no readable image")
    counts = total_counts(table, len(dataset.classes))
    if not counts.any():
        raise unlabelled_test(dataset)
    return Evaluation(counts, scores(counts))


def folder_files(folder: Path) -> Mapping[str, bytes]:
    """The files of a local model folder, name to bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def total_counts(table: pa.Table, num_classes: int) -> np.ndarray:
    """Sum the rows' confusion counts to (L, L)."""
    total = np.zeros(num_classes**2, np.int64)
    for counts in table["counts"]:
        if len(counts):
            total += counts.values.to_numpy()
    return total.reshape(num_classes, num_classes)


def sparse_counts(table: pa.Table, num_classes: int) -> pa.Table:
    """The rows' confusion counts that are not zero: `image`, `truth`, `predicted`, `pixels`."""
    flat = table["counts"].combine_chunks().flatten().to_numpy()
    counts = flat.reshape(-1, num_classes, num_classes)
    row, truth, predicted = np.nonzero(counts)
    return pa.table(
        {
            "image": table["image"].take(pa.array(row)),
            "truth": truth.astype(np.int32),
            "predicted": predicted.astype(np.int32),
            "pixels": counts[row, truth, predicted],
        }
    )


def png(label_map: np.ndarray, palette: np.ndarray | None = None, **texts: str) -> bytes:
    """A label map (H, W) as a PNG of ids, 8 or 16 bits, with texts for other programs in it.

    With a palette (L, 3) uint8 viewers show ids of 8 bits in its colours; of 16 bits they can't.
    """
    stream, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    picture = Image.fromarray(label_map)
    if palette is not None and label_map.dtype == np.uint8:
        # All 256: of fewer, Pillow packs several ids into a byte.
        picture.putpalette(palette.tobytes().ljust(768, b"\0"))
    picture.save(stream, "PNG", optimize=False, pnginfo=info)
    return stream.getvalue()


def read_evaluation(storage: Storage, result: StageResult) -> Evaluation:
    """The stored counts and their scores."""
    counts = counts_in(storage, result.path)
    return Evaluation(counts, scores(counts))


def counts_in(storage: Storage, path: str) -> np.ndarray:
    """The counts (L, L) in an evaluation's folder."""
    return storage.read_array(f"{path}/{COUNTS}")


def read_image_counts(
    storage: Storage, path: str, num_classes: int
) -> tuple[list[str], np.ndarray]:
    """The ids of the test images in an evaluation's folder, and their counts (N, L, L).

    Raises
    ------
    UserError
        If an earlier version made it, which kept no counts of images, or a file is damaged.
    """
    if not storage.exists(f"{path}/{IMAGE_COUNTS}"):
        raise UserError(
            f"{storage.address(path)}: made by an earlier version, without counts of each image; "
            "delete this folder and run again: only the scores are made anew"
        )
    images = storage.read_table(f"{path}/predictions.parquet", ["image"])["image"].to_pylist()
    table = storage.read_table(f"{path}/{IMAGE_COUNTS}")
    place = {image: number for number, image in enumerate(images)}
    rows = [place[image] for image in table["image"].to_pylist()]
    counts = np.zeros((len(images), num_classes, num_classes), np.int64)
    truth, predicted, pixels = (table[key].to_numpy() for key in ("truth", "predicted", "pixels"))
    counts[rows, truth, predicted] = pixels
    return images, counts


def read_predictions(storage: Storage, result: StageResult) -> dict[str, np.ndarray]:
    """The stored predicted label maps: image id to (H, W)."""
    return predictions_in(storage, result.path)


def predictions_in(storage: Storage, path: str) -> dict[str, np.ndarray]:
    """The same of an evaluation's folder."""
    table = storage.read_table(f"{path}/predictions.parquet")
    return {row["image"]: np.array(Image.open(io.BytesIO(row["png"]))) for row in table.to_pylist()}
