"""The baseline fills training images: what is stored, what it goes by, what is made of it."""

from __future__ import annotations

import hashlib
import io
import pickle
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
from lhs.engine import filling, model_pool, pipeline
from lhs.engine.filling import filled_slice, filled_stage, learned_key, with_fill
from lhs.engine.pipeline import Outcome, make_rows
from lhs.engine.plan import check_scenes, make_shared, needs_of, plan_text
from lhs.engine.samples import sample_slice
from lhs.engine.scenes import checked_scenes
from lhs.engine.stages import StageResult, Stages, stage_key
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.model import ModelDescription, load_model, save_model
from lhs.networks.build import build_network
from tests.data import partly_labelled
from tests.engine.conftest import stage, tiny
from tests.engine.test_samples import COLUMNS, rows_of

pytestmark = pytest.mark.ray

CLASSES, VOID = 300, 65535


@pytest.fixture(scope="module")
def made(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Few labels of many classes, a model that was never trained, and what it filled."""
    folder = tmp_path_factory.mktemp("sparse")
    with pytest.MonkeyPatch.context() as patch:
        known = partly_labelled.PUBLISHED["lmsun"]
        patch.setitem(partly_labelled.PUBLISHED, "lmsun", replace(known, classes=CLASSES))
        partly_labelled.write_partly_labelled(folder / "lmsun", "lmsun", train=14, test=3, side=48)
    config = tiny(
        folder / "storage",
        data={"dataset": "lmsun", "root": str(folder)},
        context={"superpixel_size": 40, "variants": 1},
        unlabelled__mode="filled",
        hierarchy={"rho": 0.3, "n_star": 5, "region": 33},
        network={"channels": 8, "weights": "none"},
    )
    stages = Stages(Storage(config.storage))
    scenes = checked_scenes(stages, config.data)
    key = filled_slice(config, scenes.key)[1]["model"]
    model = StageResult("model", key, stages.storage.path("stages", "model", key), {}, 0.0, False)
    save_random(Path(model.path) / "model", config, scenes.dataset.classes)
    result = filled_stage(stages, config, scenes, model)
    around = with_fill(scenes, stages.storage, result)
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


def test_only_sparse_training_images_are_filled_and_only_where_nobody_labelled(
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


def test_test_labels_are_not_read_and_a_killed_filling_goes_on(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again, by two models side by side, after every test label was destroyed."""
    first = maps_of(made.result)
    test = made.scenes.split("test")
    kept = {scene.files()[1]: scene.files()[1].read_bytes() for scene in test}
    config = made.config.model_copy(
        update={"unlabelled": made.config.unlabelled.model_copy(update={"below": 0.9001})}
    )
    key = stage_key("filled", *filled_slice(config, made.scenes.key))
    # What a killed attempt left: the map of one image, here with another id in one pixel.
    left = sorted(first)[0]
    fill = np.array(Image.open(io.BytesIO(first[left])))
    fill[tuple(np.argwhere(fill != VOID)[0])] = 7
    folder = f".filling-{key[:16]}-{made.result.facts['digest'][:16]}"
    path = Path(made.stages.storage.path("stages", "filled", folder, f"{left}.png"))
    path.parent.mkdir(parents=True)
    Image.fromarray(fill).save(path)
    monkeypatch.setattr(model_pool, "models_at_once", lambda gpu, share: 2)
    monkeypatch.setattr(filling, "BATCH", 2)
    try:
        for number, file in enumerate(kept):
            file.write_bytes(b"garbage") if number else file.unlink()
        for scene in test:
            with pytest.raises(UserError):
                scene.label_map()
        again = filled_stage(Stages(made.stages.storage), config, made.scenes, made.model)
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
    assert again.key == key != made.result.key
    second = maps_of(again)
    assert np.array_equal(np.array(Image.open(io.BytesIO(second.pop(left)))), fill)
    assert second == {image: content for image, content in first.items() if image != left}
    assert not [n for n in made.stages.storage.list(made.stages.storage.path("stages", "filled"))
                if n.startswith(".")]  # fmt: skip


def test_samples_and_histograms_are_those_of_the_filled_maps(made: SimpleNamespace) -> None:
    config, around, annotated = made.config, made.around, made.scenes
    stages = Stages(made.stages.storage)
    samples, histograms = make_rows(stages, config, around, around)
    trained_on, trained_histograms = make_rows(stages, config, annotated, around)
    assert samples.key == stage_key("samples", *sample_slice(config, made.result.key))
    assert trained_on.key == stage_key("samples", *sample_slice(config, annotated.key))
    for labels_of, result, rows in (
        (around, samples, histograms), (annotated, trained_on, trained_histograms),
    ):  # fmt: skip
        assert rows is not None
        table = rows_of(stages.storage, rows, [*COLUMNS, "bins", "counts"])
        assert len(table) == result.facts["samples"]
        expected = []
        for scene in labels_of.split("train"):
            for number in (0, 1):
                found = sample_rows(scene, number, superpixel_size=40, seed=0, void=VOID)
                # The labels around come from the filled maps in both.
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


def test_nothing_to_fill(made: SimpleNamespace) -> None:
    config = made.config.model_copy(
        update={"unlabelled": made.config.unlabelled.model_copy(update={"below": 1e-9})}
    )
    scenes = replace(made.scenes, skipped={
        scene.id: "" for scene in made.scenes.split("train") if (scene.label_map() == VOID).all()
    })  # fmt: skip
    result = filled_stage(Stages(made.stages.storage), config, scenes, made.model)
    assert (result.facts["images"], result.facts["filled_pixels"]) == (0, 0)
    around = with_fill(scenes, made.stages.storage, result)
    assert around.dataset.scenes() == scenes.dataset.scenes()


def test_the_experiment_fills_with_its_baseline(
    finished: list[Outcome], folder: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but its training: of what that is given."""
    taken: list[Any] = []

    def train(stages: Stages, *given: Any) -> StageResult:
        taken.extend(given)
        stages.done.append(outcome.model)
        return outcome.model

    monkeypatch.setattr(pipeline, "training_stage", train)
    config = tiny(folder, unlabelled={"mode": "filled", "below": 1.0}, report__baseline="reuse")
    [done] = pipeline.run(config, "filled")
    names = [result.name for result in done.stages.done]
    assert names == [
        "scenes", "filled", "samples", "histograms", "hierarchy", "model", "evaluation",
    ]  # fmt: skip
    assert not any(result.reused for result in done.stages.done[1:5])
    result = stage(done.stages, "filled")
    assert result.facts["model"] == finished[0].model.key, "the baseline was not trained again"
    assert result.facts["images"] == 24
    # What is trained on is filled, and nothing of what is scored.
    _, learned, hierarchy, *_ = taken
    assert (learned.key, hierarchy.key) == (result.key, stage(done.stages, "hierarchy").key)
    void = learned.dataset.void
    assert not any((scene.label_map() == void).any() for scene in learned.split("train"))
    assert any((scene.label_map() == void).any() for scene in learned.split("test"))
    assert done.evaluation.counts.sum() == outcome.evaluation.counts.sum()
    samples = stage(done.stages, "samples").facts["samples"]
    assert samples > stage(outcome.stages, "samples").facts["samples"]
    assert done.baseline is not None
    assert "The baseline filled 24 of 24 training images" in Path(done.report).read_text()
    needs = needs_of(config, stage(done.stages, "scenes").key)
    for name in ("scenes", "filled", "samples", "histograms", "hierarchy"):
        assert getattr(needs, name) == stage(done.stages, name).key


def test_what_a_network_trains_on_is_in_its_key(made: SimpleNamespace) -> None:
    config, scenes = made.config, made.scenes.key

    def needs(**changes: object):
        unlabelled = config.unlabelled.model_copy(update=changes)
        return needs_of(config.model_copy(update={"unlabelled": unlabelled}), scenes)

    filled, annotated, naive = needs(), needs(train_on_filled="no"), needs(mode="naive")
    assert filled.hierarchy == annotated.hierarchy != naive.hierarchy
    assert len({filled.training, annotated.training, naive.training}) == 3
    assert needs(below=0.5).samples != filled.samples
    around = with_fill(made.scenes, made.stages.storage, made.result, trains_on_fill=False)
    assert around.key == learned_key(made.result.key, False) != made.result.key
    assert (around.class_pixels == made.scenes.class_pixels).all()


def test_a_sweep_makes_the_filled_maps_once(made: SimpleNamespace) -> None:
    configs = [
        made.config.model_copy(
            update={"hierarchy": made.config.hierarchy.model_copy(update={"k_scale": scale})}
        )
        for scale in (1.0, 1.5)
    ]
    storage = made.stages.storage
    scenes = check_scenes(storage, configs)
    needs = [needs_of(config, made.scenes.key) for config in configs]
    assert "1 x filled (1 there already)" in plan_text(storage, needs, trained=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "trained_baseline", lambda *_: made.model)
        shared = make_shared(storage, configs, scenes, needs)
    for need, results in zip(needs, shared, strict=True):
        assert [result.key for result in results] == [
            made.scenes.key, need.filled, need.samples, need.histograms, need.hierarchy,
        ]  # fmt: skip
    assert needs[0].hierarchy != needs[1].hierarchy
