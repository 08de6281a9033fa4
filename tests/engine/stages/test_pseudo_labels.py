"""Pseudo-labels: what is stored, by which model, and the samples made from them."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lhs.context.extraction import histogram_rows, sample_rows
from lhs.engine import graph, pipeline
from lhs.engine.cache import Stages
from lhs.engine.graph import (
    ANNOTATED_HISTOGRAMS,
    EVALUATION,
    HIERARCHY,
    HISTOGRAMS,
    MODEL,
    PSEUDO_LABELS,
    SAMPLES,
    annotated_scenes,
    training_scenes,
)
from lhs.engine.pipeline import Outcome
from lhs.engine.runtime import model_pool
from lhs.engine.stage import Key, Stage, StageResult, Work, stage_key
from lhs.engine.stages import pseudo_labels
from lhs.engine.stages.checked_scenes import checked_key
from lhs.engine.stages.pseudo_labels import build_pseudo_labels, with_pseudo_labels
from lhs.engine.stages.training import baseline_of
from lhs.engine.storage import Storage
from lhs.engine.tracking import reporting
from lhs.engine.tuning.plan import check_scenes, make_shared, plan_text
from lhs.errors import UserError
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import load_model, save_model
from lhs.networks.build import build_network
from tests.data import partly_labelled
from tests.engine.conftest import pretend, stage, tiny
from tests.engine.stages.test_samples import COLUMNS, rows_of

pytestmark = pytest.mark.ray

CLASSES, VOID = 300, 65535


@pytest.fixture(scope="module")
def made(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Few labels of many classes, a model that was never trained, and its pseudo-labels."""
    folder = tmp_path_factory.mktemp("sparse")
    with pytest.MonkeyPatch.context() as patch:
        known = partly_labelled.PUBLISHED["lmsun"]
        patch.setitem(partly_labelled.PUBLISHED, "lmsun", replace(known, classes=CLASSES))
        partly_labelled.write_partly_labelled(folder / "lmsun", "lmsun", train=14, test=3, side=48)
    config = tiny(
        folder / "storage",
        data={"dataset": "lmsun", "root": str(folder)},
        context={"superpixel_size": 40, "variants": 1},
        unlabelled__mode="pseudo_labels",
        hierarchy={"rho": 0.3, "n_star": 5, "region": 33},
        network={"channels": 8, "weights": "none"},
    )
    stages = Stages(Storage(config.storage))
    scenes = annotated_scenes(stages, config)
    key = stages.key(PSEUDO_LABELS, config).inputs["model"]
    place = pretend(stages, MODEL, baseline_of(config))
    assert place.name == key
    model = StageResult("model", key, str(place), {}, 1.0, True)
    save_random(place / "model", config, scenes.dataset.classes)
    result = stages.make(PSEUDO_LABELS, config)
    around = with_pseudo_labels(scenes, stages.storage, result)
    return SimpleNamespace(**locals())


def save_random(folder: Path, config, classes: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    network = build_network(config.network, len(classes))
    for layer in network.last_layers():
        torch.nn.init.normal_(layer.weight, std=3)
    folder.mkdir(parents=True)
    description = ModelDescription(
        network=config.network, strategy="baseline", dataset="lmsun", classes=classes,
        colours=((0, 0, 0),) * len(classes), outputs=len(classes), hierarchy_digest=None,
    )  # fmt: skip
    save_model(folder, network, description)


def maps_of(result: StageResult) -> dict[str, bytes]:
    folder = Path(result.path) / "maps"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_bytes()
        for path in folder.rglob("*.png")
    }


def test_only_sparse_training_images_get_pseudo_labels_and_only_where_nobody_labelled(
    made: SimpleNamespace,
) -> None:
    model = load_model(Path(made.model.path) / "model")
    maps = maps_of(made.result)
    rows = {row["image"]: row for row in pq.read_table(f"{made.result.path}/images.parquet")
            .to_pylist()}  # fmt: skip
    assert maps.keys() == rows.keys()
    seen = set()
    for scene in made.scenes.dataset.scenes():
        label_map = scene.label_map()
        void = label_map == VOID
        assert (scene.id in maps) == (scene.split == "train" and void.mean() > 0.1)
        if scene.id not in maps:
            assert made.around.dataset.scene(scene.id) == scene
            continue
        predicted = model.predict(scene.image()).label_map
        stored = np.array(Image.open(io.BytesIO(maps[scene.id])))
        assert stored.dtype == np.uint16
        assert (stored[~void] == VOID).all(), "what people labelled is not in it"
        assert (stored[void] == predicted[void]).all()
        filled = made.around.dataset.scene(scene.id).label_map()
        assert (filled == np.where(void, predicted, label_map)).all()
        row = rows[scene.id]
        assert (row["pixels"], row["annotated"]) == (void.size, (~void).sum())
        assert row["counts"] == np.bincount(predicted[void], minlength=CLASSES).tolist()
        seen |= set(predicted[void].tolist())
    assert 3 < len(maps) < 14
    # To a worker that trains on them they travel as they are.
    sent, kept = pickle.loads(pickle.dumps(made.around.split("train"))), made.around.split("train")
    assert all((a.label_map() == b.label_map()).all() for a, b in zip(sent, kept, strict=True))
    assert max(seen) > 255, "ids that one byte can't hold"


def test_it_says_by_which_model_and_how_much(made: SimpleNamespace) -> None:
    facts = made.result.facts
    weights = Path(made.model.path) / "model" / "weights.safetensors"
    assert facts["digest"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["model"] == made.key
    maps = [s.label_map() for s in made.scenes.split("train")]
    filled = [s.label_map() for s in made.around.split("train")]
    counts = sum(np.bincount(m.ravel(), minlength=VOID + 1)[:CLASSES] for m in filled)
    assert made.around.class_pixels.tolist() == counts.tolist()
    assert facts["annotated_pixels"] == sum((m != VOID).sum() for m in maps)
    assert facts["filled_pixels"] == sum((f != m).sum() for f, m in zip(filled, maps, strict=True))
    assert (facts["images"], facts["training_images"]) == (len(maps_of(made.result)), 14)


def test_test_labels_are_not_read_and_a_killed_stage_continues(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again, by two models side by side, after every test label was destroyed."""
    first = maps_of(made.result)
    test = made.scenes.split("test")
    kept = {scene.files()[1]: scene.files()[1].read_bytes() for scene in test}
    config = made.config.model_copy(
        update={"unlabelled": made.config.unlabelled.model_copy(update={"below": 0.9001})}
    )
    stages = Stages(made.stages.storage)
    annotated_scenes(stages, config)
    key = stages.key(PSEUDO_LABELS, config).digest
    # What a killed attempt left: the map of one image, here with another id in one pixel.
    left = sorted(first)[0]
    fill = np.array(Image.open(io.BytesIO(first[left])))
    fill[tuple(np.argwhere(fill != VOID)[0])] = 7
    folder = f".unfinished-{key[:16]}-{made.result.facts['digest'][:16]}"
    path = Path(made.stages.storage.path("stages", "pseudo_labels", folder, f"{left}.png"))
    path.parent.mkdir(parents=True)
    Image.fromarray(fill).save(path)
    monkeypatch.setattr(model_pool, "models_at_once", lambda gpu, share: 2)
    monkeypatch.setattr(pseudo_labels, "BATCH", 2)
    try:
        for number, file in enumerate(kept):
            file.write_bytes(b"garbage") if number else file.unlink()
        for scene in test:
            with pytest.raises(UserError):
                scene.label_map()
        again = stages.make(PSEUDO_LABELS, config)
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
    assert again.key == key != made.result.key
    second = maps_of(again)
    assert np.array_equal(np.array(Image.open(io.BytesIO(second.pop(left)))), fill)
    assert second == {image: content for image, content in first.items() if image != left}
    folders = made.stages.storage.list(made.stages.storage.path("stages", "pseudo_labels"))
    assert not [name for name in folders if name.startswith(".")]


def test_samples_and_histograms_are_those_of_the_pseudo_labels(made: SimpleNamespace) -> None:
    config, around, annotated = made.config, made.around, made.scenes
    stages = Stages(made.stages.storage)
    samples, histograms = (stages.make(stage, config) for stage in (SAMPLES, HISTOGRAMS))
    trained_on = stages.make(SAMPLES, graph.annotated(config))
    trained_histograms = stages.make(ANNOTATED_HISTOGRAMS, config)
    settings = config.context.model_dump(mode="json")
    checked = checked_key(stages.make(graph.SCENES, graph.data_alone(config)))
    assert samples.key == stage_key("samples", 1, settings, {"scenes": made.result.key})
    assert trained_on.key == stage_key("samples", 1, settings, {"scenes": checked})
    for labels_of, result, rows in (
        (around, samples, histograms), (annotated, trained_on, trained_histograms),
    ):  # fmt: skip
        table = rows_of(stages.storage, rows, [*COLUMNS, "bins", "counts"])
        assert len(table) == result.facts["samples"]
        expected = []
        for scene in labels_of.split("train"):
            for number in (0, 1):
                found = sample_rows(scene, number, superpixel_size=40, seed=0, void=VOID)
                # The labels around include the pseudo-labels in both.
                counts = histogram_rows(
                    around.dataset, around.dataset.scene(scene.id), number, found.centres,
                    region=config.hierarchy.region, seed=0,
                )  # fmt: skip
                for (y, x), label, row in zip(found.centres, found.classes, counts, strict=True):
                    bins = np.flatnonzero(row)
                    expected.append((scene.id, number, int(y), int(x), int(label),
                                     tuple(bins), tuple(row[bins])))  # fmt: skip
        table["bins"], table["counts"] = table["bins"].map(tuple), table["counts"].map(tuple)
        columns = [name for name in table.columns if name != "size"]
        assert sorted(table[columns].itertuples(index=False, name=None)) == sorted(expected)
    assert trained_on.facts["samples"] < 0.8 * samples.facts["samples"]


def test_no_image_needs_pseudo_labels(made: SimpleNamespace) -> None:
    config = made.config.model_copy(
        update={"unlabelled": made.config.unlabelled.model_copy(update={"below": 1e-9})}
    )
    scenes = replace(made.scenes, skipped={
        scene.id: "" for scene in made.scenes.split("train") if (scene.label_map() == VOID).all()
    })  # fmt: skip
    storage = made.stages.storage
    path = storage.path("nothing")
    work = Work("pseudo_labels", "nothing", config, {"model": made.model}, Stages(storage))
    storage.make_folder(path)
    result = StageResult(
        "pseudo_labels", "nothing", path, build_pseudo_labels(work, scenes, path), 0.0, False
    )
    assert (result.facts["images"], result.facts["filled_pixels"]) == (0, 0)
    around = with_pseudo_labels(scenes, storage, result)
    assert around.dataset.scenes() == scenes.dataset.scenes()


@pytest.mark.slow
def test_the_experiment_takes_pseudo_labels_from_its_baseline(
    finished: list[Outcome], folder: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but its training: of what that is given."""
    taken: list[Any] = []

    def train(work: Work, path: str) -> dict[str, Any]:
        taken.extend([training_scenes(work.stages, work.config), work.inputs["hierarchy"]])
        shutil.copytree(outcome.model.path, path, dirs_exist_ok=True)
        return outcome.model.facts

    untrained = replace(MODEL, build=train)
    for module in (graph, pipeline, reporting):
        monkeypatch.setattr(module, "MODEL", untrained)
    # The model that is given has another hierarchy.
    monkeypatch.setattr(reporting, "learned", lambda *_: (None, None))
    config = tiny(
        folder, unlabelled={"mode": "pseudo_labels", "below": 1.0}, report__baseline="reuse"
    )
    [done] = pipeline.run(config, "filled")
    names = [result.name for result in done.stages.done]
    assert names == [
        "scenes", "pseudo_labels", "samples", "histograms", "hierarchy", "model", "evaluation",
    ]  # fmt: skip
    assert not any(result.reused for result in done.stages.done[1:5])
    result = stage(done.stages, "pseudo_labels")
    assert result.facts["model"] == finished[0].model.key, "the baseline was not trained again"
    assert result.facts["images"] == 24
    # Training labels include pseudo-labels, test labels do not.
    learned, hierarchy = taken
    assert hierarchy.key == stage(done.stages, "hierarchy").key
    void = learned.dataset.void
    assert not any((scene.label_map() == void).any() for scene in learned.split("train"))
    assert any((scene.label_map() == void).any() for scene in learned.split("test"))
    assert done.evaluation.counts.sum() == outcome.evaluation.counts.sum()
    samples = stage(done.stages, "samples").facts["samples"]
    assert samples > stage(outcome.stages, "samples").facts["samples"]
    assert done.baseline is not None
    assert (
        "The baseline made pseudo-labels for 24 of 24 training images"
        in Path(done.report).read_text()
    )
    needed = Stages(done.stages.storage).needed(EVALUATION, config)
    assert [(declared.name, key.digest) for declared, _, key in needed] == [
        (result.name, result.key) for result in done.stages.done
    ]


def test_what_a_network_trains_on_is_in_its_key(made: SimpleNamespace) -> None:
    stages = Stages(made.stages.storage)

    def key(stage: Stage, **changes: object) -> Key:
        unlabelled = made.config.unlabelled.model_copy(update=changes)
        return stages.key(stage, made.config.model_copy(update={"unlabelled": unlabelled}))

    ways: list[dict[str, object]] = [{}, {"train_on_pseudo_labels": False}, {"mode": "naive"}]
    filled, annotated, naive = (key(HIERARCHY, **way).digest for way in ways)
    assert filled == annotated != naive
    # Also while the hierarchy is not made, as a sweep's plan counts them.
    assert len({key(MODEL, **way).digest for way in ways}) == 3
    assert key(SAMPLES, below=0.5).digest != key(SAMPLES).digest
    around = with_pseudo_labels(
        made.scenes, made.stages.storage, made.result, train_on_pseudo_labels=False
    )
    inputs = key(MODEL, train_on_pseudo_labels=False).inputs
    assert inputs["scenes"] == f"{made.result.key}-annotated"
    assert (around.class_pixels == made.scenes.class_pixels).all()


def test_a_sweep_makes_the_pseudo_labels_once(made: SimpleNamespace) -> None:
    configs = [
        made.config.model_copy(
            update={"hierarchy": made.config.hierarchy.model_copy(update={"k_scale": scale})}
        )
        for scale in (1.0, 1.5)
    ]
    stages = Stages(made.stages.storage)
    check_scenes(stages, configs)
    keys = [[key.digest for _, _, key in stages.needed(HIERARCHY, config)] for config in configs]
    assert "1 x pseudo_labels (1 there already)" in plan_text(stages, configs, trained=True)
    shared, _ = make_shared(stages, configs)
    for its_keys, results in zip(keys, shared, strict=True):
        assert [result.name for result in results] == [
            "scenes", "pseudo_labels", "samples", "histograms", "hierarchy",
        ]  # fmt: skip
        assert [result.key for result in results] == its_keys
    assert keys[0][:-1] == keys[1][:-1]
    assert keys[0][-1] != keys[1][-1]
