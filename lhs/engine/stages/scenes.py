"""The first stage: every file is read once, so that bad files are found before hours of work."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from lhs.config import Config, DataConfig
from lhs.data import open_dataset, undivided
from lhs.data.dataset import Dataset
from lhs.data.folder import ignored_files
from lhs.data.labels import FoundLabels, empty_classes, found_labels
from lhs.data.scenes import SPLITS, Scene
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.storage import explained
from lhs.errors import BadImageError, UserError

logger = logging.getLogger("lhs")

BLOCK = 50
"""Images in one task: a few seconds of work, so that the overhead of a task is small beside it."""
MOST_LISTED = 20
"""Bad images listed in an error; the rest are counted."""


@dataclass(frozen=True)
class CheckedScenes:
    """A dataset whose files have been read.

    Attributes
    ----------
    dataset
        With its classes.
    path
        Folder of the finished stage, with `scenes.parquet`, a row per image.
    class_pixels
        Labelled training pixels per class, (L,).
    skipped
        Id and reason of each image left out.
    pseudo_labels
        Those that `dataset` includes, if any.
    """

    dataset: Dataset
    path: str
    class_pixels: np.ndarray
    skipped: dict[str, str]
    pseudo_labels: PseudoLabelMaps | None = None

    def split(self, name: str) -> list[Scene]:
        """The readable scenes of a split."""
        return [scene for scene in self.dataset.split(name) if scene.id not in self.skipped]


def dataset_digest(config: Config) -> dict[str, str]:
    """The fingerprint of the dataset's files."""
    return {"dataset": open_dataset(config.data).fingerprint()}


def build_scenes(work: Work, path: str) -> dict[str, Any]:
    """Read every file of the dataset.

    The folder holds `scenes.parquet`, a row per image; the facts `class_pixels` (L,), `problems` by
    image id, `wrong`, the images whose labels do not fit the classes, and `void_images`; of a
    folder also `turned`, the images that EXIF turns, and `labels`, see `FoundLabels`.
    """
    config, storage = work.config.data, work.storage
    dataset = open_dataset(config)
    rows = [{"id": scene.id} for split in SPLITS for scene in dataset.split(split)]
    logger.info(f"{dataset.name}: {len(rows)} images, {len(dataset.classes)} classes")
    with followed("scenes read", len(rows)) as progress:
        checked = mapped(check_batch, rows, blocks(len(rows)), config=config, progress=progress)
        refs = checked.materialize().to_arrow_refs()
        table = pa.concat_tables(ray.get(refs)).sort_by("id")
    with explained(storage.uri):
        pq.write_table(table, f"{path}/scenes.parquet", filesystem=storage.filesystem)
    train = table.filter(pa.compute.equal(table["split"], "train"))
    counts = np.array(train["counts"].to_pylist())
    columns = table.select(["id", "problem", "wrong"])
    problems = [row for row in columns.to_pylist() if row["problem"]]
    return {
        "class_pixels": counts.sum(axis=0).tolist(),
        "problems": {row["id"]: row["problem"] for row in problems},
        "wrong": [row["id"] for row in problems if row["wrong"]],
        "void_images": table.filter(pa.compute.equal(table["labelled"], 0))["id"].to_pylist(),
        **(_folder_facts(config, table) if config.dataset == "folder" else {}),
    }


def _folder_facts(config: DataConfig, table: pa.Table) -> dict[str, Any]:
    """What the files of a user's own folder say beside pixels; label maps of training images that
    the run leaves out are read too, as a mistake in a list of classes is in all of them."""
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
    found = found_labels(whole, labels)
    return {
        "turned": [row["id"] for row in rows if row["turned"] and row["id"] in read],
        "labels": found.as_dict(),
    }


def _labels_problem(config: DataConfig, result: StageResult) -> str:
    """What is wrong with the labels of all training images of a folder; an empty text if nothing
    is."""
    found = FoundLabels(**result.facts["labels"])
    if found.fit(allow_empty=config.allow_empty_classes):
        return ""
    return found.palettes or empty_classes(open_dataset(undivided(config)), found)


def repaired_images(config: Config, result: StageResult) -> str:
    """A message if bad images can now be read, else an empty text.

    The key does not show it: the dataset's fingerprint depends on file names and sizes only.
    """
    if config.data.dataset == "folder":
        if "labels" not in result.facts:
            return "an earlier version did not look at EXIF, palettes and all ids: files are read"
        if _labels_problem(config.data, result):
            return "labels did not fit the classes: all files are read again"
    if not result.facts["problems"]:
        return ""
    dataset, repaired = open_dataset(config.data), 0
    for name in result.facts["problems"]:
        with suppress(UserError):
            dataset.scene(name).load()
            repaired += 1
    return f"{repaired} bad images can now be read: all are read again" if repaired else ""


def checked_key(result: StageResult) -> str:
    """What later stages depend on: the checked files, and which images were left out."""
    problems, turned = result.facts["problems"], result.facts.get("turned")
    if not problems and not turned:
        return result.key
    # Results without some images must not be reused once these are repaired, nor those of an
    # earlier version, which did not turn images.
    parts = [result.key, *sorted(problems), *(["turned", *turned] if turned else [])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def checked_scenes(config: DataConfig, result: StageResult) -> CheckedScenes:
    """The dataset of a finished stage, without images that can't be read.

    Raises
    ------
    UserError
        If a split is empty, no training pixel is labelled, a file is bad and `data.on_bad_image`
        is `fail`, a class of a folder has no training pixel, or its palettes differ.
    """
    dataset = open_dataset(config)
    problems = result.facts["problems"]
    wrong = [problems[name] for name in result.facts.get("wrong", [])]
    if wrong and config.on_bad_image == "skip":
        # No image to leave out: the class list or the void id does not fit the label maps.
        some = "\n".join(f"  {text}" for text in wrong[:MOST_LISTED])
        raise UserError(
            f"{dataset.name}: {len(wrong)} label maps do not fit the classes or data.folder's "
            f"settings:\n{some}"
        )
    if problems:
        lines = [f"  {text}" for text in list(problems.values())[:MOST_LISTED]]
        if len(problems) > MOST_LISTED:
            lines.append(f"  and {len(problems) - MOST_LISTED} more")
        message = "\n".join([f"{dataset.name}: {len(problems)} bad images:", *lines])
        if config.on_bad_image == "fail":
            raise UserError(
                f"{message}\nrepair or remove them, or leave them out: --set data.on_bad_image=skip"
            )
        logger.warning(f"{message}\nleft out: data.on_bad_image = skip")
    checked = CheckedScenes(
        dataset=dataset,
        path=result.path,
        class_pixels=np.array(result.facts["class_pixels"], np.int64),
        skipped=problems,
    )
    for split in SPLITS:
        if not checked.split(split):
            raise UserError(f"{dataset.name}: the {split} split holds no readable image")
    if not checked.class_pixels.sum():
        raise UserError(f"{dataset.name}: no pixel of the training images carries a label")
    if config.dataset == "folder" and dataset.folder is not None:
        for line in ignored_files(dataset.folder):
            logger.warning(f"{dataset.name}: {line}")
        problem = _labels_problem(config, result)
        if problem:
            raise UserError(problem)
    return checked


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
    (pixels), counts (L,), problem, wrong (whether its labels do not fit the classes), turned (by
    EXIF), colours (ids and their colours in its palette, in turns)."""
    dataset = worker_dataset(config)
    rows = []
    for name in batch["id"].to_pylist():
        scene = dataset.scene(name)
        row: dict[str, Any] = {"id": name, "split": scene.split, "problem": None, "wrong": False}
        row |= {"turned": False, "colours": []}
        counts = np.zeros(len(dataset.classes), np.int64)
        height = width = 0
        try:
            label_map = scene.label_map() if labels_only else scene.load()[1]
            row["turned"] = scene.turned()
            row["colours"] = [n for pair in scene.label_colours(label_map).items() for n in pair]
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
        ("turned", pa.bool_()),
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
