"""A search: proposals, early stops, and what a killed one keeps."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from ray import tune

from lhs import run
from lhs.engine.storage import Storage
from lhs.engine.tracking.tracker import PARENT, tracked
from lhs.engine.tuning import search
from lhs.engine.tuning.search import changed
from lhs.engine.tuning.trials import record_of, record_path
from lhs.sweeps import METRICS, Trial
from tests.engine.conftest import tiny
from tests.engine.tuning.test_sweep import started, waited

pytestmark = pytest.mark.ray

COUNT = 4
SEARCH = """
from lhs.sweeps import Between, Search
SWEEP = Search(
    name="mine", recipe={recipe!r}, count={count}, metric="per_pixel",
    always={{"data.held_out": 6, "train.validate_every": 1}},
    space={{
        "train.baseline.all_layers.learning_rate": Between(low=1e-9, high=1e-2, log=True),
        "train.weight_decay": [0.0, 0.01],
    }},
)
"""


def written(folder: Path, storage: Path) -> Path:
    config = tiny(
        storage, train__strategy="baseline", report__baseline="none", report__scenes=0,
        train__max_steps=None, train__checkpoint_steps=1,
        train__baseline={"new_layers": {"enabled": False}, "all_layers": {"epochs": 3}},
    )  # fmt: skip
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    path = folder / "mine.py"
    path.write_text(SEARCH.format(recipe=str(recipe), count=COUNT))
    return path


def test_dotted_changes_of_a_configuration(tmp_path: Path) -> None:
    base = tiny(tmp_path)
    other = changed(base, {"train.alpha": 3.0, "train.baseline.all_layers.epochs": 2})
    assert (other.train.alpha, other.train.baseline.all_layers.epochs) == (3.0, 2)
    dotted = base.dotted()
    assert {key for key, value in other.dotted().items() if value != dotted[key]} == {
        "train.alpha", "train.baseline.all_layers.epochs",
    }  # fmt: skip


def pretended_trial(
    storage: Storage, folder: str, trial: Trial, tags: Mapping[str, str], *_: object
) -> None:
    """All of a trial but its training: each is a little worse than the one before."""
    with tracked(trial.config, storage, "synthetic", trial.name, tags=tags) as tracker:
        for epoch in (1, 2, 3):
            found = dict.fromkeys(METRICS, (10 * epoch - trial.number) / 100)
            tune.report({"epoch": epoch, **found})
        record = record_of(trial, []) | {"scores": found, "run_id": tracker.run_id}
        storage.write_json(record_path(folder, trial.number), record)


_searched = search._searched


def without_training(*arguments: Any, **named: Any) -> None:
    """A trial in its own process."""
    search.run_trial = pretended_trial  # type: ignore[assignment]
    _searched(*arguments, **named)


@pytest.mark.slow
def test_trials_that_stay_behind_are_stopped_and_those_that_were_begun_taken_up(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(search, "_searched", without_training)
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    records = storage / "sweeps" / "mine" / "trials"
    command = ["sweep", str(path), "--trials-at-once", "1"]
    assert run.main(command) == 0
    found = [json.loads((records / f"{number:03}.json").read_text()) for number in (1, 2, 3, 4)]
    # Rungs are at epochs 1 and 3; the first trial is alone at its.
    assert [one["stopped_after"] for one in found[1:]] == [1, 1, 1]
    assert [one["scores"]["per_pixel"] for one in found[1:]] == [0.08, 0.07, 0.06]
    assert found[0]["scores"]["per_pixel"] == 0.29
    assert len({json.dumps(one["changes"]) for one in found}) == COUNT
    frame = pd.read_csv(storage / "sweeps" / "mine" / "summary.csv")
    assert frame["number"].tolist() == [1, 2, 3, 4]
    # As if it had been killed in its last trial.
    (records / "004.json").unlink()
    kept = [(records / f"00{number}.json").read_text() for number in (1, 2, 3)]
    capsys.readouterr()
    assert run.main([*command, "--resume"]) == 0
    assert "3 trials are finished, 1 left" in capsys.readouterr().err
    assert [(records / f"00{number}.json").read_text() for number in (1, 2, 3)] == kept
    assert json.loads((records / "004.json").read_text())["changes"] == found[3]["changes"]
    path.write_text(path.read_text().replace("count=4", "count=5"))
    assert run.main([*command, "--resume"]) == 2
    assert "search: count: found 5, begun with 4" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_and_resumed_it_stops_who_stays_behind(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    records = storage / "sweeps" / "mine" / "trials"
    first = started(path, storage)
    waited(first, lambda: (records / "001.json").exists() and (records / "002-begun.json").exists())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = (records / "001.json").read_text()
    second = json.loads((records / "002-begun.json").read_text())
    assert run.main(["sweep", str(path), "--resume"]) == 0
    printed = capsys.readouterr()
    assert "4 trials: up to 4 x training" in printed.err
    assert "1 trials are finished, 3 left" in printed.err
    assert (records / "001.json").read_text() == kept
    # What was begun is taken up, not proposed anew.
    assert json.loads((records / "002.json").read_text())["changes"] == second["changes"]
    frame = pd.read_csv(storage / "sweeps" / "mine" / "summary.csv")
    assert sorted(frame["number"]) == [1, 2, 3, 4]
    assert frame["per_pixel"].is_monotonic_decreasing
    rates = frame["train.baseline.all_layers.learning_rate"]
    assert rates.between(1e-9, 1e-2).all()
    assert rates.nunique() == COUNT
    assert set(frame["train.weight_decay"]) <= {0.0, 0.01}
    client = mlflow.MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = {entry.info.run_id: entry for entry in found if PARENT in entry.data.tags}
    assert len(found) == 1 + len(children) == 1 + COUNT
    stopped = 0
    for number in range(1, COUNT + 1):
        record = json.loads((records / f"{number:03}.json").read_text())
        entry = children[record["run_id"]]
        points = client.get_metric_history(entry.info.run_id, "validation/per_pixel")
        after = record["stopped_after"]
        if after is None:
            assert entry.info.status == "FINISHED"
            assert len(points) == 3
            # Nothing changes between the last epoch and the evaluation of the same images.
            assert points[-1].value == pytest.approx(record["scores"]["per_pixel"], abs=0.002)
        else:
            stopped += 1
            assert entry.info.status == "KILLED"
            assert entry.data.tags["lhs.stopped_after"] == str(after)
            # Rungs are at epochs 1 and 3: the last epoch is one, and saves the evaluation.
            assert after in (1, 3)
    assert stopped == frame["stopped_after"].notna().sum() > 0
    assert run.main(["sweep", str(path), "--resume", "--set", "train.batch_size=2"]) == 2
    assert "train.batch_size: found 2, begun with 4" in capsys.readouterr().err
    path.write_text(path.read_text().replace("count=4", "count=5"))
    assert run.main(["sweep", str(path), "--resume"]) == 2
    assert "search: count: found 5, begun with 4" in capsys.readouterr().err
