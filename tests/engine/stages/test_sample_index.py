"""The sample index, against the rows of samples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from lhs.engine.cache import Stages
from lhs.engine.graph import HIERARCHY, SAMPLE_INDEX
from lhs.engine.stage import Work
from lhs.engine.stages import sample_index as module
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.sample_index import SampleIndexReader, build_sample_index
from lhs.engine.storage import Storage
from lhs.hierarchy import Hierarchy
from lhs.training.decoded import TrainingScenes
from tests.engine.conftest import stage, tiny

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def made(prepared: SimpleNamespace) -> SimpleNamespace:
    histograms = stage(prepared.stages, "histograms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FILE_ROWS", 300)
        result = prepared.stages.make(SAMPLE_INDEX, prepared.config)
    storage = prepared.stages.storage
    reader = SampleIndexReader(storage, f"{result.path}/rows")
    rows = pq.read_table(f"{histograms.path}/rows").to_pandas()
    hierarchy = read_hierarchy(storage, prepared.hierarchy.path)
    return SimpleNamespace(
        result=result, reader=reader, rows=rows, hierarchy=hierarchy, scenes=prepared.scenes
    )


def keyed(made: SimpleNamespace) -> dict[tuple[str, int, int, int], tuple[int, int]]:
    found = made.reader(0, made.reader.total)
    ids = [scene.id for scene in made.scenes.split("train")]
    return {
        (ids[image], variant, y, x): (label, subclass)
        for _, image, variant, y, x, label, subclass in zip(
            *map(np.ndarray.tolist, found), strict=True
        )
    }


def test_every_sample_is_there_once_with_its_class_and_subclass(made: SimpleNamespace) -> None:
    rows, hierarchy = made.rows, made.hierarchy
    found = keyed(made)
    assert len(found) == made.reader.total == made.result.facts["samples"] == len(rows)
    for row in rows.itertuples():
        histogram = np.zeros((1, len(hierarchy.classes)), np.int64)
        histogram[0, row.bins] = row.counts
        expected = int(hierarchy.subclass_of(np.array([row.label]), histogram)[0])
        assert found[row.image, row.variant, row.y, row.x] == (row.label, expected)


def test_the_order_is_mixed_well(made: SimpleNamespace) -> None:
    """Any stretch of rows brings images as all rows do."""
    found = made.reader(0, made.reader.total)
    whole = np.bincount(found.images, minlength=24) / len(found.images)
    stretch = np.bincount(found.images[:300], minlength=24) / 300
    assert np.abs(stretch - whole).max() < 5 * np.sqrt(whole.max() / 300)
    assert len(set(found.images[:64].tolist())) > 15


def test_rows_are_read_by_number_across_files(made: SimpleNamespace) -> None:
    assert len(made.reader.parts) > 1
    whole = made.reader(0, made.reader.total)
    np.testing.assert_array_equal(whole.ids, np.arange(made.reader.total))
    for start, stop in ((0, 1), (290, 310), (5, made.reader.total - 3)):
        part = made.reader(start, stop)
        for mine, theirs in zip(part, whole, strict=True):
            np.testing.assert_array_equal(mine, theirs[start:stop])


def test_class_counts(made: SimpleNamespace) -> None:
    counts = np.bincount(made.rows["label"])
    np.testing.assert_array_equal(made.reader.class_counts, counts)


def test_other_machines_make_the_same_order(
    made: SimpleNamespace, prepared: SimpleNamespace, tmp_path: Path
) -> None:
    """Made of the same rows elsewhere, in other files; another seed gives another order."""
    histograms = stage(prepared.stages, "histograms")
    orders = []
    for seed in (0, 1):
        stages = Stages(Storage(str(tmp_path / str(seed))))
        config = tiny(tmp_path, train__seed=seed)
        path = stages.storage.path("sample_index")
        inputs = {"rows": histograms, "hierarchy": prepared.hierarchy}
        work = Work("sample_index", "", config, inputs, stages)
        build_sample_index(work, prepared.scenes, path)
        reader = SampleIndexReader(stages.storage, f"{path}/rows")
        orders.append(reader(0, reader.total))
    for mine, theirs in zip(orders[0], made.reader(0, made.reader.total), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(orders[0].x, orders[1].x)


def test_without_a_hierarchy_subclasses_are_classes(prepared: SimpleNamespace) -> None:
    stages, samples = prepared.stages, stage(prepared.stages, "samples")
    result = stages.make(SAMPLE_INDEX, tiny(prepared.config.storage, train__strategy="baseline"))
    reader = SampleIndexReader(stages.storage, f"{result.path}/rows")
    rows = reader(0, reader.total)
    np.testing.assert_array_equal(rows.labels, rows.subclasses)
    assert reader.total == samples.facts["samples"]


def test_scene_names_decide_where_the_hierarchy_is_made_of_them(
    prepared: SimpleNamespace,
) -> None:
    config = tiny(prepared.config.storage, hierarchy__kind="scene_names")
    stages = prepared.stages
    made: Hierarchy = read_hierarchy(stages.storage, stages.make(HIERARCHY, config).path)
    result = stages.make(SAMPLE_INDEX, config)
    reader = SampleIndexReader(stages.storage, f"{result.path}/rows")
    rows = reader(0, reader.total)
    train = prepared.scenes.split("train")
    for image, label, subclass in zip(rows.images, rows.labels, rows.subclasses, strict=True):
        chosen = made.subclasses[subclass]
        assert chosen.parent == label
        assert chosen.scene in (None, train[image].name)


def test_random_subclasses_are_those_of_the_pixels_that_other_networks_train_on(
    prepared: SimpleNamespace,
) -> None:
    config = tiny(prepared.config.storage, hierarchy__kind="random")
    stages = prepared.stages
    made: Hierarchy = read_hierarchy(stages.storage, stages.make(HIERARCHY, config).path)
    clusters = read_hierarchy(stages.storage, prepared.hierarchy.path)
    assert made.made["like_digest"] == clusters.digest
    result = stages.make(SAMPLE_INDEX, config)
    reader = SampleIndexReader(stages.storage, f"{result.path}/rows")
    rows = reader(0, reader.total)
    whole = TrainingScenes(prepared.scenes.split("train"), made, cache_mb=64)
    void = prepared.scenes.dataset.void
    for _, image, number, y, x, label, subclass in zip(*rows, strict=True):
        example = whole.variant(int(image), int(number), seed=config.context.seed, void=void)
        assert (example.label_map[y, x], example.subclass_map[y, x]) == (label, subclass)
