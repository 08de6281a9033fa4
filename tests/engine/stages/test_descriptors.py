"""Image clusters as stages: from training images to subclasses, the same however they are asked."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhs.context.gist import gist, squared
from lhs.engine.cache import Stages
from lhs.engine.graph import DESCRIPTORS, HIERARCHY, MODEL, SAMPLE_INDEX
from lhs.engine.stage import stage_key
from lhs.engine.stages.descriptors import read_descriptors
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.sample_index import SampleIndexReader
from lhs.engine.stages.samples import row_tables
from lhs.engine.stages.subclass_samples import subclass_samples
from lhs.engine.tracking.examples import hierarchy_arrays
from lhs.engine.tuning.plan import make_shared, plan_text
from lhs.engine.tuning.results import agreement_of
from lhs.loading import build_config
from lhs.report.sensitivity import Trial
from lhs.training.decoded import TrainingScenes
from tests.engine.conftest import stage, tiny

pytestmark = pytest.mark.ray

CLUSTERS = 3


def made_of(prepared: SimpleNamespace, kind: str) -> SimpleNamespace:
    config = tiny(prepared.config.storage, hierarchy__kind=kind, hierarchy__image_clusters=CLUSTERS)
    stages = Stages(prepared.stages.storage)
    result = stages.make(HIERARCHY, config)
    return SimpleNamespace(
        config=config, stages=stages, result=result, scenes=prepared.scenes,
        hierarchy=read_hierarchy(stages.storage, result.path),
        descriptors=stage(stages, "descriptors"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(prepared: SimpleNamespace) -> SimpleNamespace:
    return made_of(prepared, "image_clusters")


@pytest.fixture(scope="module")
def seen(prepared: SimpleNamespace) -> SimpleNamespace:
    return made_of(prepared, "image_embedding")


def test_keys_of_other_hierarchies_are_what_they_were() -> None:
    """Written down from before there were image clusters: stored results stay in use."""
    before = {
        "label_clusters": "14dc63b6d5ca3a513b180839099734ec280b3e6c260518dfa7c1e8ebc30b5fa7",
        "scene_names": "ae9185a7908536487673a05bd46c75b7950df13aec571529cecfc903c5476f4e",
    }
    for kind, key in before.items():
        for clusters in (8, 5):
            settings = {"kind": kind, "backend": "sklearn", "image_clusters": clusters}
            config = build_config({"hierarchy": settings})
            taken = [one.role for one in HIERARCHY.inputs(config) if one.in_key]
            inputs = dict.fromkeys(taken, "rows")
            assert stage_key("hierarchy", 1, HIERARCHY.settings(config), inputs) == key


def test_keys_hang_on_what_image_clusters_are_made_of_and_on_nothing_else(
    checked_stages: Stages,
) -> None:
    def keys(kind: str, hierarchy: dict[str, object], network: dict[str, object]) -> list[str]:
        config = build_config(
            {"hierarchy": {"kind": kind, "backend": "sklearn", **hierarchy}, "network": network}
        )
        return [checked_stages.key(stage, config).digest for stage in (DESCRIPTORS, HIERARCHY)]

    patches = {"name": "squeezenet"}
    by_gist, by_lite = keys("image_clusters", {}, {}), keys("image_embedding", {}, {})
    for unused in ({"region": 5}, {"k_scale": 2.0}, {"n_star": 7}, {"max_fit_samples": 100}):
        assert keys("image_clusters", unused, patches) == by_gist
        assert keys("image_embedding", unused, {"channels": 8, "dropout": 0.3}) == by_lite
    for used in ({"image_clusters": 9}, {"seed": 1}, {"rho": 0.9}):
        described, hierarchy = keys("image_clusters", used, {})
        assert described == by_gist[0]
        assert hierarchy != by_gist[1]
    assert keys("image_embedding", {}, patches)[0] != by_lite[0] != by_gist[0]
    smp = {"name": "smp:unet"}
    by_smp = keys("image_embedding", {}, smp)
    assert keys("image_embedding", {}, {**smp, "encoder": "tf_efficientnet_lite0"}) == by_smp
    assert keys("image_embedding", {}, {**smp, "encoder": "resnet18"})[0] != by_smp[0]
    # Random weights see nothing: lite's are taken.
    assert keys("image_embedding", {}, {"name": "overfeat", "weights": "none"}) == by_lite


def test_descriptors_are_the_plain_function_s_of_the_unchanged_training_images(
    made: SimpleNamespace,
) -> None:
    ids, described = read_descriptors(made.stages.storage, made.descriptors.path)
    train = {scene.id: scene for scene in made.scenes.split("train")}
    assert ids == sorted(train)
    assert made.descriptors.facts == {"images": len(train), "described_by": "gist"}
    for name, row in zip(ids, described, strict=True):
        np.testing.assert_array_equal(row, gist(train[name].image()))


def test_embeddings_are_the_plain_function_s(seen: SimpleNamespace) -> None:
    from lhs.networks.embedding import pretrained, square_embeddings

    ids, described = read_descriptors(seen.stages.storage, seen.descriptors.path)
    assert len(ids) == seen.descriptors.facts["images"]
    assert seen.hierarchy.made["described_by"] == "lite, imagenet weights"
    network = pretrained(seen.config.network)
    for place in (0, 9, 23):
        image = seen.scenes.dataset.scene(ids[place]).image()
        [expected] = square_embeddings(network, [squared(image)])
        np.testing.assert_allclose(described[place], expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("which", ["made", "seen"])
def test_every_image_belongs_to_its_nearest_centre(
    which: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(which)
    ids, described = read_descriptors(found.stages.storage, found.descriptors.path)
    centres = found.hierarchy.made["image_centres"]
    assert list(centres) == [f"cluster{n + 1}" for n in range(CLUSTERS)]
    distances = np.linalg.norm(described[:, None] - np.array(list(centres.values())), axis=2)
    nearest = [f"cluster{place + 1}" for place in distances.argmin(axis=1)]
    assert found.hierarchy.made["images"] == dict(zip(ids, nearest, strict=True))
    sizes = Counter(nearest)
    assert [sizes[name] for name in centres] == sorted(sizes.values(), reverse=True)


def test_subclasses_are_the_pairs_that_samples_have(made: SimpleNamespace) -> None:
    hierarchy, images = made.hierarchy, made.hierarchy.made["images"]
    samples = stage(made.stages, "samples")
    rows = pa.concat_tables(row_tables(made.stages.storage, samples.path, ["image", "label"]))
    pairs = Counter((images[row["image"]], row["label"]) for row in rows.to_pylist())
    common = set(hierarchy.common.tolist())
    assert {(s.scene, s.parent): s.count for s in hierarchy.subclasses if s.parent in common} == {
        pair: count for pair, count in pairs.items() if pair[1] in common
    }
    rare = [s.parent for s in hierarchy.subclasses if s.parent not in common]
    assert rare == sorted(set(range(len(hierarchy.classes))) - common)
    assert hierarchy.made["class_counts"] == samples.facts["class_counts"]


def test_variants_share_the_cluster_of_their_image(made: SimpleNamespace) -> None:
    """In what patch networks train on, and in what networks of whole images do."""
    stages, train = Stages(made.stages.storage), made.scenes.split("train")
    result = stages.make(SAMPLE_INDEX, made.config)
    rows = pq.read_table(f"{result.path}/rows").to_pandas()
    assert set(rows["variant"]) == {0, 1}
    assert SampleIndexReader(stages.storage, f"{result.path}/rows").total == len(rows)
    subclasses, images = made.hierarchy.subclasses, made.hierarchy.made["images"]
    assert [subclasses[n].parent for n in rows["subclass"]] == rows["label"].tolist()
    common = rows[rows["label"].isin(made.hierarchy.common)]
    assert [subclasses[n].scene for n in common["subclass"]] == [
        images[train[place].id] for place in common["image"]
    ]
    whole = TrainingScenes(train, made.hierarchy, cache_mb=0)
    for place, scene in enumerate(train[:5]):
        _, labels, found = whole.example(place)
        for label, subclass in np.unique(np.stack([labels, found], -1).reshape(-1, 2), axis=0):
            if label in made.hierarchy.common:
                assert subclasses[subclass].parent == label
                assert subclasses[subclass].scene == images[scene.id]


def test_the_report_s_patches_are_of_the_clusters_images(made: SimpleNamespace) -> None:
    samples = stage(made.stages, "samples").path
    found = subclass_samples(made.stages.storage, made.scenes, made.hierarchy, samples)
    images, subclasses = made.hierarchy.made["images"], made.hierarchy.subclasses
    common = [
        (images[image], subclasses[subclass].scene)
        for image, subclass in zip(found.images, found.subclasses, strict=True)
        if subclasses[subclass].parent in made.hierarchy.common
    ]
    assert len(common) > 100
    assert all(cluster == own for cluster, own in common)
    assert hierarchy_arrays(made.config, made.scenes, found).patches


def test_a_sweep_plans_the_same_stages(made: SimpleNamespace, seen: SimpleNamespace) -> None:
    configs, stages = [made.config, seen.config], Stages(made.stages.storage)
    for found in (made, seen):
        digests = {stage.name: key.digest for stage, _, key in stages.needed(MODEL, found.config)}
        assert digests["descriptors"] == found.descriptors.key
        assert digests["hierarchy"] == found.result.key
        assert "histograms" not in digests
    assert plan_text(stages, configs, trained=False) == (
        "2 trials: 1 x samples (1 there already), 2 x descriptors (2 there already), "
        "2 x hierarchy (2 there already)"
    )
    shared, _ = make_shared(stages, configs)
    for found, results in zip((made, seen), shared, strict=True):
        names = [result.name for result in results]
        assert names == ["scenes", "samples", "descriptors", "hierarchy"]
        assert results[-1].key == found.result.key
        assert all(result.reused for result in results)


def test_sweeps_compare_them_with_each_other_and_with_label_clusters(
    made: SimpleNamespace, seen: SimpleNamespace, prepared: SimpleNamespace
) -> None:
    runs = {"gist": made.stages, "lite": seen.stages, "labels": prepared.stages}
    trials = [
        Trial(
            number=number, changes={"hierarchy.kind": name}, scores={}, common_classes=0,
            subclasses=0, seconds={}, keys={r.name: r.key for r in stages.done[:4]}, run_id="",
        )
        for number, (name, stages) in enumerate(runs.items())
    ]  # fmt: skip
    found = agreement_of(made.stages.storage, trials, made.scenes)
    assert found is not None
    values = found.to_numpy(float)
    assert values.shape == (3, 3)
    np.testing.assert_allclose(values.diagonal(), 1)
    np.testing.assert_allclose(values, values.T)
    assert (values[np.triu_indices(3, 1)] < 0.99).all()
