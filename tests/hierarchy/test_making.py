"""Hierarchies made in one process, against a naive reference and the stages' own functions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lhs
from lhs.config import Config
from lhs.context.histograms import label_histograms, normalise
from lhs.data import open_dataset
from lhs.engine.stage import StageResult
from lhs.engine.stages import hierarchy as stage
from lhs.engine.stages.samples import histogram_batch, sample_batch
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.hierarchy.classes import common_classes
from lhs.hierarchy.clustering import cluster_class
from lhs.hierarchy.label_clusters import from_label_clusters
from lhs.loading import build_config

CLASSES = ("sky", "sea", "sand", "moon")
SETTINGS = {"rho": 0.95, "region": 15, "k_scale": 1.0, "n_star": 3, "seed": 1}


def blotched(number: int, height: int = 45, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(number)
    small = rng.choice([0, 1, 2, 3, 255], (9, 10), p=[0.4, 0.3, 0.2, 0.02, 0.08])
    return np.kron(small, np.ones((5, 5), int)).astype(np.uint8)[:height, :width]


@pytest.mark.thorough
def test_label_maps_are_sampled_on_a_grid() -> None:
    maps = [blotched(number) for number in range(8)] + [blotched(9, 3, 2)]
    made = lhs.Hierarchy.from_label_maps(iter(maps), CLASSES, step=4, **SETTINGS)
    labels, histograms = [], []
    for label_map in maps:
        height, width = label_map.shape
        for y in range(min(2, (height - 1) // 2), height, 4):
            for x in range(min(2, (width - 1) // 2), width, 4):
                if label_map[y, x] != 255:
                    labels.append(label_map[y, x])
                    histograms.append(label_histograms(label_map, np.array([[y, x]]), 15, 4, 255))
    counts = np.bincount(labels, minlength=4)
    rows = normalise(np.concatenate(histograms))
    common = common_classes(counts, 0.95)
    assert len(common) < 4
    clusters = {
        label: cluster_class(rows[np.array(labels) == label], min_size=3, seed=1)
        for label in common.tolist()
    }
    expected = from_label_clusters(
        dataset="label maps", classes=CLASSES, counts=counts, clusters=clusters,
        backend="sklearn", max_fit_samples=200_000, **SETTINGS,
    )  # fmt: skip
    assert made.made == {**expected.made, "grid": 4}
    assert [s.name for s in made.subclasses] == [s.name for s in expected.subclasses]
    for one, two in zip(made.subclasses, expected.subclasses, strict=True):
        assert one.count == two.count
        if two.centre is not None:
            np.testing.assert_allclose(one.centre, two.centre, atol=1e-6)
    assert made.digest != expected.digest


def test_it_is_saved_as_any_other(tmp_path: Path) -> None:
    made = lhs.Hierarchy.from_label_maps([blotched(0)], CLASSES, step=3, **SETTINGS)
    made.save(tmp_path / "h.json")
    read = lhs.Hierarchy.load(tmp_path / "h.json")
    assert read.digest == made.digest
    np.testing.assert_array_equal(read.relabel(blotched(1)), made.relabel(blotched(1)))


def test_mistakes_are_told() -> None:
    for maps, changes, message in (
        ([np.full((4, 4), 9, np.uint8)], {}, "found id 9"),
        ([np.full((4, 4), 255, np.uint8)], {}, "no sample carries a label"),
        ([blotched(0)], {"step": 0}, "step: found 0"),
        ([blotched(0)], {"region": 4}, "region: found 4"),
        ([blotched(0)], {"rho": 2}, "rho: found 2"),
        ([blotched(0)], {"backend": "torch"}, "backend: found 'torch'"),
    ):
        with pytest.raises(UserError, match=message):
            lhs.Hierarchy.from_label_maps(maps, CLASSES, **{**SETTINGS, **changes})


def small_config() -> Config:
    return build_config(
        {
            "data": {"synthetic": {"train": 5, "test": 1, "height": 48, "width": 64}},
            "context": {"superpixel_size": 60, "variants": 1},
            "hierarchy": {"n_star": 4, "region": 21, "backend": "sklearn"},
        }
    )


def of_the_stages(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> lhs.Hierarchy:
    """The stages' functions one after the other, without Ray; rows in an order of their own."""
    storage, dataset = Storage(str(folder)), open_dataset(config.data)
    progress = SimpleNamespace(add=lambda finished: None)
    rows = [{"image": s.id, "variant": n} for s in dataset.split("train") for n in (1, 0)][::-1]
    common = {"data": config.data, "pseudo_labels": None, "progress": progress}
    samples = sample_batch(pa.Table.from_pylist(rows), context=config.context, **common)
    for name in ("samples", "histograms"):
        (folder / name / "rows").mkdir(parents=True)
    pq.write_table(samples, folder / "samples/rows/0.parquet")
    part = pa.table({"part": [str(folder / "samples/rows/0.parquet")]})
    settings = {"region": config.hierarchy.region, "seed": config.context.seed}
    histograms = histogram_batch(part, storage=storage, **settings, **common)
    pq.write_table(histograms, folder / "histograms/rows/0.parquet")
    monkeypatch.setattr(
        stage, "clustered_by_tasks", lambda work, labels: ((label, work(label)) for label in labels)
    )
    counts = np.bincount(samples["label"].to_numpy(), minlength=len(dataset.classes))
    result = StageResult("histograms", "", str(folder / "histograms"), {}, 0.0, False)
    return stage._by_clusters(
        storage, config, SimpleNamespace(dataset=dataset), result, counts,
        common_classes(counts, config.hierarchy.rho), "sklearn",
    )  # fmt: skip


@pytest.mark.thorough
def test_scenes_give_the_digest_of_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    made = lhs.Hierarchy.from_scenes(open_dataset(config.data), config)
    assert len(made.subclasses) > len(made.classes)
    assert made.digest == of_the_stages(config, tmp_path, monkeypatch).digest


def test_scenes_make_label_clusters_alone() -> None:
    config = build_config({"hierarchy": {"kind": "scene_names"}})
    with pytest.raises(UserError, match="scene_names: allowed here is label_clusters"):
        lhs.Hierarchy.from_scenes(open_dataset(small_config().data), config)
