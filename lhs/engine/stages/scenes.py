"""The first stage: every file is read once, so that bad files are found before hours of work."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from lhs.config import Config, DataConfig
from lhs.data import open_dataset
from lhs.data.contents import contents_digest, file_digest
from lhs.data.dataset import Dataset
from lhs.data.scenes import SPLITS, Scene
from lhs.engine.cache import SUCCESS
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.file_index import current_digests, remember
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.storage import Storage, explained
from lhs.errors import BadImageError, UserError

logger = logging.getLogger("lhs")

BLOCK = 50
"""Images in one task: a few seconds of work, so that the overhead of a task is small beside it."""
MOST_LISTED = 20
"""Bad images listed in an error; the rest are counted."""
CONTENTS = "contents.json"
"""Beside a result of an earlier version, which recorded no digests: what it counts as made of."""


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


_looked_at: dict[str, Dataset] = {}


def dataset_digest(config: Config) -> dict[str, str]:
    """The fingerprint of the dataset's files, by name and size."""
    dataset = open_dataset(config.data)
    # What follows in this run needs the same list and times: asking again is slow over a network.
    _looked_at.clear()
    _looked_at[config.data.model_dump_json()] = dataset
    return {"dataset": dataset.fingerprint()}


def _dataset_of_key(config: DataConfig) -> Dataset:
    """The dataset as it was when the key was computed."""
    return _looked_at.get(config.model_dump_json()) or open_dataset(config)


def build_scenes(work: Work, path: str) -> dict[str, Any]:
    """Read every file of the dataset.

    The folder holds `scenes.parquet`, a row per image; the facts `class_pixels` (L,), `problems` by
    image id, `wrong`, the images whose labels do not fit the classes, `void_images`, and
    `contents`, the digest of all files' contents.
    """
    config, storage = work.config.data, work.storage
    dataset, started = _dataset_of_key(config), time.time_ns()
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
    }


def changed_scenes(storage: Storage, config: Config, result: StageResult) -> str:
    """Why all files must be read again; empty if they need not.

    The key does not show it: the dataset's fingerprint depends on file names and sizes only.
    """
    return _changed_files(storage, config.data, result) or _repaired_images(config.data, result)


def _changed_files(storage: Storage, config: DataConfig, result: StageResult) -> str:
    dataset = _dataset_of_key(config)
    states = dataset.file_states().values()
    if not states:
        return ""
    made_of, note = result.facts.get("contents"), f"{result.path}/{CONTENTS}"
    if made_of is None and storage.exists(note):
        made_of = storage.read_json(note)["contents"]
    if made_of is None:
        made = storage.filesystem.get_file_info(f"{result.path}/{SUCCESS}").mtime_ns
        newer = sum(state.modified > made for state in states)
        if newer:
            return (
                f"{newer} files were written after an earlier version read them, which did not "
                "record their content: all are read again"
            )
    digests = current_digests(storage, dataset)
    contents = contents_digest(digests.items())
    if made_of is None:
        storage.write_json(note, {"contents": contents})
    elif contents != made_of:
        table = pq.read_table(f"{result.path}/scenes.parquet", filesystem=storage.filesystem)
        if "digests" not in table.column_names:
            return "files have changed: all are read again"
        before = dict(zip(table["id"].to_pylist(), table["digests"].to_pylist(), strict=True))
        changed = [id for id, found in digests.items() if found != before[id]]
        return (
            f"the files of {len(changed)} images, such as {changed[0]}, have changed: all are read "
            "again"
        )
    return ""


def _repaired_images(config: DataConfig, result: StageResult) -> str:
    """A message if bad images can now be read, else an empty text."""
    if not result.facts["problems"]:
        return ""
    dataset, repaired = _dataset_of_key(config), 0
    for name in result.facts["problems"]:
        with suppress(UserError):
            dataset.scene(name).load()
            repaired += 1
    return f"{repaired} bad images can now be read: all are read again" if repaired else ""


def checked_key(result: StageResult) -> str:
    """What later stages depend on: the files' contents, and which images were left out."""
    # Datasets without files, and results of earlier versions, have no digest of contents.
    contents = result.facts.get("contents")
    # Results without some images must not be reused once these are repaired.
    more = [*([contents] if contents else []), *sorted(result.facts["problems"])]
    if not more:
        return result.key
    return hashlib.sha256("\n".join([result.key, *more]).encode()).hexdigest()


def checked_scenes(config: DataConfig, result: StageResult) -> CheckedScenes:
    """The dataset of a finished stage, without images that can't be read.

    Raises
    ------
    UserError
        If a split is empty or has no labelled pixel, or a file is bad and `data.on_bad_image` is
        `fail`.
    """
    dataset = open_dataset(config)
    problems = result.facts["problems"]
    wrong = [problems[name] for name in result.facts.get("wrong", [])]
    if wrong and config.on_bad_image == "skip":
        # No image to leave out: the class list or the void id does not fit the label maps.
        some = "\n".join(f"  {text}" for text in wrong[:MOST_LISTED])
        raise UserError(f"{dataset.name}: {len(wrong)} label maps do not fit the classes:\n{some}")
    if problems:
        message = listed(dataset, list(problems.values()))
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
    void = set(result.facts.get("void_images", []))
    if all(scene.id in void for scene in checked.split("test")):
        raise unlabelled_test(dataset)
    return checked


def listed(dataset: Dataset, problems: list[str]) -> str:
    """A message about bad images, of which it lists `MOST_LISTED`."""
    lines = [f"  {text}" for text in problems[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        lines.append(f"  and {len(problems) - MOST_LISTED} more")
    return "\n".join([f"{dataset.name}: {len(problems)} bad images:", *lines])


def unlabelled_test(dataset: Dataset) -> UserError:
    """The error of a test split without a labelled pixel, which no score can be made of."""
    return UserError(
        f"{dataset.name}: no pixel of the {len(dataset.split('test'))} test images carries a "
        "label, so there is nothing to score; give them labels, or test on training images: "
        "--set data.held_out=N"
    )


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


def check_batch(batch: pa.Table, config: DataConfig, progress: Progress) -> pa.Table:
    """Read the files of a batch of scenes. A row per scene: id, split, height, width, labelled
    (pixels), counts (L,), problem, wrong (whether its labels do not fit the classes), digests
    (of its files, empty for one that can't be read)."""
    dataset = worker_dataset(config)
    rows = []
    for name in batch["id"].to_pylist():
        scene = dataset.scene(name)
        row: dict[str, Any] = {"id": name, "split": scene.split, "problem": None, "wrong": False}
        # First: a file that changes meanwhile then counts as changed.
        row["digests"] = [file_digest(path) for path in scene.files()]
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
        ("digests", pa.list_(pa.string())),
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
