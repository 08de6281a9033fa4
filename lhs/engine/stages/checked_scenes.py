"""What the first stage found: the dataset that later stages take, what is wrong with it, and
whether its files have changed since."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from lhs.config import Config, DataConfig
from lhs.data import open_dataset, undivided
from lhs.data.contents import contents_digest
from lhs.data.dataset import Dataset
from lhs.data.folder import ignored_files
from lhs.data.labels import FoundLabels, empty_classes
from lhs.data.scenes import SPLITS, Scene
from lhs.engine.cache import SUCCESS
from lhs.engine.file_index import current_digests
from lhs.engine.stage import StageResult
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.stages.scenes import dataset_of_key
from lhs.engine.storage import Storage
from lhs.errors import UserError

logger = logging.getLogger("lhs")

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


def changed_scenes(storage: Storage, config: Config, result: StageResult) -> str:
    """Say why all files must be read again; empty if they need not.

    The key does not show it: the dataset's fingerprint depends on file names and sizes only.
    """
    return _repaired_images(config.data, result) or _changed_files(storage, config.data, result)


def _changed_files(storage: Storage, config: DataConfig, result: StageResult) -> str:
    dataset = dataset_of_key(config)
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
    """A message if bad images or labels may now be right, else an empty text."""
    if config.dataset == "folder":
        if "labels" not in result.facts:
            return "an earlier version did not look at EXIF, palettes and all ids: files are read"
        if _labels_problem(config, result):
            return "labels did not fit the classes: all files are read again"
    if not result.facts["problems"]:
        return ""
    dataset, repaired = dataset_of_key(config), 0
    for name in result.facts["problems"]:
        with suppress(UserError):
            dataset.scene(name).load()
            repaired += 1
    return f"{repaired} bad images can now be read: all are read again" if repaired else ""


def _labels_problem(config: DataConfig, result: StageResult) -> str:
    """What is wrong with the labels of all training images of a folder; an empty text if nothing
    is."""
    found = FoundLabels(**result.facts["labels"])
    if found.fit(allow_empty=config.allow_empty_classes):
        return ""
    return found.palettes or empty_classes(open_dataset(undivided(config)), found)


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
        If a split is empty or has no labelled pixel, a file is bad and `data.on_bad_image` is
        `fail`, a class of a folder has no training pixel, or its palettes differ.
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
    if config.dataset == "folder" and dataset.folder is not None:
        for line in ignored_files(dataset.folder, "val" if config.held_out == "val" else "test"):
            logger.warning(f"{dataset.name}: {line}")
        problem = _labels_problem(config, result)
        if problem:
            raise UserError(problem)
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
