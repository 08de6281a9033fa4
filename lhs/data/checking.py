"""Read every file of a dataset and list all errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lhs.data import open_dataset, settings
from lhs.data.catalogue import KNOWN, Known
from lhs.data.dataset import Dataset
from lhs.data.layout import find_files
from lhs.data.reading import map_scenes
from lhs.data.scenes import SPLITS, Scene
from lhs.data.superparsing import SuperParsingScene
from lhs.errors import UserError

if TYPE_CHECKING:
    from lhs.config import DataConfig


@dataclass
class Findings:
    """What a check found.

    Attributes
    ----------
    errors
        What makes results wrong or stops a run; each names its file.
    notes
        What is odd but harmless, such as an image without any label.
    """

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect_dataset(dataset_or_config: Dataset | DataConfig | str) -> Findings:
    """Read every file of a dataset and list errors and notes; never raises for bad data.

    Parameters
    ----------
    dataset_or_config
        An open dataset, data settings, or a name.

    Returns
    -------
    Findings
        Errors and notes.
    """
    findings = Findings()
    known = None
    if isinstance(dataset_or_config, Dataset):
        dataset = dataset_or_config
    else:
        config = settings(dataset_or_config)
        known = KNOWN.get(config.dataset)
        try:
            # The whole dataset, also where a run takes a part of it.
            whole = config.model_copy(
                update={"max_train": None, "max_test": None, "held_out": None}
            )
            dataset = open_dataset(whole)
        except UserError as error:
            findings.errors.append(str(error))
            return findings
    _check_scenes(dataset, known, findings)
    _check_labels_without_image(dataset, findings)
    if known is not None:
        _check_counts(dataset, known, findings)
    return findings


def _check_scenes(dataset: Dataset, known: Known | None, findings: Findings) -> None:
    pixels = {split: np.zeros(len(dataset.classes), np.int64) for split in SPLITS}
    scenes = dataset.scenes()
    read = partial(_read_scene, classes=dataset.classes, void=dataset.void)
    results = map_scenes(read, scenes, task=f"checking {dataset.name}")
    for scene, (errors, counts) in zip(scenes, results, strict=True):
        findings.errors += errors
        if counts is None:
            continue
        pixels[scene.split] += counts
        if not counts.any():
            place = scene.files()[-1] if scene.files() else scene.id
            findings.notes.append(f"{place}: no pixel is labelled ({scene.split} image {scene.id})")
    for split in SPLITS:
        if not dataset.split(split):
            findings.errors.append(f"{dataset.name}: the {split} split is empty")
            continue
        absent = [
            name for name, count in zip(dataset.classes, pixels[split], strict=True) if not count
        ]
        if absent:
            # A class without training pixels can't be learned: a mistake in a user's own folder.
            # The published datasets can't be changed; SIFTFlow's test set lacks three classes.
            own = split == "train" and known is None
            where = findings.errors if own else findings.notes
            where.append(f"{dataset.name}: no {split} pixel of class {', '.join(absent)}")


def _read_scene(
    scene: Scene, *, classes: tuple[str, ...], void: int
) -> tuple[list[str], np.ndarray | None]:
    """The errors of a scene, and its pixels of each class (L,) if its label map is readable."""
    errors: list[str] = []
    shape = label_map = None
    try:
        shape = scene.image().shape[:2]
    except UserError as error:
        errors.append(str(error))
    try:
        label_map = scene.label_map()
        if isinstance(scene, SuperParsingScene) and scene.class_names() != classes:
            errors.append(f"{scene.label_file}: its class names differ from the dataset's")
    except UserError as error:
        errors.append(str(error))
    if label_map is None:
        return errors, None
    if shape is not None:
        problem = scene.size_problem(shape, label_map.shape)
        errors += [problem] if problem else []
    return errors, np.bincount(label_map.ravel(), minlength=void + 1)[: len(classes)]


def _check_labels_without_image(dataset: Dataset, findings: Findings) -> None:
    """Find label files of no image: a sign of missing images."""
    labels = {scene.files()[-1] for scene in dataset.scenes() if scene.files()}
    if dataset.folder is None or not labels:
        return
    one = min(labels)
    top = dataset.folder / one.relative_to(dataset.folder).parts[0]
    # Stanford's folder holds other text files too: only `.regions.txt`, two suffixes, is a label.
    ending = "".join(one.suffixes[-2:]) if one.suffix == ".txt" else one.suffix
    unused = [
        top / path
        for path in find_files(top, {one.suffix})
        if path.name.endswith(ending) and top / path not in labels
    ]
    if unused:
        findings.notes.append(
            f"{unused[0]}: label file without an image in a split"
            + (f"; so are {len(unused) - 1} more" if len(unused) > 1 else "")
        )


def _check_counts(dataset: Dataset, known: Known, findings: Findings) -> None:
    for what, found, count in (
        ("train images", len(dataset.split("train")), known.train),
        ("test images", len(dataset.split("test")), known.test),
        ("classes", len(dataset.classes), known.num_classes),
    ):
        if found != count:
            findings.errors.append(
                f"{dataset.folder}: {found} {what}, but {known.title} has {count}"
            )
