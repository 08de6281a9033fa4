"""Ray Data: an index of all samples with their subclasses, in random order, for patch networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from lhs.config import Config, DataConfig
from lhs.context.histograms import from_sparse, label_histograms
from lhs.data.augmentation import variant_label_map
from lhs.data.scenes import Scene
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.stages.samples import by_variant, sparse_histograms
from lhs.engine.stages.scenes import mapped, worker_dataset
from lhs.engine.storage import Storage, explained
from lhs.hierarchy import Hierarchy
from lhs.training.patches import SampleIndex, joined

COLUMNS = ("image", "variant", "y", "x", "label", "subclass")
FILE_ROWS = 2**17


def build_sample_index(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Every sample with its subclass, in a random order from `train.seed` (paper section 4.1).

    Without a hierarchy among the inputs the subclasses are the classes. The folder holds
    `rows/*.parquet` with `COLUMNS`, to be read in the order of their names; the facts hold
    `samples`, their number.
    """
    storage, rows, hierarchy = work.storage, work.inputs["rows"], work.inputs.get("hierarchy")
    places = {scene.id: place for place, scene in enumerate(scenes.split("train"))}
    parts = [f"{rows.path}/rows/{part}" for part in storage.list(f"{rows.path}/rows")]
    made = None if hierarchy is None else read_hierarchy(storage, hierarchy.path)
    names = [None if made is None else made.scene_of(scene) for scene in scenes.split("train")]
    shared = ray.put((places, names, made))
    title = "files of samples put in order"
    with followed(title, len(parts)) as progress, explained(storage.uri):
        mapped(
            index_batch,
            [{"part": part} for part in parts],
            len(parts),
            storage=storage,
            shared=[shared],
            classes=len(scenes.dataset.classes),
            seed=work.config.train.seed,
            data=work.config.data,
            pseudo_labels=scenes.pseudo_labels,
            variants_seed=work.config.context.seed,
            progress=progress,
        ).sort("order").drop_columns(["order"]).write_parquet(
            f"{path}/rows", filesystem=storage.filesystem, min_rows_per_file=FILE_ROWS
        )
    return {"samples": sum(row_counts(storage, f"{path}/rows"))}


def order_seed(config: Config) -> dict[str, Any]:
    """The seed of the random order."""
    return {"seed": config.train.seed}


def index_batch(
    batch: pa.Table,
    storage: Storage,
    shared: Sequence[Any],
    classes: int,
    seed: int,
    data: DataConfig,
    pseudo_labels: PseudoLabelMaps | None,
    variants_seed: int,
    progress: Progress,
) -> pa.Table:
    """Rows `COLUMNS` of files of samples, and `order`, by which they are sorted."""
    places, names, hierarchy = ray.get(shared[0])
    tables = []
    for part in batch["part"].to_pylist():
        table = pq.read_table(part, filesystem=storage.filesystem)
        images = table["image"].combine_chunks().dictionary_encode()
        ids = images.dictionary.to_pylist()
        image = np.array([places[name] for name in ids], np.int32)[images.indices.to_numpy()]
        columns = {name: table[name].to_numpy() for name in ("variant", "y", "x", "label")}
        subclass = columns["label"].astype(np.uint16)
        if hierarchy is not None:
            scene_names = [names[place] for place in image]
            subclass = row_subclasses(
                hierarchy, table, scene_names, classes,
                lambda name: worker_dataset(data, pseudo_labels).scene(name), variants_seed,
            ).astype(np.uint16)  # fmt: skip
        key = np.array([_key(seed, name) for name in ids], np.uint64)[images.indices.to_numpy()]
        for name in ("variant", "y", "x"):
            key = _mixed(key ^ columns[name].astype(np.uint64))
        tables.append(pa.table({"image": image, **columns, "subclass": subclass, "order": key}))
        progress.add(1)
    return pa.concat_tables(tables)


def row_subclasses(
    hierarchy: Hierarchy,
    table: pa.Table,
    scene_names: Sequence[str | None],
    classes: int,
    scene: Callable[[str], Scene],
    seed: int,
) -> np.ndarray:
    """Subclasses (N,) of rows of samples, with histograms or without.

    Parameters
    ----------
    hierarchy, table, scene_names, classes
        As of `subclasses_of`.
    scene, seed
        As of `drawn_subclasses`.
    """
    if hierarchy.of_whole_images:
        return drawn_subclasses(hierarchy, table, scene, seed)
    if hierarchy.kind == "label_clusters" and "bins" not in table.column_names:
        return counted_subclasses(hierarchy, table, scene, seed)
    return subclasses_of(hierarchy, table, scene_names, classes)


def subclasses_of(
    hierarchy: Hierarchy, table: pa.Table, scene_names: Sequence[str | None], classes: int
) -> np.ndarray:
    """Subclasses (N,) of rows of samples or histograms; `scene_names` (N,) are from `scene_of`."""
    label = table["label"].to_numpy()
    if hierarchy.by_scene:
        return hierarchy.subclass_of(label, scene_names=[str(name) for name in scene_names])
    if hierarchy.kind != "label_clusters":
        return hierarchy.subclass_of(label)
    present, dense = from_sparse(sparse_histograms(table))
    histograms = np.zeros((len(label), classes), np.int32)
    histograms[:, present] = dense
    return hierarchy.subclass_of(label, histograms)


def drawn_subclasses(
    hierarchy: Hierarchy, table: pa.Table, scene: Callable[[str], Scene], seed: int
) -> np.ndarray:
    """Subclasses (N,) of rows of samples by a hierarchy `of_whole_images`: those of their pixels.

    Parameters
    ----------
    hierarchy, table
        The hierarchy, and rows with `image`, `variant`, `y` and `x`.
    scene
        Gives the scene of an image's id.
    seed
        Of the augmentation.
    """
    found = [np.empty(0, np.int64)]
    for image, number, rows in by_variant(table):
        shown = scene(image)
        whole = hierarchy.relabel(
            shown.label_map(), context_label_map=shown.context_label_map(), image_id=image
        )
        void = hierarchy.void_subclass
        pixels = variant_label_map(whole, seed=seed, image_id=image, number=number, void=void)
        found.append(pixels[rows["y"].to_numpy(), rows["x"].to_numpy()].astype(np.int64))
    return np.concatenate(found)


def counted_subclasses(
    hierarchy: Hierarchy, table: pa.Table, scene: Callable[[str], Scene], seed: int
) -> np.ndarray:
    """Subclasses (N,) of rows of samples by label clusters that the user gives: no stage has
    counted histograms in windows of their size. Parameters as of `drawn_subclasses`."""
    found = [np.empty(0, np.int64)]
    for image, number, rows in by_variant(table):
        shown = scene(image)
        context_map = shown.context_label_map()
        label_map = variant_label_map(
            shown.label_map() if context_map is None else context_map,
            seed=seed, image_id=image, number=number, void=hierarchy.void,
        )  # fmt: skip
        centres = np.stack([rows["y"].to_numpy(), rows["x"].to_numpy()], axis=1)
        histograms = label_histograms(
            label_map, centres, hierarchy.region, len(hierarchy.classes), hierarchy.void
        )
        found.append(hierarchy.subclass_of(rows["label"].to_numpy(), histograms))
    return np.concatenate(found)


def _key(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little")


def _mixed(value: np.ndarray) -> np.ndarray:
    """Hash by the finaliser of splitmix64 (Steele et al. 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def row_counts(storage: Storage, folder: str) -> list[int]:
    """Rows of each file of a folder, in the order of their names."""
    return [
        pq.ParquetFile(f"{folder}/{part}", filesystem=storage.filesystem).metadata.num_rows
        for part in storage.list(folder)
    ]


class SampleIndexReader:
    """Rows of a sample index by their numbers; reads one file at a time.

    Parameters
    ----------
    storage, folder
        The folder of the files.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        self.parts = storage.list(folder)
        self.starts = np.concatenate([[0], np.cumsum(row_counts(storage, folder))]).astype(int)

    @property
    def total(self) -> int:
        """Number of all rows."""
        return int(self.starts[-1])

    @cached_property
    def class_counts(self) -> np.ndarray:
        """(L,) rows of each class."""
        counts = np.zeros(0, np.int64)
        for part in self.parts:
            labels = pq.read_table(
                f"{self.folder}/{part}", columns=["label"], filesystem=self.storage.filesystem
            )["label"].to_numpy()
            here = np.bincount(labels, minlength=len(counts))
            here[: len(counts)] += counts
            counts = here
        return counts

    def __call__(self, start: int, stop: int) -> SampleIndex:
        """Rows [start, stop)."""
        found = []
        for place, part in enumerate(self.parts):
            low, high = int(self.starts[place]), int(self.starts[place + 1])
            if low >= stop or high <= start:
                continue
            table = pq.read_table(f"{self.folder}/{part}", filesystem=self.storage.filesystem)
            here = slice(max(start - low, 0), stop - low)
            columns = [table[name].to_numpy()[here] for name in COLUMNS]
            numbers = np.arange(low + here.start, low + here.start + len(columns[0]))
            found.append(SampleIndex(numbers, *columns))
        return joined(found)
