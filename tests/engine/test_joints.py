"""Whole runs of what the tiny experiment is not: patch networks, an FCN, a tracking server, S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lhs import run
from lhs.engine import pipeline
from lhs.engine.cache import SUCCESS
from lhs.engine.pipeline import Outcome
from lhs.engine.storage import Storage
from lhs.evaluation.model import load_model
from tests.data.builders import save_image
from tests.engine.conftest import tiny
from tests.engine.runtime.test_bucket_data import lhs
from tests.engine.tuning.test_sweep import written
from tests.serving import SECRETS, ObjectStore, TrackingServer, object_store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

PARENT = "mlflow.parentRunId"


def phases_of(outcome: Outcome) -> list[str]:
    history = pd.read_parquet(f"{outcome.model.path}/history.parquet")
    assert np.isfinite(history["loss"]).all()
    return list(history["phase"].unique())


def labelled_pixels(outcome: Outcome) -> int:
    void = outcome.scenes.dataset.void
    return sum(int((scene.label_map() != void).sum()) for scene in outcome.scenes.split("test"))


def test_a_patch_network_with_s(cluster: None, tmp_path: Path) -> None:
    """Trained on the sample index, in four phases; scored at every eighth pixel in each direction
    and interpolated, so that every labelled pixel counts."""
    steps = {"steps": 2}
    config = tiny(
        tmp_path / "storage", network={"name": "squeezenet", "weights": "none"},
        train__strategy="sequential", train__max_steps=None, train__sampling="balanced",
        train__sequential={
            "subclass_new_layers": steps, "subclass_all_layers": steps,
            "class_last_layer": steps, "class_all_layers": steps,
        },
        evaluation={"stride": 8}, report__baseline="none",
    )  # fmt: skip
    [outcome] = pipeline.run(config, "patches")
    names = [result.name for result in outcome.stages.done]
    assert names[names.index("hierarchy") :] == [
        "hierarchy", "sample_index", "model", "evaluation",
    ]  # fmt: skip
    assert phases_of(outcome) == [
        "subclass_new_layers", "subclass_all_layers", "class_last_layer", "class_all_layers",
    ]  # fmt: skip
    assert outcome.evaluation.counts.sum() == labelled_pixels(outcome)


def test_an_fcn_from_a_coarser_one_on_the_paper_s_variants(cluster: None, tmp_path: Path) -> None:
    """fcn32s is trained once, for baseline and H alike, on whole augmented images."""
    config = tiny(
        tmp_path / "storage", network={"name": "fcn16s", "weights": "none"},
        data__synthetic={"train": 4, "test": 2, "height": 64, "width": 80}, hierarchy__n_star=5,
        train__examples="variants", train__batch_size=2, train__coarser={"steps": 1},
        train__max_steps=2,
        # The paper's, without momentum: AdamW's state of VGG16 is a gigabyte in every checkpoint.
        train__optimizer="sgd", train__schedule="steps", train__momentum=0.0,
    )  # fmt: skip
    before, after = pipeline.run(config, "fcn")
    coarse = [
        path for path in (tmp_path / "storage" / "stages" / "model").iterdir()
        if load_model(path / "model").description.network.name == "fcn32s"
    ]  # fmt: skip
    assert len(coarse) == 1
    for outcome in (before, after):
        made = json.loads(Path(outcome.model.path, SUCCESS).read_text())
        assert made["inputs"]["start"] == coarse[0].name
    assert phases_of(after) == ["fixed_w", "learned_w"]
    assert after.evaluation.counts.sum() == labelled_pixels(after)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    made = TrackingServer(tmp_path)
    made.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    yield made
    made.stop()


def test_runs_and_sweeps_on_a_tracking_server(
    server: TrackingServer, cluster: None, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    before, after = pipeline.run(tiny(storage), "mine")
    assert run.main(["sweep", str(written(tmp_path, tmp_path / "sweep"))]) == 0
    assert not list(tmp_path.rglob("mlflow.db"))
    client: Any = mlflow.MlflowClient(server.uri)
    found = client.search_runs([place.experiment_id for place in client.search_experiments()])
    assert {entry.info.status for entry in found} == {"FINISHED"}
    by_id = {entry.info.run_id: entry for entry in found}
    for outcome in (before, after):
        metrics = by_id[outcome.tracker.run_id].data.metrics
        expected = outcome.evaluation.scores.headline()
        for name, value in expected.items():
            assert metrics[f"test/{name}"] == pytest.approx(value)
    [parent] = {entry.data.tags[PARENT] for entry in found if PARENT in entry.data.tags}
    assert by_id[parent].info.run_name == "sweep mine"
    summary = pd.read_csv(tmp_path / "sweep" / "sweeps" / "mine" / "summary.csv")
    scores = [by_id[run_id].data.metrics["test/per_pixel"] for run_id in summary["run_id"]]
    assert scores == pytest.approx(summary["per_pixel"].tolist())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    with object_store(tmp_path / "log") as found:
        yield found


def test_a_sweep_and_predictions_in_a_bucket(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    storage = Storage(store.uri("results"))
    file = written(tmp_path, tmp_path / "unused")
    lhs("sweep", str(file), "--set", f"storage={store.uri('results')}", folder=tmp_path)
    assert not (tmp_path / "unused").exists()
    assert "sweep.html" in storage.list(storage.path("sweeps", "mine"))
    models = storage.list(storage.path("stages", "model"))
    assert len(models) == 2
    image = save_image(tmp_path / "x.png")
    with storage.as_local(storage.path("stages", "model", models[0], "model")) as folder:
        expected = load_model(folder).predict(image).label_map
        lhs("predict", str(folder), str(image), "--out", store.uri("labelled"), folder=tmp_path)
    out = Storage(store.uri("labelled"))
    with out.as_local(out.root) as folder:
        np.testing.assert_array_equal(np.array(Image.open(folder / "x.png")), expected)
        assert (folder / "overview.html").is_file()
