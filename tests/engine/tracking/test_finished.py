"""A run that was finished before is found again, and only that one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest

import lhs
from lhs.engine import pipeline
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION, HIERARCHY, HISTOGRAMS, MODEL, SAMPLES
from lhs.engine.runtime import cluster as ray_cluster
from lhs.engine.stages.training import baseline_of
from lhs.engine.tracking.finished import finished_before
from lhs.engine.tracking.tracker import tracking_uri
from tests.engine.conftest import pretend, tiny

Change = Callable[[dict[str, Any], mlflow.MlflowClient], None]


def other_version(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["version"] = "0"


def other_store(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["tracking_uri"] = "sqlite:///elsewhere.db"


def other_report(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["config"]["report"]["scenes"] += 1


def other_results(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["stages"][0]["key"] = "other"


def no_baseline(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["baseline"] = None


def earlier_version(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    for key in ("version", "tracking_uri", "baseline"):
        del facts[key]


def failed(facts: dict[str, Any], client: mlflow.MlflowClient) -> None:
    client.set_terminated(facts["run_id"], "FAILED")


def unknown(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    facts["run_id"] = "0" * 32


def damaged(facts: dict[str, Any], _: mlflow.MlflowClient) -> None:
    """The file of the facts is cut."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    "change",
    [None, other_version, other_store, other_report, other_results, no_baseline, earlier_version,
     failed, unknown, damaged],
)  # fmt: skip
def test_it_is_the_same_run_with_the_same_results(
    change: Change | None, checked_stages: Stages
) -> None:
    storage = checked_stages.storage
    config = tiny(storage.uri, train__gpu=False, hierarchy__backend="sklearn")
    pretend(checked_stages, HIERARCHY, config, digest="some")
    for one in (baseline_of(config), config):
        pretend(checked_stages, MODEL, one)
        pretend(checked_stages, EVALUATION, one)
    uri = tracking_uri(storage)
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("toy")).info.run_id
    client.set_terminated(run_id)
    baseline = checked_stages.find(EVALUATION, baseline_of(config))
    own = checked_stages.find(EVALUATION, config)
    assert baseline is not None
    assert own is not None
    facts: dict[str, Any] = {
        "run_id": run_id, "version": lhs.__version__, "tracking_uri": uri,
        "config": config.model_dump(mode="json"), "baseline": baseline.key,
        "stages": [{"stage": "evaluation", "key": own.key}],
    }  # fmt: skip
    if change is not None:
        change(facts, client)
    folder = Path(storage.path("runs", f"mine-{facts['run_id'][:8]}"))
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(facts)[: 50 if change is damaged else None])
    before = finished_before(checked_stages, config, "mine")
    if change is None:
        assert before is not None
        tracker, report = before
        assert (tracker.uri, tracker.run_id) == (uri, run_id)
        assert Path(report) == folder / "report.html"
        assert finished_before(checked_stages, config, "another") is None
    else:
        assert before is None


@pytest.mark.thorough
def test_a_finished_run_needs_no_ray(
    checked_stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Baseline and experiment: everything is there, and Ray is not asked for."""

    def start() -> None:
        raise AssertionError("Ray starts")

    monkeypatch.setattr(ray_cluster, "_later", ExitStack())
    monkeypatch.setattr(ray_cluster, "_init", start)
    monkeypatch.setattr(pipeline, "annotated_scenes", lambda *_: SimpleNamespace())
    storage = checked_stages.storage
    config = tiny(storage.uri, train__gpu=False, hierarchy__backend="sklearn")
    for stage in (SAMPLES, HISTOGRAMS, HIERARCHY):
        pretend(checked_stages, stage, config, digest="some")
    client = mlflow.MlflowClient(tracking_uri(storage))
    experiment = client.create_experiment("toy")
    ids, before = [], None
    for one, name in pipeline.experiments(config, "mine"):
        pretend(checked_stages, MODEL, one)
        np.save(pretend(checked_stages, EVALUATION, one) / "counts.npy", [[3, 1], [0, 4]])
        key = checked_stages.key(EVALUATION, one).digest
        ids.append(client.create_run(experiment).info.run_id)
        client.set_terminated(ids[-1])
        facts = {
            "run_id": ids[-1], "version": lhs.__version__, "tracking_uri": tracking_uri(storage),
            "config": one.model_dump(mode="json"), "baseline": before, "stages": [{"key": key}],
        }  # fmt: skip
        before = key
        folder = Path(storage.path("runs", f"{name}-{ids[-1][:8]}"))
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(facts))
    outcomes = pipeline.run(config, "mine")
    assert [outcome.tracker.run_id for outcome in outcomes] == ids
    assert [outcome.evaluation.scores.per_pixel for outcome in outcomes] == [7 / 8, 7 / 8]
