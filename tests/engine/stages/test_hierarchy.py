"""The hierarchy as a stage."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import HIERARCHY
from lhs.engine.pipeline import Outcome
from lhs.engine.stage import StageResult
from lhs.engine.stages.hierarchy import (
    cluster_label,
    clustered_by_actors,
    clustered_by_tasks,
    read_hierarchy,
)
from lhs.engine.stages.samples import row_tables
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from tests.data.builders import plain
from tests.engine.conftest import stage, tiny

pytestmark = pytest.mark.ray


def test_two_builds_give_one_digest(outcome: Outcome, prepared: SimpleNamespace) -> None:
    mine = outcome.hierarchy
    assert mine is not None
    assert mine.path != prepared.hierarchy.path
    assert mine.facts == prepared.hierarchy.facts
    files = [
        read_hierarchy(s.storage, r.path)
        for s, r in [(outcome.stages, mine), (prepared.stages, prepared.hierarchy)]
    ]
    assert files[0].digest == files[1].digest == mine.facts["digest"]


def remade(prepared: SimpleNamespace, **changes: object) -> tuple[Hierarchy, StageResult]:
    """The hierarchy with other settings on the same histograms."""
    config: Config = tiny(prepared.config.storage, **changes)
    result = prepared.stages.make(HIERARCHY, config)
    return read_hierarchy(prepared.stages.storage, result.path), result


def counts_of(hierarchy: Hierarchy, label: int) -> list[int]:
    return [subclass.count for subclass in hierarchy.subclasses if subclass.parent == label]


def test_clusters_exceed_n_star_and_add_up(prepared: SimpleNamespace) -> None:
    hierarchy = read_hierarchy(prepared.stages.storage, prepared.hierarchy.path)
    class_counts = stage(prepared.stages, "samples").facts["class_counts"]
    n_star = prepared.config.hierarchy.n_star
    for label, total in enumerate(class_counts):
        counts = counts_of(hierarchy, label)
        assert sum(counts) == total
        if label not in hierarchy.common:
            assert len(counts) == 1
        elif len(counts) > 2:
            # Algorithm 1 keeps K = 2 where no K passes.
            assert min(counts) > n_star
    facts = prepared.hierarchy.facts
    assert facts["subclasses"] == len(hierarchy.subclasses) > len(hierarchy.classes)
    assert facts["common_classes"] == len(hierarchy.common)
    assert facts["subclasses_per_class"] == {
        hierarchy.classes[label]: len(counts_of(hierarchy, label)) for label in hierarchy.common
    }


def test_a_number_for_n_star_and_the_paper_s(prepared: SimpleNamespace) -> None:
    few, _ = remade(prepared, hierarchy__n_star=400)
    many = read_hierarchy(prepared.stages.storage, prepared.hierarchy.path)
    assert few.made["min_size"] == few.made["n_star"] == 400
    assert len(few.subclasses) < len(many.subclasses)
    literal, _ = remade(prepared, hierarchy__n_star="largest_rare")
    rare = np.delete(stage(prepared.stages, "samples").facts["class_counts"], literal.common)
    assert literal.made["min_size"] == rare.max()


def test_k_scale(prepared: SimpleNamespace) -> None:
    plain_one = read_hierarchy(prepared.stages.storage, prepared.hierarchy.path)
    halved, result = remade(prepared, hierarchy__k_scale=0.5)
    assert result.key != prepared.hierarchy.key
    for label in plain_one.common:
        found = len(counts_of(plain_one, label))
        # Half a cluster: either neighbour is a nearest whole number.
        assert len(counts_of(halved, label)) in {max(1, found // 2), max(1, (found + 1) // 2)}


def test_actors_cluster_as_tasks_do(prepared: SimpleNamespace) -> None:
    """One actor takes class after class; without GPUs here, on CPUs."""
    histograms = stage(prepared.stages, "histograms")
    num_classes = len(prepared.scenes.dataset.classes)
    common = read_hierarchy(prepared.stages.storage, prepared.hierarchy.path).common.tolist()
    work = partial(
        cluster_label, prepared.stages.storage, histograms.path, num_classes=num_classes,
        config=prepared.config, min_size=20, backend="sklearn",
    )  # fmt: skip
    tasks = dict(clustered_by_tasks(work, common))
    actors = dict(clustered_by_actors(work, common, actors=1, gpus=0))
    assert list(actors) == common
    assert sorted(tasks) == sorted(common)
    for label in common:
        np.testing.assert_array_equal(actors[label].centres, tasks[label].centres)
        np.testing.assert_array_equal(actors[label].sizes, tasks[label].sizes)


@pytest.mark.slow
def test_an_actor_that_has_to_wait_for_its_gpu_holds_no_class_up(cluster: None) -> None:
    """Five are asked for and four CPUs are there: the classes go to those that have started."""
    found = dict(clustered_by_actors(_process, range(9), actors=5, gpus=0))
    assert sorted(found) == list(range(9))
    assert len(set(found.values())) <= 4


def _process(label: int) -> Any:
    return os.getpid()


def test_what_fails_in_an_actor_is_raised(cluster: None) -> None:
    with pytest.raises(UserError, match="class 3"):
        dict(clustered_by_actors(_refused, [3, 4], actors=1, gpus=0))


def _refused(label: int) -> Any:
    raise UserError(f"class {label}")


def test_scene_names_make_only_pairs_that_occur(prepared: SimpleNamespace) -> None:
    config = tiny(prepared.config.storage, hierarchy__kind="scene_names")
    result = prepared.stages.make(HIERARCHY, config)
    hierarchy = read_hierarchy(prepared.stages.storage, result.path)
    samples = stage(prepared.stages, "samples")
    rows = pa.concat_tables(row_tables(prepared.stages.storage, samples.path, ["image", "label"]))
    dataset = prepared.scenes.dataset
    pairs = Counter((dataset.scene(row["image"]).name, row["label"]) for row in rows.to_pylist())
    common = set(hierarchy.common.tolist())
    expected = {
        f"{name}+{dataset.classes[label]}": count
        for (name, label), count in pairs.items()
        if label in common
    }
    found = {s.name: s.count for s in hierarchy.subclasses if s.parent in common}
    assert found == expected
    assert len(found) < len(common) * len(dataset.scene_names)
    rare = [s for s in hierarchy.subclasses if s.parent not in common]
    assert [s.parent for s in rare] == sorted(set(range(len(dataset.classes))) - common)


def test_scene_names_key_ignores_what_it_does_not_use(prepared: SimpleNamespace) -> None:
    keys = {
        prepared.stages.make(
            HIERARCHY, tiny(prepared.config.storage, hierarchy__kind="scene_names", **change)
        ).key
        for change in ({}, {"hierarchy__region": 5}, {"hierarchy__k_scale": 2.0})
    }
    assert len(keys) == 1


def test_scene_names_where_there_are_none(cluster: None, tmp_path: Path) -> None:
    images = ["a", "b", "c"]
    root = plain(tmp_path / "nameless", images, splits={"test": ["c"]})
    config = tiny(
        tmp_path / "storage",
        data__dataset="folder",
        data__folder={"path": str(root)},
        context__superpixel_size=16,
        hierarchy__kind="scene_names",
    )
    with pytest.raises(UserError, match=r"scene_names: nameless has no scene names"):
        Stages(Storage(config.storage)).make(HIERARCHY, config)
