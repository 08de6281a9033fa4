"""The control hierarchies as stages and in the rows of samples, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhs.data import open_dataset
from lhs.data.labels import FoundLabels
from lhs.data.scenes import Scene
from lhs.engine.cache import Stages
from lhs.engine.graph import HIERARCHY, HISTOGRAMS, MODEL, SAMPLES, SCENES, data_alone
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.sample_index import drawn_subclasses, subclasses_of
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.controls import from_classes, from_random
from lhs.hierarchy.scene_names import from_scene_names
from lhs.loading import build_config
from lhs.training.decoded import TrainingScenes
from tests.data.builders import plain
from tests.engine.conftest import pretend, tiny
from tests.hierarchy.test_controls import random_hierarchy
from tests.hierarchy.test_hierarchy import cluster_hierarchy


def sampled(folder: Path, **changes: Any) -> Stages:
    """Stages whose scenes and samples are there already."""
    config = tiny(folder, **changes)
    stages = Stages(Storage(str(folder)))
    classes = len(open_dataset(config.data).classes)
    pixels = [9] * classes
    labels = FoundLabels(images=2, unlabelled_images=0, class_pixels=pixels).as_dict()
    pretend(stages, SCENES, data_alone(config), problems={}, class_pixels=pixels, labels=labels)
    rows = pretend(stages, SAMPLES, config, class_counts=list(range(classes))) / "rows"
    rows.mkdir()
    scene = open_dataset(config.data).split("train")[0]
    row = {"image": [scene.id], "variant": [0], "y": [5], "x": [6], "label": [0]}
    pq.write_table(pa.table(row), rows / "part.parquet")
    return stages


def test_random_is_made_of_the_hierarchy_that_it_is_the_control_of(tmp_path: Path) -> None:
    same = {"hierarchy__seed": 3, "hierarchy__backend": "sklearn"}
    clusters, config = tiny(tmp_path, **same), tiny(tmp_path, hierarchy__kind="random", **same)
    stages = sampled(tmp_path)
    pretend(stages, HISTOGRAMS, clusters)
    folder = pretend(stages, HIERARCHY, clusters, digest="of the clusters")
    cluster_hierarchy().save(folder / "hierarchy.json")
    result = stages.make(HIERARCHY, config)
    made = read_hierarchy(stages.storage, result.path)
    assert made.digest == from_random(cluster_hierarchy(), seed=3).digest == result.facts["digest"]
    assert result.facts["subclasses"] == 8
    assert result.facts["subclasses_per_class"] == {"sky": 3, "sea": 2, "tree": 1}
    names = ["scenes", "samples", "histograms", "hierarchy", "hierarchy"]
    assert [one.name for one in stages.done] == names
    assert [one.reused for one in stages.done] == [True] * 4 + [False]
    assert stages.key(HIERARCHY, config).inputs == {"like": folder.name}


def test_classes_are_made_of_the_samples_alone(tmp_path: Path) -> None:
    stages, config = sampled(tmp_path), tiny(tmp_path, hierarchy__kind="classes")
    result = stages.make(HIERARCHY, config)
    made = read_hierarchy(stages.storage, result.path)
    dataset = open_dataset(config.data)
    counts = np.arange(len(dataset.classes))
    expected = from_classes(dataset=dataset.name, classes=dataset.classes, counts=counts)
    assert made.digest == expected.digest == result.facts["digest"]
    assert result.facts["common_classes"] == 0
    assert [one.name for one in stages.done] == ["scenes", "samples", "hierarchy"]


def test_like_scene_names_where_there_are_none(tmp_path: Path) -> None:
    root = plain(tmp_path / "nameless", ["a", "b", "c"], splits={"test": ["c"]})
    data = {"data__dataset": "folder", "data__folder": {"path": str(root)}}
    stages = sampled(tmp_path / "storage", **data)
    random = {
        "hierarchy__kind": "random", "hierarchy__like": "scene_names",
        "hierarchy__backend": "sklearn",
    }  # fmt: skip
    with pytest.raises(UserError, match="scene_names: nameless has no scene names"):
        stages.make(HIERARCHY, tiny(tmp_path / "storage", **data, **random))


def test_keys_hang_on_what_controls_are_made_of_and_on_nothing_else(
    checked_stages: Stages,
) -> None:
    def key(**settings: object) -> str:
        tree = {"hierarchy": {"backend": "sklearn", **settings}}
        return checked_stages.key(HIERARCHY, build_config(tree)).digest

    changes: list[dict[str, object]] = [
        {"rho": 0.5}, {"seed": 1}, {"region": 33}, {"k_scale": 2.0}, {"n_star": 5},
        {"image_clusters": 3}, {"max_fit_samples": 100}, {"like": "image_clusters"},
    ]  # fmt: skip
    moving = {
        ("classes", "label_clusters"): "",
        ("random", "label_clusters"): "rho seed region k_scale n_star max_fit_samples like",
        ("random", "scene_names"): "rho seed like",
        ("random", "image_clusters"): "rho seed image_clusters",
    }
    for (kind, like), expected in moving.items():
        before = key(kind=kind, like=like)
        for change in changes:
            after = key(**{"kind": kind, "like": like, **change})
            assert (after != before) == (next(iter(change)) in expected.split()), (kind, change)


def test_a_plan_shows_the_hierarchy_that_random_is_made_of(checked_stages: Stages) -> None:
    config = build_config(
        {
            "hierarchy": {"kind": "random", "backend": "sklearn"},
            "network": {"weights": "none"},
            "train": {"strategy": "sequential", "gpu": False},
        }
    )
    names = [stage.name for stage, _, _ in checked_stages.needed(MODEL, config)]
    assert names == ["scenes", "samples", "histograms", "hierarchy", "hierarchy", "model"]


# Rows of samples


class Blots(Scene):
    """Scenes of a few regions; of those with an odd id the right half is not annotated."""

    def image(self) -> np.ndarray:
        return np.zeros((48, 60, 3), np.uint8)

    def label_map(self) -> np.ndarray:
        label_map = self.whole()
        if int(self.id) % 2:
            label_map[:, 30:] = 255
        return label_map

    def context_label_map(self) -> np.ndarray | None:
        return self.whole() if int(self.id) % 2 else None

    def whole(self) -> np.ndarray:
        small = np.random.default_rng(int(self.id)).integers(0, 5, (12, 15)).astype(np.uint8)
        return np.kron(small, np.ones((4, 4), np.uint8))


def many_subclasses() -> Hierarchy:
    """300 of them: subclass maps are uint16, label maps are not."""
    like = from_scene_names(
        dataset="toy",
        classes=list("abcde"),
        scene_names=[f"scene {number}" for number in range(60)],
        counts=np.ones((60, 5)),
        rho=1.0,
    )
    return from_random(like, seed=0)


@pytest.mark.parametrize("make", [random_hierarchy, many_subclasses])
def test_samples_of_variants_have_the_subclass_of_their_pixel_in_the_image(make: Any) -> None:
    hierarchy = make()
    scenes = [Blots(id=str(number), split="train", num_classes=5) for number in range(4)]
    training = TrainingScenes(scenes, hierarchy, cache_mb=1)
    rng = np.random.default_rng(0)
    rows, expected = [], []
    for place, scene in enumerate(scenes):
        whole = training.example(place).subclass_map
        np.testing.assert_array_equal(
            whole,
            hierarchy.relabel(
                scene.label_map(), context_label_map=scene.context_label_map(), image_id=scene.id
            ),
        )
        for number in range(4):
            _, label_map, subclass_map = training.variant(place, number, seed=7, void=255)
            labelled = label_map != 255
            # Every pixel of a variant, the ones at its border too.
            np.testing.assert_array_equal(
                hierarchy.parents[subclass_map[labelled]], label_map[labelled]
            )
            assert (subclass_map[~labelled] == hierarchy.void_subclass).all()
            assert set(np.unique(subclass_map[labelled])) <= set(np.unique(whole))
            for y, x in rng.permutation(np.argwhere(labelled))[:20].tolist():
                rows.append({"image": scene.id, "variant": number, "y": y, "x": x})
                expected.append(subclass_map[y, x])
    found = drawn_subclasses(
        hierarchy, pa.Table.from_pylist(rows), lambda name: scenes[int(name)], 7
    )
    assert found.tolist() == expected
    assert not len(
        drawn_subclasses(hierarchy, pa.Table.from_pylist(rows)[:0], lambda name: scenes[0], 7)
    )


def test_samples_of_classes_need_no_histograms() -> None:
    hierarchy = from_classes(
        dataset="d", classes=("sky", "sea", "sand"), counts=np.array([5, 0, 2])
    )
    table = pa.table({"label": np.array([2, 0, 1, 2], np.uint16)})
    assert subclasses_of(hierarchy, table, [None] * 4, 3).tolist() == [2, 0, 1, 2]
