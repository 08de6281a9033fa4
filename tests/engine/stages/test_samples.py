"""The Ray Data stages give the rows of the plain functions, however the work is cut."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lhs.context.extraction import histogram_rows, sample_rows
from lhs.context.histograms import from_sparse
from lhs.context.samples import superpixel_samples
from lhs.context.superpixels import segment
from lhs.data.augmentation import variant
from lhs.engine.cache import Stages
from lhs.engine.graph import HISTOGRAMS, SAMPLES, annotated_scenes
from lhs.engine.pipeline import Outcome
from lhs.engine.stage import StageResult
from lhs.engine.stages.samples import class_histograms, row_tables
from lhs.engine.storage import Storage
from lhs.loading import build_config
from tests.data.builders import noise_image, plain, save_image, save_labels, stripes
from tests.engine.conftest import stage

pytestmark = pytest.mark.ray

COLUMNS = ["image", "variant", "y", "x", "label", "size"]


def rows_of(storage: Storage, result: StageResult, columns: list[str]) -> pd.DataFrame:
    tables = pa.concat_tables(row_tables(storage, result.path, columns))
    return tables.to_pandas().sort_values(COLUMNS[:4], ignore_index=True)


@pytest.fixture(scope="module")
def stored(outcome: Outcome) -> pd.DataFrame:
    stages = outcome.stages
    return rows_of(stages.storage, stage(stages, "samples"), COLUMNS)


def test_rows_are_those_of_the_plain_function(outcome: Outcome, stored: pd.DataFrame) -> None:
    scenes, context = outcome.scenes, outcome.config.context
    expected = []
    for scene in scenes.split("train"):
        for number in range(context.variants + 1):
            rows = sample_rows(
                scene,
                number,
                superpixel_size=context.superpixel_size,
                seed=context.seed,
                void=scenes.dataset.void,
            )
            for (y, x), label, size in zip(rows.centres, rows.classes, rows.sizes, strict=True):
                expected.append((scene.id, number, int(y), int(x), int(label), int(size)))
    assert sorted(stored.itertuples(index=False, name=None)) == sorted(expected)


def test_facts_recomputed(outcome: Outcome, stored: pd.DataFrame) -> None:
    scenes, void = outcome.scenes, outcome.scenes.dataset.void
    sizes: list[int] = []
    labels: list[int] = []
    for scene in scenes.split("train"):
        for number in (0, 1):
            image, label_map = variant(
                scene.image(), scene.label_map(), seed=0, image_id=scene.id, number=number,
                void=void,
            )  # fmt: skip
            superpixels = segment(image, mean_size=outcome.config.context.superpixel_size)
            centres, classes = superpixel_samples(label_map, superpixels, void)
            labels += classes.tolist()
            sizes += [int((superpixels == superpixels[y, x]).sum()) for y, x in centres]
    facts = stage(outcome.stages, "samples").facts
    assert facts["samples"] == len(labels) == len(stored)
    expected = np.bincount(labels, minlength=len(scenes.dataset.classes))
    assert facts["class_counts"] == expected.tolist()
    assert facts["mean_superpixel_size"] == pytest.approx(np.mean(sizes))
    assert 80 < facts["mean_superpixel_size"] < 120


def test_histograms_are_those_of_the_plain_function(outcome: Outcome) -> None:
    stages, dataset = outcome.stages, outcome.scenes.dataset
    result = stage(stages, "histograms")
    rows = rows_of(stages.storage, result, [*COLUMNS, "bins", "counts"])
    assert len(rows) == result.facts["samples"]
    for (image, number), group in rows.groupby(["image", "variant"]):
        expected = histogram_rows(
            dataset, dataset.scene(image), int(number), group[["y", "x"]].to_numpy(),
            region=outcome.config.hierarchy.region, seed=outcome.config.context.seed,
        )  # fmt: skip
        dense = np.zeros_like(expected)
        for row, (bins, counts) in enumerate(zip(group["bins"], group["counts"], strict=True)):
            assert np.all(counts > 0)
            dense[row, bins] = counts
        np.testing.assert_array_equal(dense, expected)


def test_histograms_by_counting_pixels(outcome: Outcome) -> None:
    stages, dataset = outcome.stages, outcome.scenes.dataset
    columns = [*COLUMNS, "bins", "counts"]
    rows = rows_of(stages.storage, stage(stages, "histograms"), columns)
    reach = int(outcome.config.hierarchy.region) // 2
    for row in rows[rows["variant"] == 0][::97].itertuples():
        label_map = dataset.scene(row.image).label_map()
        window = label_map[
            max(0, row.y - reach) : row.y + reach + 1, max(0, row.x - reach) : row.x + reach + 1
        ]
        classes, counts = np.unique(window[window != dataset.void], return_counts=True)
        assert dict(zip(row.bins, row.counts, strict=True)) == dict(
            zip(classes, counts, strict=True)
        )


def test_rows_do_not_depend_on_the_cut(
    outcome: Outcome, stored: pd.DataFrame, prepared: SimpleNamespace
) -> None:
    other, mine = stage(prepared.stages, "samples"), stage(outcome.stages, "samples")
    storage = prepared.stages.storage
    parts = [len(s.list(f"{r.path}/rows")) for s, r in
             [(storage, other), (outcome.stages.storage, mine)]]  # fmt: skip
    assert parts[0] > parts[1]
    pd.testing.assert_frame_equal(rows_of(storage, other, COLUMNS), stored)
    assert (other.key, other.facts) == (mine.key, mine.facts)


def test_class_histograms_come_in_one_order(outcome: Outcome, prepared: SimpleNamespace) -> None:
    facts = stage(outcome.stages, "samples").facts
    label = int(np.argmax(facts["class_counts"]))
    found = [
        class_histograms(stages.storage, stage(stages, "histograms").path, label)
        for stages in (outcome.stages, prepared.stages)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    bins, counts = from_sparse(found[0])
    assert counts.shape == (facts["class_counts"][label], len(bins))


def test_an_all_void_image_gives_no_rows(cluster: None, tmp_path: Path) -> None:
    images = ["a", "b", "c", "d"]
    root = plain(tmp_path / "void", images, splits={"train": images[:3], "test": images[3:]})
    for number, image in enumerate(images):
        save_image(root / "images" / f"{image}.png", noise_image(number, 48, 64))
        save_labels(root, image, stripes(3, 48, 64))
    save_labels(root, "b", np.full((48, 64), 255))
    config = build_config(
        {
            "data": {"dataset": "folder", "folder": {"path": str(root)}},
            "context": {"superpixel_size": 40, "variants": 2},
            "hierarchy": {"region": "inf"},
        }
    )
    stages = Stages(Storage(str(tmp_path / "storage")))
    scenes = annotated_scenes(stages, config)
    assert scenes.class_pixels.tolist() == [2 * 16 * 64] * 3
    samples = stages.make(SAMPLES, config)
    assert set(rows_of(stages.storage, samples, COLUMNS)["image"]) == {"a", "c"}
    histograms = stages.make(HISTOGRAMS, config)
    rows = rows_of(stages.storage, histograms, [*COLUMNS, "bins", "counts"])
    assert len(rows) == samples.facts["samples"]
    assert set(rows["image"]) == {"a", "c"}
    # R = inf: every sample of the image itself sees the whole label map.
    for counts in rows[rows["variant"] == 0]["counts"]:
        assert counts.tolist() == [16 * 64] * 3
