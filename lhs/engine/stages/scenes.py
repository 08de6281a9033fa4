"""The first stage: every file is read once, so that bad ones are known before hours of work."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from lhs.config import Config, DataConfig
from lhs.data import open_dataset
from lhs.data.scenes import SPLITS, Dataset, Scene
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.pseudo_label_maps import Fills
from lhs.engine.storage import explained
from lhs.errors import BadImageError, UserError

logger = logging.getLogger("lhs")

BLOCK = 50
"""Images in one task: a few seconds of work, beside which the pause between two tasks is little."""
TOLD = 20
"""Bad images named in an error; the rest are counted."""


@dataclass(frozen=True)
class CheckedScenes:
    """A dataset whose files are known to be readable.

    Attributes
    ----------
    dataset
        With its classes.
    key
        Of what was checked and left out; later stages depend on it.
    path
        Folder of the finished stage, with `scenes.parquet`, a row an image.
    class_pixels
        Labelled training pixels per class, (L,).
    skipped
        Id and reason of each image left out.
    fills
        Of the dataset's training scenes, where a model has filled them.
    """

    dataset: Dataset
    key: str
    path: str
    class_pixels: np.ndarray
    skipped: dict[str, str]
    fills: Fills | None = None

    def split(self, name: str) -> list[Scene]:
        """The readable scenes of a split."""
        return [scene for scene in self.dataset.split(name) if scene.id not in self.skipped]


def dataset_digest(config: Config) -> dict[str, str]:
    """The fingerprint of the dataset's files."""
    return {"dataset": open_dataset(config.data).fingerprint()}


def build_scenes(work: Work, path: str) -> dict[str, Any]:
    """Read every file of the dataset.

    The folder holds `scenes.parquet`, a row an image; the facts `class_pixels` (L,), `problems` by
    image id, `wrong`, the images whose labels do not fit the classes, and `void_images`.
    """
    config, storage = work.config.data, work.storage
    dataset = open_dataset(config)
    rows = [{"id": scene.id} for split in SPLITS for scene in dataset.split(split)]
    logger.info(f"{dataset.name}: {len(rows)} images, {len(dataset.classes)} classes")
    with followed("scenes read", len(rows)) as progress:
        checked = (
            ray.data.from_items(rows, override_num_blocks=blocks(len(rows)))
            .map_batches(
                check_batch,
                batch_size=None,
                batch_format="pyarrow",
                fn_kwargs={"config": config, "progress": progress},
            )
            .materialize()
        )
        table = pa.concat_tables(ray.get(checked.to_arrow_refs())).sort_by("id")
    with (
        explained(storage.uri),
        storage.filesystem.open_output_stream(f"{path}/scenes.parquet") as stream,
    ):
        pq.write_table(table, stream)
    train = table.filter(pa.compute.equal(table["split"], "train"))
    counts = np.array(train["counts"].to_pylist())
    columns = table.select(["id", "problem", "wrong"])
    problems = [row for row in columns.to_pylist() if row["problem"]]
    return {
        "class_pixels": counts.sum(axis=0).tolist(),
        "problems": {row["id"]: row["problem"] for row in problems},
        "wrong": [row["id"] for row in problems if row["wrong"]],
        "void_images": table.filter(pa.compute.equal(table["labelled"], 0))["id"].to_pylist(),
    }


def mended(config: Config, result: StageResult) -> str:
    """How many of the images that were bad can be read by now, or an empty text: of none.

    The fingerprint, of names and sizes, is that of the damaged files.
    """
    problems = result.facts["problems"]
    found = _mended(open_dataset(config.data), problems) if problems else []
    return f"{len(found)} images that were bad are whole now: all are read again" if found else ""


def checked_key(result: StageResult) -> str:
    """What later stages depend on: what was checked, and what of it was left out."""
    problems = result.facts["problems"]
    if not problems:
        return result.key
    # What is made without some images is not what is made with them, once they are mended.
    return hashlib.sha256("\n".join([result.key, *sorted(problems)]).encode()).hexdigest()


def _mended(dataset: Dataset, problems: Mapping[str, str]) -> list[str]:
    """Those of the bad images that can be read by now, sorted."""
    found = []
    for name in sorted(problems):
        with suppress(UserError):
            dataset.scene(name).load()
            found.append(name)
    return found


def checked_scenes(config: DataConfig, result: StageResult) -> CheckedScenes:
    """The dataset of a finished stage, without what can't be read.

    Raises
    ------
    UserError
        If a split is empty, no training pixel is labelled, or a file is bad and
        `data.on_bad_image` is `fail`.
    """
    dataset = open_dataset(config)
    problems = result.facts["problems"]
    wrong = [problems[name] for name in result.facts.get("wrong", [])]
    if wrong and config.on_bad_image == "skip":
        # Not an image to leave out: the class list or the void id is another than the labels'.
        some = "\n".join(f"  {text}" for text in wrong[:TOLD])
        raise UserError(f"{dataset.name}: {len(wrong)} label maps do not fit the classes:\n{some}")
    if problems:
        lines = [f"  {text}" for text in list(problems.values())[:TOLD]]
        if len(problems) > TOLD:
            lines.append(f"  and {len(problems) - TOLD} more")
        told = "\n".join([f"{dataset.name}: {len(problems)} bad images:", *lines])
        if config.on_bad_image == "fail":
            raise UserError(
                f"{told}\nmend or remove them, or leave them out with --set data.on_bad_image=skip"
            )
        logger.warning(f"{told}\nleft out: data.on_bad_image = skip")
    checked = CheckedScenes(
        dataset=dataset,
        key=checked_key(result),
        path=result.path,
        class_pixels=np.array(result.facts["class_pixels"], np.int64),
        skipped=problems,
    )
    for split in SPLITS:
        if not checked.split(split):
            raise UserError(f"{dataset.name}: the {split} split holds no readable image")
    if not checked.class_pixels.sum():
        raise UserError(f"{dataset.name}: no pixel of the training images carries a label")
    return checked


def blocks(rows: int) -> int:
    """How many tasks a stage over so many images is cut into."""
    return max(1, -(-rows // BLOCK))


def check_batch(batch: pa.Table, config: DataConfig, progress: Progress) -> pa.Table:
    """Read the files of a batch of scenes; a row each: id, split, height, width, labelled,
    counts (L,), problem, wrong (whether the problem is not the image's own)."""
    dataset = worker_dataset(config)
    rows = []
    for name in batch["id"].to_pylist():
        scene = dataset.scene(name)
        row: dict[str, Any] = {"id": name, "split": scene.split, "problem": None, "wrong": False}
        counts = np.zeros(len(dataset.classes), np.int64)
        height = width = 0
        try:
            _, label_map = scene.load()
            height, width = label_map.shape
            present = np.bincount(label_map.ravel(), minlength=dataset.void + 1)
            counts = present[: len(dataset.classes)]
        except UserError as error:
            row["problem"] = str(error)
            row["wrong"] = not isinstance(error, BadImageError)
        row |= {"height": height, "width": width, "counts": counts.tolist()}
        row["labelled"] = int(counts.sum())
        rows.append(row)
    progress.add(len(rows))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("labelled", pa.int64()),
        ("counts", pa.list_(pa.int64())),
        ("problem", pa.string()),
        ("wrong", pa.bool_()),
    ]
)

_opened: dict[tuple[str, tuple[str, bool] | None], Dataset] = {}


def worker_dataset(config: DataConfig, fills: Fills | None = None) -> Dataset:
    """The dataset, with fills where given, opened once per worker process."""
    key = config.model_dump_json(), None if fills is None else (fills.path, fills.trains_on_fill)
    if key not in _opened:
        _opened.clear()
        dataset = open_dataset(config)
        _opened[key] = dataset if fills is None else fills.over(dataset)
    return _opened[key]
