"""Read every file of a dataset and list all errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lhs.data import open_dataset, settings, undivided
from lhs.data.catalogue import KNOWN, Known
from lhs.data.dataset import Dataset
from lhs.data.folder import PictureScene, ignored_files
from lhs.data.labels import empty_classes, found_labels
from lhs.data.layout import find_files
from lhs.data.reading import map_scenes
from lhs.data.scenes import SPLITS, Scene
from lhs.data.superparsing import SuperParsingScene
from lhs.errors import UnreachableError, UserError

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
    known, allow_empty, held_out = None, False, None
    if isinstance(dataset_or_config, Dataset):
        dataset = dataset_or_config
    else:
        config = settings(dataset_or_config)
        known, allow_empty = KNOWN.get(config.dataset), config.allow_empty_classes
        held_out = config.held_out
        try:
            # The whole dataset as it lies in its files, also where a run takes a part of it.
            dataset = open_dataset(undivided(config))
        except UserError as error:
            findings.errors.append(str(error))
            return findings
    _check_scenes(dataset, known, allow_empty, findings)
    _check_labels_without_image(dataset, findings)
    if any(isinstance(scene, PictureScene) for scene in dataset.scenes()) and dataset.folder:
        findings.notes += ignored_files(dataset.folder, "val" if held_out == "val" else "test")
    if known is not None:
        _check_counts(dataset, known, findings)
    return findings


def _check_scenes(
    dataset: Dataset, known: Known | None, allow_empty: bool, findings: Findings
) -> None:
    pixels = {split: np.zeros(len(dataset.classes), np.int64) for split in SPLITS}
    scenes = dataset.scenes()
    read = partial(_read_scene, classes=dataset.classes, void=dataset.void)
    results = list(map_scenes(read, scenes, task=f"checking {dataset.name}"))
    for scene, (errors, size, counts, _) in zip(scenes, results, strict=True):
        findings.errors += errors
        if not size:
            continue
        pixels[scene.split] += counts
        if not counts.any():
            place = scene.files()[-1] if scene.files() else scene.id
            findings.notes.append(f"{place}: no pixel is labelled ({scene.split} image {scene.id})")
    rows = [
        (scene.id, size, counts, colours)
        for scene, (_, size, counts, colours) in zip(scenes, results, strict=True)
    ]
    found = found_labels(dataset, rows)
    if found.palettes:
        findings.errors.append(found.palettes)
    for split in SPLITS:
        if not dataset.split(split):
            findings.errors.append(f"{dataset.name}: the {split} split is empty")
            continue
        absent = [
            name for name, count in zip(dataset.classes, pixels[split], strict=True) if not count
        ]
        if not absent:
            continue
        # A class without training pixels can't be learned: a mistake in a user's own folder.
        # The published datasets can't be changed; SIFTFlow's test set lacks three classes.
        if split == "train" and known is None and not allow_empty:
            findings.errors.append(empty_classes(dataset, found))
        else:
            findings.notes.append(f"{dataset.name}: no {split} pixel of class {', '.join(absent)}")


def _read_scene(
    scene: Scene, *, classes: tuple[str, ...], void: int
) -> tuple[list[str], int, np.ndarray, dict[int, int]]:
    """The errors of a scene, the pixels of its label map (0 if it is not readable), those of each
    class (L,), and the colours that its palette gives to ids."""
    errors: list[str] = []
    shape = label_map = None
    colours: dict[int, int] = {}
    try:
        shape = scene.image().shape[:2]
    except UnreachableError:
        raise
    except UserError as error:
        errors.append(str(error))
    try:
        label_map = scene.label_map()
        colours = scene.label_colours(label_map)
        if isinstance(scene, SuperParsingScene) and scene.class_names() != classes:
            errors.append(f"{scene.label_file}: its class names differ from the dataset's")
    except UnreachableError:
        raise
    except UserError as error:
        errors.append(str(error))
    if label_map is None:
        return errors, 0, np.zeros(len(classes), np.int64), colours
    if shape is not None:
        problem = scene.size_problem(shape, label_map.shape)
        errors += [problem] if problem else []
    counts = np.bincount(label_map.ravel(), minlength=void + 1)[: len(classes)]
    return errors, label_map.size, counts, colours


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
