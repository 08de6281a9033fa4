"""The first stage: every file is read once, so that bad files are found before hours of work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from lhs.config import Config, DataConfig
from lhs.data import open_dataset, undivided
from lhs.data.contents import contents_digest, file_digest
from lhs.data.dataset import Dataset
from lhs.data.labels import found_labels
from lhs.data.scenes import SPLITS
from lhs.engine.file_index import remember
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import Work
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.storage import explained
from lhs.errors import BadImageError, UnreachableError, UserError

logger = logging.getLogger("lhs")

BLOCK = 50
"""Images in one task: a few seconds of work, so that the overhead of a task is small beside it."""

_looked_at: dict[str, Dataset] = {}


def dataset_digest(config: Config) -> dict[str, str]:
    """The fingerprint of the dataset's files, by name and size."""
    dataset = open_dataset(config.data)
    # What follows in this run needs the same list and times: asking again is slow over a network.
    _looked_at.clear()
    _looked_at[config.data.model_dump_json()] = dataset
    return {"dataset": dataset.fingerprint()}


def dataset_of_key(config: DataConfig) -> Dataset:
    """The dataset as it was when the key was computed."""
    return _looked_at.get(config.model_dump_json()) or open_dataset(config)


def build_scenes(work: Work, path: str) -> dict[str, Any]:
    """Read every file of the dataset.

    The folder holds `scenes.parquet`, a row per image; the facts `class_pixels` (L,), `problems` by
    image id, `wrong`, the images whose labels do not fit the classes, `void_images`, and
    `contents`, the digest of all files' contents; of a folder also `labels`, see `FoundLabels`.
    """
    config, storage = work.config.data, work.storage
    dataset, started = dataset_of_key(config), time.time_ns()
    rows = [{"id": scene.id} for split in SPLITS for scene in dataset.split(split)]
    logger.info(f"{dataset.name}: {len(rows)} images, {len(dataset.classes)} classes")
    with followed("scenes read", len(rows)) as progress:
        checked = mapped(check_batch, rows, blocks(len(rows)), config=config, progress=progress)
        refs = checked.materialize().to_arrow_refs()
        table = pa.concat_tables(ray.get(refs)).sort_by("id")
    with explained(storage.uri):
        pq.write_table(table, f"{path}/scenes.parquet", filesystem=storage.filesystem)
    digests = dict(zip(table["id"].to_pylist(), table["digests"].to_pylist(), strict=True))
    by_path = {
        str(path): digest
        for scene in dataset.scenes()
        for path, digest in zip(scene.files(), digests[scene.id], strict=True)
    }
    remember(storage, dataset, by_path, started)
    train = table.filter(pa.compute.equal(table["split"], "train"))
    counts = np.array(train["counts"].to_pylist())
    columns = table.select(["id", "problem", "wrong"])
    problems = [row for row in columns.to_pylist() if row["problem"]]
    return {
        "class_pixels": counts.sum(axis=0).tolist(),
        "problems": {row["id"]: row["problem"] for row in problems},
        "wrong": [row["id"] for row in problems if row["wrong"]],
        "void_images": table.filter(pa.compute.equal(table["labelled"], 0))["id"].to_pylist(),
        "contents": contents_digest(digests.items()),
        **({"labels": _folder_labels(config, table)} if config.dataset == "folder" else {}),
    }


def _folder_labels(config: DataConfig, table: pa.Table) -> dict[str, Any]:
    """What the label maps of a user's own folder hold, also those of training images that the run
    leaves out: a mistake in a list of classes is in all of them."""
    whole, read = open_dataset(undivided(config)), set(table["id"].to_pylist())
    left = [{"id": scene.id} for scene in whole.split("train") if scene.id not in read]
    tables = [table]
    if left:
        with followed("label maps of other training images read", len(left)) as progress:
            others = mapped(
                check_batch, left, blocks(len(left)), config=undivided(config), progress=progress,
                labels_only=True,
            )  # fmt: skip
            tables += ray.get(others.materialize().to_arrow_refs())
    rows = pa.concat_tables(tables).to_pylist()
    labels = []
    for row in rows:
        colours = dict(zip(row["colours"][::2], row["colours"][1::2], strict=True))
        # 0 pixels where the image or its label map could not be read.
        labels.append((row["id"], row["height"] * row["width"], np.array(row["counts"]), colours))
    return found_labels(whole, labels).as_dict()


def blocks(rows: int) -> int:
    """Number of tasks of a stage over this many images."""
    return max(1, -(-rows // BLOCK))


def mapped(
    function: Callable[..., pa.Table], rows: list[dict[str, Any]], tasks: int, **settings: Any
) -> ray.data.Dataset:
    """Call `function` on tables of rows with these settings, in this many tasks."""
    return ray.data.from_items(rows, override_num_blocks=tasks).map_batches(
        function, batch_size=None, batch_format="pyarrow", fn_kwargs=settings
    )


def check_batch(
    batch: pa.Table, config: DataConfig, progress: Progress, labels_only: bool = False
) -> pa.Table:
    """Read the files of a batch of scenes. A row per scene: id, split, height, width, labelled
    (pixels), counts (L,), problem, wrong (whether its labels do not fit the classes), digests
    (of its files, empty for one that can't be read), colours (ids and their colours in its palette,
    in turns)."""
    dataset = worker_dataset(config)
    rows = []
    for name in batch["id"].to_pylist():
        scene = dataset.scene(name)
        row: dict[str, Any] = {"id": name, "split": scene.split, "problem": None, "wrong": False}
        # First: a file that changes meanwhile then counts as changed.
        row["digests"] = [file_digest(path) for path in scene.files()]
        row["colours"] = []
        counts = np.zeros(len(dataset.classes), np.int64)
        height = width = 0
        try:
            label_map = scene.label_map() if labels_only else scene.load()[1]
            row["colours"] = [n for pair in scene.label_colours(label_map).items() for n in pair]
            height, width = label_map.shape
            present = np.bincount(label_map.ravel(), minlength=dataset.void + 1)
            counts = present[: len(dataset.classes)]
        except UnreachableError:
            raise
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
        ("digests", pa.list_(pa.string())),
        ("colours", pa.list_(pa.int64())),
    ]
)

_opened: dict[tuple[str, tuple[str, bool] | None], Dataset] = {}


def worker_dataset(config: DataConfig, pseudo_labels: PseudoLabelMaps | None = None) -> Dataset:
    """The dataset, with pseudo-labels if given, opened once per worker process."""
    maps = pseudo_labels
    which = None if maps is None else (maps.path, maps.train_on_pseudo_labels)
    key = config.model_dump_json(), which
    if key not in _opened:
        _opened.clear()
        dataset = open_dataset(config)
        _opened[key] = dataset if maps is None else maps.add_to(dataset)
    return _opened[key]
