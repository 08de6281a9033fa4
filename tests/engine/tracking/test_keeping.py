"""Runs as files for a repository, from what a storage holds of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.graph import EVALUATION
from lhs.engine.stage import StageResult
from lhs.engine.storage import Storage
from lhs.engine.tracking.keeping import keep_runs
from lhs.engine.tuning.kept import not_kept, planned
from lhs.engine.tuning.trials import record_path
from lhs.errors import UserError
from lhs.evaluation.metrics import scores
from lhs.loading import load_config
from lhs.report.evidence import KeptRun, read_runs, write_run
from lhs.sweeps import Protocol, Sweep, trials_of
from tests.engine.conftest import tiny
from tests.engine.stages.test_evaluation import stored


def finished(folder: Path) -> np.ndarray:
    """A storage with a run `s-lc seed=1`, as pipeline and stages leave it; the images' counts."""
    config = tiny(folder, train__seed=1)
    success: dict[str, Any] = {
        "scenes": {"inputs": {"dataset": "data's digest"}, "facts": {}},
        "model": {
            "inputs": {"scenes": "s", "hierarchy": "the hierarchy's", "weights": "the weights'"},
            "facts": {
                "steps": 24,
                "device": "cpu",
                "versions": {"torch": "2"},
                "weights": "of tensors",
            },
        },
        "evaluation": {"inputs": {}, "facts": {}},
    }
    for name, tree in success.items():
        path = folder / "stages" / name / f"{name}-key"
        path.mkdir(parents=True)
        (path / SUCCESS).write_text(json.dumps(tree))
    counts = stored(folder / "stages" / "evaluation" / "evaluation-key")
    facts = {
        "title": "s-lc seed=1", "dataset": "synthetic", "classes": ["a", "b", "c", "d"],
        "config": config.model_dump(mode="json"),
        "stages": [{"stage": name, "seconds": 2.0, "key": f"{name}-key"} for name in success],
    }  # fmt: skip
    run = folder / "runs" / "s-lc-seed=1-12345678"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(facts))
    return counts


def test_a_run_is_kept_with_all_that_its_tables_need(tmp_path: Path) -> None:
    counts = finished(tmp_path / "storage")
    storage = Storage(str(tmp_path / "storage"))
    [path] = keep_runs(storage, ["12345678", "s-lc-seed=1"], tmp_path / "kept")
    assert path == tmp_path / "kept" / "synthetic" / "s-lc-seed=1-12345678.json"
    [run] = read_runs(path.parent)
    assert (run.variant, run.steps, run.device) == ("s-lc", 24, "cpu")
    assert run.digests == {
        "data": "data's digest", "hierarchy": "the hierarchy's", "weights": "the weights'",
    }  # fmt: skip
    assert run.evaluation == "evaluation-key"
    assert run.seconds == dict.fromkeys(("scenes", "model", "evaluation"), 2.0)
    np.testing.assert_array_equal(run.counts, counts)
    assert run.settings["train.seed"] == 1
    # No place of the machine that ran it.
    assert str(tmp_path) not in path.read_text()
    with pytest.raises(UserError, match="'other' is not in"):
        keep_runs(storage, ["other"], tmp_path / "kept")


def test_trials_that_are_kept_already_get_their_record(
    checked_stages: Stages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = Protocol(variants=["a", "b"], primary=[("a", "b")], keep="unused")
    changes = [{"train.seed": 0}, {"train.seed": 0, "train.weight_decay": 0.5}]
    fixed = [
        f"storage={checked_stages.storage.uri}", "train.strategy=baseline", "train.gpu=false",
        "train.precision=float32", "evaluation.precision=float32", "network.weights=none",
    ]  # fmt: skip
    sweep = Sweep(name="s", recipe="demo", trials=changes, protocol=protocol)
    trials = trials_of(sweep, fixed)
    assert planned(protocol, trials).runs == [("a", 0, None), ("b", 0, None)]
    counts = np.eye(3, dtype=np.int64)[None] * 5
    counts[0, 0, 1] = 4
    run = KeptRun(
        run="old", variant="b", dataset="synthetic", classes=["x", "y", "z"],
        settings=load_config("demo").dotted(), digests={}, versions={}, device="", seconds={},
        steps=1, evaluation=checked_stages.key(EVALUATION, trials[1].config).digest,
        images=["one"], counts=counts,
    )  # fmt: skip
    kept = write_run(tmp_path / "kept", run).parent
    shared = [[StageResult("scenes", "k", "p", {}, 3.0, True)] for _ in trials]
    folder = checked_stages.storage.path("sweeps", "s")
    checked_stages.storage.make_folder(f"{folder}/trials")
    with caplog.at_level("INFO", "lhs"):
        left, done = not_kept(checked_stages, folder, trials, shared, kept)
    assert ([trial.name for trial in left], len(done)) == (["a seed=0"], 1)
    assert "1 trials are kept in" in caplog.text
    assert "b seed=0" in caplog.text
    record = checked_stages.storage.read_json(record_path(folder, 2))
    assert record["scores"] == scores(counts[0]).headline()
    assert (record["variant"], record["seconds"]) == ("b", {"scenes": 3.0})
    assert not checked_stages.storage.exists(record_path(folder, 1))
