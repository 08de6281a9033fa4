"""Ray Data: training images -> samples -> label histograms, as rows in parquet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lhs.config import Config, ContextConfig, DataConfig
from lhs.context.extraction import histogram_rows, sample_rows
from lhs.context.histograms import SparseHistograms, to_sparse
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.pseudo_label_maps import PseudoLabelMaps
from lhs.engine.stages.scenes import blocks, mapped, worker_dataset
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError

SAMPLES = pa.schema(
    [
        ("image", pa.string()),
        ("variant", pa.int16()),
        ("y", pa.int32()),
        ("x", pa.int32()),
        ("label", pa.uint16()),
        ("size", pa.int32()),
    ]
)
"""A sample: its image and variant, centre, class, and the pixels of its superpixel."""

HISTOGRAMS = SAMPLES.append(pa.field("bins", pa.list_(pa.uint16()))).append(
    pa.field("counts", pa.list_(pa.int32()))
)
"""A sample with the histogram of the labels around it, sparse: classes that occur, and their
pixels."""


def build_samples(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Samples of every variant of every training image (METHOD section 2).

    The folder holds `rows/*.parquet` (see `SAMPLES`); the facts `samples`, `class_counts` (L,) and
    `mean_superpixel_size`, the mean over the superpixels with a sample.
    """
    config, storage = work.config, work.storage
    context = config.context
    rows = [
        {"image": scene.id, "variant": number}
        for scene in scenes.split("train")
        for number in range(context.variants + 1)
    ]
    with followed("images sampled", len(rows)) as progress, explained(storage.uri):
        mapped(
            sample_batch,
            rows,
            blocks(len(rows)),
            data=config.data,
            pseudo_labels=scenes.pseudo_labels,
            context=context,
            progress=progress,
        ).write_parquet(f"{path}/rows", filesystem=storage.filesystem)
    return _sample_facts(storage, path, len(scenes.dataset.classes))


def sample_batch(
    batch: pa.Table,
    data: DataConfig,
    pseudo_labels: PseudoLabelMaps | None,
    context: ContextConfig,
    progress: Progress,
) -> pa.Table:
    """Rows `SAMPLES` of a batch of rows (image, variant)."""
    dataset = worker_dataset(data, pseudo_labels)
    tables = [SAMPLES.empty_table()]
    for image, number in zip(batch["image"].to_pylist(), batch["variant"].to_pylist(), strict=True):
        rows = sample_rows(
            dataset.scene(image),
            number,
            superpixel_size=context.superpixel_size,
            seed=context.seed,
            void=dataset.void,
        )
        count = len(rows.classes)
        columns = [
            pa.repeat(image, count),
            np.full(count, number, np.int16),
            rows.centres[:, 0].astype(np.int32),
            rows.centres[:, 1].astype(np.int32),
            rows.classes.astype(np.uint16),
            rows.sizes.astype(np.int32),
        ]
        tables.append(pa.table(columns, schema=SAMPLES))
        progress.add(1)
    return pa.concat_tables(tables)


def _sample_facts(storage: Storage, path: str, num_classes: int) -> dict[str, Any]:
    counts, pixels = np.zeros(num_classes, np.int64), 0
    for table in row_tables(storage, path, ["label", "size"]):
        counts += np.bincount(table["label"].to_numpy(), minlength=num_classes)
        pixels += int(table["size"].to_numpy().sum())
    total = int(counts.sum())
    if not total:
        raise UserError("no superpixel centre of the training images carries a label")
    return {
        "samples": total,
        "class_counts": counts.tolist(),
        "mean_superpixel_size": pixels / total,
    }


def build_histograms(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Histograms of the labels in each sample's window of side R (METHOD section 3).

    The labels are those of `scenes`, even if the samples come from other label maps. The folder
    holds `rows/*.parquet` (see `HISTOGRAMS`).
    """
    config, storage, samples = work.config, work.storage, work.inputs["samples"]
    parts = storage.list(f"{samples.path}/rows")
    items = [{"part": f"{samples.path}/rows/{part}"} for part in parts]
    total = len(scenes.split("train")) * (config.context.variants + 1)
    with followed("images counted", total) as progress, explained(storage.uri):
        mapped(
            histogram_batch,
            items,
            len(items),
            storage=storage,
            data=config.data,
            pseudo_labels=scenes.pseudo_labels,
            region=config.hierarchy.region,
            seed=config.context.seed,
            progress=progress,
        ).write_parquet(f"{path}/rows", filesystem=storage.filesystem)
    return {"samples": samples.facts["samples"]}


def region_setting(config: Config) -> dict[str, Any]:
    """R, the only setting of histograms."""
    region = config.hierarchy.region
    return {"region": "inf" if math.isinf(region) else int(region)}


def histogram_batch(
    batch: pa.Table,
    storage: Storage,
    data: DataConfig,
    pseudo_labels: PseudoLabelMaps | None,
    region: float,
    seed: int,
    progress: Progress,
) -> pa.Table:
    """Rows `HISTOGRAMS` of the files of samples in a batch."""
    dataset = worker_dataset(data, pseudo_labels)
    tables = [HISTOGRAMS.empty_table()]
    finished = 0
    for part in batch["part"].to_pylist():
        rows = pq.read_table(part, filesystem=storage.filesystem, schema=SAMPLES)
        for image, number, group in by_variant(rows):
            centres = np.stack([group["y"].to_numpy(), group["x"].to_numpy()], axis=1)
            counts = histogram_rows(
                dataset, dataset.scene(image), number, centres, region=region, seed=seed
            )
            sparse = to_sparse(counts)
            offsets = pa.array(sparse.offsets.astype(np.int32))
            bins = pa.ListArray.from_arrays(offsets, pa.array(sparse.bins, pa.uint16()))
            values = pa.ListArray.from_arrays(offsets, pa.array(sparse.counts, pa.int32()))
            columns = [*group.columns, bins, values]
            tables.append(pa.table(columns, schema=HISTOGRAMS))
            finished += 1
    progress.add(finished)
    return pa.concat_tables(tables)


def by_variant(rows: pa.Table) -> Iterator[tuple[str, int, pa.Table]]:
    """Image, variant and rows of each variant, whose rows are contiguous: one task wrote them."""
    images = rows["image"].combine_chunks().dictionary_encode()
    codes = images.indices.to_numpy()
    numbers = rows["variant"].to_numpy()
    changes = np.flatnonzero((np.diff(codes) != 0) | (np.diff(numbers) != 0)) + 1
    starts = [0, *changes.tolist(), len(rows)] if len(rows) else [0]
    for start, stop in itertools.pairwise(starts):
        image = images.dictionary[int(codes[start])].as_py()
        yield image, int(numbers[start]), rows.slice(start, stop - start)


def sparse_histograms(table: pa.Table) -> SparseHistograms:
    """The histograms of rows `HISTOGRAMS`."""
    bins, counts = table["bins"].combine_chunks(), table["counts"].combine_chunks()
    return SparseHistograms(
        bins.flatten().to_numpy(),
        counts.flatten().to_numpy(),
        np.concatenate([[0], np.cumsum(bins.value_lengths().to_numpy())]).astype(np.int64),
    )


def class_histograms(storage: Storage, path: str, label: int) -> SparseHistograms:
    """The histograms of all samples of a class, in the order of image, variant, y and x."""
    order = ["image", "variant", "y", "x"]
    parts = [
        table.filter(pc.equal(table["label"], label)).drop_columns("label")
        for table in row_tables(storage, path, [*order, "label", "bins", "counts"])
    ]
    # The file of a row depends on the cluster that wrote it; the order after sorting does not.
    return sparse_histograms(
        pa.concat_tables(parts).sort_by([(name, "ascending") for name in order])
    )


def group_counts(
    storage: Storage,
    path: str,
    group_of: Mapping[str, Any],
    groups: Sequence[Any],
    num_classes: int,
) -> np.ndarray:
    """Samples (G, L) of each class in the images of each group.

    Parameters
    ----------
    storage, path
        Folder of the stage `samples`.
    group_of
        The group of every image, by its id.
    groups
        All G groups.
    num_classes
        L.
    """
    pairs = np.zeros((len(groups), num_classes), np.int64)
    places = {group: place for place, group in enumerate(groups)}
    for table in row_tables(storage, path, ["image", "label"]):
        images = table["image"].combine_chunks().dictionary_encode()
        rows = np.array([places[group_of[image]] for image in images.dictionary.to_pylist()], int)
        np.add.at(pairs, (rows[images.indices.to_numpy()], table["label"].to_numpy()), 1)
    return pairs


def row_tables(storage: Storage, path: str, columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of a stage's rows, file by file."""
    for part in storage.list(f"{path}/rows"):
        yield pq.read_table(f"{path}/rows/{part}", filesystem=storage.filesystem, columns=columns)
