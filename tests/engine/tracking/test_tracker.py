"""What MLflow knows of a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import sqlalchemy
from mlflow.entities import Run

import lhs
from lhs.engine import pipeline
from lhs.engine.pipeline import Outcome
from lhs.engine.storage import Storage
from lhs.engine.tracking import metrics
from lhs.engine.tracking import tracker as tracking
from lhs.engine.tracking.metrics import Curves
from lhs.engine.tracking.parameters import parameters
from lhs.engine.tracking.tracker import (
    ONE_TRY,
    PARENT,
    Tracker,
    begin_run,
    check_store,
    close_unfinished,
    ended,
    find_runs,
    tracked,
    tracking_uri,
    with_retries,
)
from lhs.errors import UserError
from tests.data.builders import plain, save_labels, stripes
from tests.engine.conftest import NAME, tiny
from tests.serving import TrackingServer, free_port

SCORES = ("per_pixel", "per_class", "per_class_over_L", "mean_iou")


def client_of(outcome: Outcome) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(outcome.tracker.uri)


def runs_of(uri: str, experiment: str) -> list[Run]:
    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id])


def files_of(client: mlflow.MlflowClient, run_id: str, folder: str) -> list[str]:
    files = []
    for item in client.list_artifacts(run_id, folder):
        files += files_of(client, run_id, item.path) if item.is_dir else [item.path]
    return files


@pytest.mark.ray
def test_a_run_in_the_store(finished: list[Outcome], folder: Path) -> None:
    for outcome in finished:
        client, run_id = client_of(outcome), outcome.tracker.run_id
        assert outcome.tracker.uri == f"sqlite:///{folder / 'mlflow.db'}"
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.info.run_name == outcome.name
        assert client.get_experiment(run.info.experiment_id).name == "synthetic"
        settings = parameters(outcome.config)
        assert run.data.params == {key: str(value) for key, value in settings.items()}
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, len(given.dataset.digest)) == ("synthetic", 32)
        assert any(key.startswith("class_iou/") for key in run.data.metrics)
        for score in SCORES:
            value = getattr(outcome.evaluation.scores, score)
            assert run.data.metrics[f"test/{score}"] == pytest.approx(value)
        for stage in outcome.stages.done:
            assert run.data.metrics[f"seconds/{stage.name}"] == pytest.approx(stage.seconds)
            assert run.data.tags[f"stage.{stage.name}"] == stage.key
        assert "report/report.html" in files_of(client, run_id, "report")
        # The page that compares runs shows pictures of the top level.
        top = {item.path for item in client.list_artifacts(run_id) if not item.is_dir}
        assert {"qualitative.png", "confusion.png", "curves.png"} <= top


@pytest.mark.ray
def test_curves(finished: list[Outcome], folder: Path) -> None:
    """A reused model's run has the curves of the run that trained it."""
    trained = finished[-1]
    reused = pipeline.run(tiny(folder, report__baseline="none"), "reused")[-1]
    assert reused.model.reused
    again = client_of(reused).get_run(reused.tracker.run_id)
    assert (again.info.run_name, again.data.tags["lhs.reused"]) == ("reused (reused)", "everything")
    assert again.data.tags["lhs.same_as"] == trained.tracker.run_id
    curves = [
        {
            metric: [
                (point.step, point.value)
                for point in client_of(outcome).get_metric_history(outcome.tracker.run_id, metric)
            ]
            for metric in ("train/joint_loss", "train/learning_rate")
        }
        for outcome in (trained, reused)
    ]
    assert [step for step, _ in curves[0]["train/joint_loss"]] == [10, 20, 24]
    losses = pd.read_parquet(f"{trained.model.path}/history.parquet")["loss"].to_numpy()
    means = [losses[:10].mean(), losses[10:20].mean(), losses[20:].mean()]
    assert [loss for _, loss in curves[0]["train/joint_loss"]] == pytest.approx(means)
    for metric, points in curves[0].items():
        np.testing.assert_allclose(points, curves[1][metric], err_msg=metric)
    assert all(np.isfinite(loss) for _, loss in curves[0]["train/joint_loss"])


@pytest.mark.ray
def test_logged_model_predicts_the_same(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = files_of(client_of(outcome), outcome.tracker.run_id, "model")
    assert any(path.endswith("weights.safetensors") for path in files)
    assert "model/MLmodel" in files
    assert not [path for path in files if Path(path).suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    image = outcome.scenes.split("test")[0].image()
    expected = lhs.load(f"{outcome.model.path}/model").predict(image)
    np.testing.assert_allclose(expected.probabilities.sum(axis=0), 1, rtol=1e-5)
    assert lhs.load(outcome.model.path).description.strategy == "hierarchical"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", outcome.tracker.uri)
    address = f"runs:/{outcome.tracker.run_id}"
    found = lhs.load(address).predict(image)
    np.testing.assert_array_equal(found.label_map, expected.label_map)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    with pytest.raises(UserError, match="no model there"):
        lhs.load("runs:/0123456789abcdef0123456789abcdef")

    mlflow.set_tracking_uri(outcome.tracker.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"{address}/model")
    finally:
        mlflow.set_tracking_uri(None)
    labels = loaded.predict(image[None])
    np.testing.assert_array_equal(labels, expected.label_map[None])


@pytest.mark.ray
def test_runs_address_finds_the_default_store(
    outcome: Outcome, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHS_STORAGE", str(folder))
    model = lhs.load(f"runs:/{outcome.tracker.run_id}")
    assert model.classes == outcome.scenes.dataset.classes


@pytest.mark.ray
def test_a_failing_run_ends_failed(finished: list[Outcome], folder: Path, tmp_path: Path) -> None:
    root = plain(tmp_path / "wrong", splits={"test": ["town_2"]})
    save_labels(root, "beach_1", stripes(height=9))
    config = tiny(folder, data={"dataset": "folder", "folder": {"path": str(root)}})
    with pytest.raises(UserError, match="1 bad images"):
        pipeline.run(config, "doomed")
    (run,) = (r for r in runs_of(finished[0].tracker.uri, "folder")
              if r.info.run_name == "doomed-baseline")  # fmt: skip
    assert run.info.status == "FAILED"
    assert run.data.params["data.folder.path"] == str(root)
    assert NAME not in {run.info.run_name for run in runs_of(finished[0].tracker.uri, "folder")}


@pytest.mark.thorough
def test_endings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, storage = tiny(tmp_path), Storage(str(tmp_path))
    caplog.set_level(logging.WARNING)
    for number, error in enumerate((None, KeyboardInterrupt, ValueError)):
        try:
            with tracked(config, storage, "endings", str(number)):
                if error is not None:
                    raise error
        except (KeyboardInterrupt, ValueError):
            pass
    found = {
        run.info.run_name: run.info.status for run in runs_of(tracking_uri(storage), "endings")
    }
    assert found == {"0": "FINISHED", "1": "KILLED", "2": "FAILED"}


def test_a_store_that_can_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = tiny(tmp_path)
    with (
        pytest.raises(UserError, match="MLFLOW_TRACKING_URI"),
        tracked(config, Storage(str(tmp_path)), "x", "y"),
    ):
        pass


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_a_server_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "STORE_WAIT", 0.3)
    uri = f"http://127.0.0.1:{free_port()}"
    for ask in (lambda: check_store(uri), lambda: begin_run(uri, "x", "y", {}, {})):
        with pytest.raises(
            UserError, match=f"MLFLOW_TRACKING_URI = {uri}: does not answer .*unset"
        ):
            ask()
    waits = [record.message for record in caplog.records if "waiting" in record.message]
    assert len(waits) == 2
    assert waits[0].startswith(f"{uri} does not answer (")
    for address in (f"sqlite:////{uri}/mlflow.db", "databricks"):
        check_store(address)


@pytest.mark.timeout(60)
def test_a_damaged_database_is_told_at_once(tmp_path: Path) -> None:
    """MLflow tries ten times, for 100 seconds."""
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    with pytest.raises(UserError, match=r"junk\.db: this database cannot be read \(file is not"):
        check_store(f"sqlite:///{tmp_path / 'junk.db'}")
    check_store(f"sqlite:///{tmp_path / 'new.db'}")
    assert not (tmp_path / "new.db").exists()


def test_a_server_that_refuses_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "STORE_WAIT", 5.0)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    check_store(f"http://127.0.0.1:{server.server_port}/")
    thread.join()
    server.server_close()


@pytest.mark.thorough
def test_a_sweep_that_is_stopped_leaves_no_trial_running(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    parent = begin_run(uri, "some", "sweep", {}, {})
    children = [begin_run(uri, "some", str(n), {PARENT: parent}, {}) for n in range(2)]
    other = begin_run(uri, "some", "other", {}, {})
    Tracker(uri, children[0]).end("FINISHED")
    with pytest.raises(KeyboardInterrupt), ended(Tracker(uri, parent)):
        raise KeyboardInterrupt
    client = mlflow.MlflowClient(uri)
    states = [client.get_run(run).info.status for run in (parent, *children, other)]
    assert states == ["KILLED", "FINISHED", "KILLED", "RUNNING"]


# A store that goes away


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("served"))
    server.start()
    yield server
    server.stop()


@pytest.mark.thorough
@pytest.mark.timeout(200)
def test_metrics_of_a_time_without_the_store_arrive_later(
    served: TrackingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in ONE_TRY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(metrics, "BATCH", 7)
    tracker = Tracker(served.uri, begin_run(served.uri, "away", "mine", {}, {}))
    curves = Curves(tracker)
    for step in range(1, 6):
        curves.add(step, {"loss": 10 / step})
    curves.flush()
    served.stop()
    for step in range(6, 31):
        curves.add(step, {"loss": 10 / step})
    # One try, not the minutes that MLflow's own retries take.
    curves.flush()
    assert curves.rows
    back = threading.Timer(1.0, served.start)
    back.start()
    curves.finish()
    tracker.end("FINISHED")
    back.join()
    assert "MLflow's store does not answer; waiting for it" in caplog.text
    client = mlflow.MlflowClient(served.uri)
    points = client.get_metric_history(tracker.run_id, "train/loss")
    assert [(p.step, p.value) for p in points] == [(n, pytest.approx(10 / n)) for n in range(1, 31)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_a_refusal_is_not_waited_for(served: TrackingServer) -> None:
    tracker = Tracker(served.uri, begin_run(served.uri, "away", "mine", {}, {"a": 1}))
    with pytest.raises(mlflow.MlflowException):
        Tracker(served.uri, "no-such-run").tags({"a": "b"})
    tracker.end("FINISHED")


@pytest.mark.thorough
def test_a_disk_that_is_full_or_read_only_is_reported_at_once(tmp_path: Path) -> None:
    """A real SQLite store that can only be read; and what SQLite says where there is no space."""
    path = tmp_path / "mlflow.db"
    run_id = begin_run(f"sqlite:///{path}", "some", "mine", {}, {})
    closed = Tracker(f"sqlite:///file:{path}?mode=ro&uri=true", run_id)
    with pytest.raises(UserError, match=r"read-only .* fix it and start again"):
        closed.tags({"a": "b"})

    def full() -> None:
        raise mlflow.MlflowException("(sqlite3.OperationalError) database or disk is full")

    with pytest.raises(UserError, match="no space left"):
        with_retries("sqlite:///x", full)
    with pytest.raises(ValueError, match="the first"), ended(closed):
        raise ValueError("the first")


def test_a_full_disk_is_told_where_the_database_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise sqlalchemy.exc.OperationalError("CREATE", {}, Exception("database or disk is full"))

    monkeypatch.setattr(mlflow, "MlflowClient", full)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(
        UserError, match=rf"^MLFLOW_TRACKING_URI = {uri}: database or disk is full$"
    ):
        begin_run(uri, "some", "mine", {}, {})
    with pytest.raises(UserError, match=r"no space left .*; nothing finished is lost"):
        with_retries(uri, full)


@pytest.mark.thorough
def test_an_unfinished_run_is_continued_and_others_are_closed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    parent = begin_run(uri, "some", "sweep", {}, {"a": 1})
    children = [begin_run(uri, "some", str(n), {PARENT: parent}, {"n": n}) for n in range(3)]
    other = begin_run(uri, "some", "other", {}, {})
    Tracker(uri, children[0]).end("FINISHED")
    assert set(close_unfinished(uri, parent)) == {parent, *children[1:]}
    client = mlflow.MlflowClient(uri)
    assert {run.info.run_id for run in find_runs(uri, {PARENT: parent})} == set(children)
    states = [client.get_run(run).info.status for run in (parent, *children, other)]
    assert states == ["KILLED", "FINISHED", "KILLED", "KILLED", "RUNNING"]
    config = tiny(tmp_path)
    storage = Storage(str(tmp_path))
    with tracked(config, storage, "some", "again", tags={"x": "y"}) as tracker:
        pass
    with tracked(config, storage, "some", "again", run_id=tracker.run_id) as same:
        assert client.get_run(same.run_id).info.status == "RUNNING"
    assert same.run_id == tracker.run_id
    assert client.get_run(same.run_id).data.tags["x"] == "y"
    assert client.get_run(same.run_id).info.status == "FINISHED"
