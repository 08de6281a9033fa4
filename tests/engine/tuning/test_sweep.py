"""Sweeps: what is made once, what a stopped one keeps, what lies in MLflow."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from lhs import run
from lhs.config import Config
from lhs.engine import pipeline
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION, HIERARCHY
from lhs.engine.storage import Storage
from lhs.engine.tracking.tracker import PARENT, tracked
from lhs.engine.tuning import trials as tune_trials
from lhs.engine.tuning.plan import check_scenes, plan_text
from lhs.engine.tuning.trials import TRIAL
from lhs.errors import UserError
from lhs.evaluation.metrics import scores
from lhs.sweeps import read_sweep, trials_of
from tests.browser import compare_runs, needs_chromium
from tests.engine.conftest import tiny, training_here

pytestmark = pytest.mark.ray

SWEEP = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="mine", recipe={recipe!r}, trials=[
    {{"hierarchy.k_scale": 1.0}},
    {{"hierarchy.k_scale": 2.0}},
])
"""


def written(folder: Path, storage: Path) -> Path:
    """A sweep's file for the tiny experiment."""
    config = tiny(storage, report__baseline="none", report__scenes=0, train__max_steps=6)
    tree = config.model_dump(mode="json")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    path = folder / "mine.py"
    path.write_text(SWEEP.format(recipe=str(recipe)))
    return path


@pytest.fixture(scope="module")
def whole(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a sweep that nothing disturbed."""
    storage = tmp_path_factory.mktemp("sweep")
    path = written(tmp_path_factory.mktemp("files"), storage)
    assert run.main(["sweep", str(path)]) == 0
    return storage


def table(storage: Path) -> pd.DataFrame:
    frame = pd.read_csv(storage / "sweeps" / "mine" / "summary.csv")
    return frame.drop(columns="run_id")


def runs_of(storage: Path) -> tuple[Any, list[Any]]:
    """The sweep's run and its trials', by number."""
    client = mlflow.MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    [parent] = [entry for entry in found if PARENT not in entry.data.tags]
    children = [entry for entry in found if entry.data.tags.get(PARENT) == parent.info.run_id]
    assert len(found) == 1 + len(children)
    return parent, sorted(children, key=lambda entry: entry.data.tags[TRIAL])


@pytest.mark.slow
def test_what_trials_share_is_made_once(whole: Path) -> None:
    stages = whole / "stages"
    made = {
        name: len([key for key in (stages / name).iterdir() if not key.name.startswith(".")])
        for name in ("scenes", "samples", "histograms", "hierarchy", "model", "evaluation")
    }
    assert made == {
        "scenes": 1, "samples": 1, "histograms": 1, "hierarchy": 2, "model": 2, "evaluation": 2,
    }  # fmt: skip


def test_the_plan_says_so_before(cluster: None, tmp_path: Path) -> None:
    trials = trials_of(read_sweep(str(written(tmp_path, tmp_path / "storage"))))
    stages = Stages(Storage(str(tmp_path / "storage")))
    configs = [trial.config for trial in trials]
    check_scenes(stages, configs)
    text = "2 trials: 1 x samples, 1 x histograms, 2 x hierarchy"
    assert plan_text(stages, configs, trained=True) == f"{text}, 2 x training"
    assert plan_text(stages, configs, trained=False) == text


@pytest.mark.slow
def test_the_plan_counts_what_is_there_already(whole: Path, tmp_path: Path) -> None:
    trials = trials_of(read_sweep(str(written(tmp_path, whole))))
    stages = Stages(Storage(str(whole)))
    configs = [trial.config for trial in trials]
    check_scenes(stages, configs)
    assert "2 x hierarchy (2 there already)" in plan_text(stages, configs, trained=True)


@pytest.mark.slow
def test_results_are_those_of_single_runs(whole: Path, tmp_path: Path) -> None:
    """A run alone would take each trial's stages, and one elsewhere comes to the same losses."""
    frame = table(whole)
    assert frame["number"].tolist() == [1, 2]
    assert frame["hierarchy.k_scale"].tolist() == [1.0, 2.0]
    stages = Stages(Storage(str(whole)))
    for trial in trials_of(read_sweep(str(written(tmp_path, whole)))):
        number = trial.number
        record = json.loads(
            (whole / "sweeps" / "mine" / "trials" / f"{number:03}.json").read_text()
        )
        found = stages.find(EVALUATION, trial.config)
        assert found is not None
        assert found.key == record["keys"]["evaluation"]
        assert found.facts["per_pixel"] == record["scores"]["per_pixel"]
        assert found.facts["per_pixel"] == frame["per_pixel"][number - 1]
    alone = trial.config.model_copy(update={"storage": str(tmp_path / "alone")})
    with training_here():
        (outcome,) = pipeline.run(alone, "alone")
    assert outcome.hierarchy is not None
    assert outcome.hierarchy.key == record["keys"]["hierarchy"]
    losses = [
        pd.read_parquet(folder / "history.parquet")["loss"].to_numpy()
        for folder in (
            Path(outcome.model.path), whole / "stages" / "model" / record["keys"]["model"]
        )
    ]  # fmt: skip
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.slow
def test_mlflow_has_one_parent_and_its_trials(whole: Path) -> None:
    parent, children = runs_of(whole)
    assert [entry.info.status for entry in [parent, *children]] == ["FINISHED"] * 3
    assert [entry.data.params["hierarchy.k_scale"] for entry in children] == ["1.0", "2.0"]
    assert "hierarchy.k_scale" not in parent.data.params
    assert parent.data.params["network.name"] == "lite"
    assert all(entry.data.metrics["test/per_pixel"] > 0 for entry in children)
    client = mlflow.MlflowClient(f"sqlite:///{whole / 'mlflow.db'}")
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"summary.csv", "sensitivity.png", "sweep.html", "agreement.csv"} <= files
    points = client.get_metric_history(parent.info.run_id, "trial/per_pixel")
    assert [point.step for point in points] == [1, 2]


@pytest.mark.slow
@needs_chromium
def test_mlflow_s_page_shows_the_trials_beside_each_other(whole: Path, tmp_path: Path) -> None:
    _, children = runs_of(whole)
    store, experiment = f"sqlite:///{whole / 'mlflow.db'}", children[0].info.experiment_id
    words = compare_runs(
        store, [entry.info.run_id for entry in children], experiment, tmp_path / "page.png"
    )
    assert "Comparing 2 Runs from 1 Experiment" in words
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in words.splitlines())}
    assert rows["hierarchy.k_scale"] == ["1.0", "2.0"]
    assert rows["network.name"] == ["lite", "lite"]
    # The scores: all names first, then a row of numbers for each.
    lines = words.splitlines()
    block = lines[lines.index("Metrics") + 2 : lines.index("Artifacts")]
    names = [line for line in block if "/" in line]
    numbers = block[len(names) + 2 * names.index("test/per_pixel") :][:2]
    expected = table(whole)["per_pixel"].tolist()
    assert [float(text) for text in numbers] == pytest.approx(expected, abs=1e-3)
    assert (tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.slow
def test_agreement_is_of_the_two_hierarchies(whole: Path) -> None:
    frame = pd.read_csv(whole / "sweeps" / "mine" / "agreement.csv", index_col=0)
    assert frame.shape == (2, 2)
    assert frame.to_numpy().diagonal() == pytest.approx(1)
    assert frame.iloc[0, 1] == pytest.approx(frame.iloc[1, 0])
    assert 0 < frame.iloc[0, 1] < 1


@pytest.mark.slow
def test_a_finished_one_gives_its_results_again_and_runs_nothing(whole: Path, tmp_path, capsys):
    before = table(whole)
    path = written(tmp_path, whole)
    # The recipe's own file lies elsewhere now: not part of what was begun.
    assert run.main(["sweep", str(path), "--resume"]) == 0
    printed = capsys.readouterr()
    assert "2 trials are finished, 0 left" in printed.err
    assert "made in" not in printed.err.replace("reused (made in", "")
    pd.testing.assert_frame_equal(table(whole), before)
    assert len(runs_of(whole)[1]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--resume continues it"),
        (["--resume", "--set", "train.batch_size=2"], "train.batch_size: found 2, begun with 4"),
        (["--resume", "--until", "hierarchy"], "--until: found hierarchy, begun with evaluation"),
        (["--resume", "--name", "other"], "no sweep other was begun"),
        (["--clean", "--name", "other"], "sweep other: there is none"),
    ],
)
def test_what_is_begun_is_not_mixed_with_another(whole, tmp_path, capsys, options, message) -> None:
    assert run.main(["sweep", str(written(tmp_path, whole)), *options]) == 2
    assert message in capsys.readouterr().err
    assert len(runs_of(whole)[1]) == 2


def test_what_can_never_run_is_reported_before_anything_is_made(cluster, tmp_path, capsys) -> None:
    path = written(tmp_path, tmp_path / "storage")
    command = ["sweep", str(path), "--set", "train.batch_size=64", "--set", "train.workers=50"]
    assert run.main(command) == 2
    assert "train.workers = 50: needs 45 CPUs, the cluster has 4" in capsys.readouterr().err
    assert not (tmp_path / "storage" / "stages").exists()


def test_hierarchies_alone(cluster: None, tmp_path: Path, capsys) -> None:
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    assert run.main(["sweep", str(path), "--until", "hierarchy", "--json"]) == 0
    out = capsys.readouterr().out
    trials = json.loads(out.splitlines()[-1])["trials"]
    assert [trial["scores"] for trial in trials] == [{}] * 2
    assert 0 < trials[0]["subclasses"] < trials[1]["subclasses"]
    assert not (storage / "stages" / "model").exists()
    assert run.main(["sweep", str(path), "--clean"]) == 0
    assert "mine: deleted, 0 runs closed" in capsys.readouterr().out
    assert not (storage / "sweeps" / "mine").exists()
    assert (storage / "stages" / "hierarchy").exists()


def pretended_run(
    config: Config, name: str, tags: Mapping[str, str], run_id: str | None, *_: object
) -> Any:
    """All of a trial but its training: the second one fails."""
    storage = Storage(config.storage)
    with tracked(config, storage, "synthetic", name, tags=tags, run_id=run_id) as tracker:
        stages = Stages(storage)
        stages.make(HIERARCHY, config)
        if config.hierarchy.k_scale == 2:
            raise UserError("no second trial")
    evaluation = SimpleNamespace(scores=scores(np.array([[6, 2], [1, 3]])))
    return SimpleNamespace(stages=stages, evaluation=evaluation, tracker=tracker, report="")


_trial = tune_trials._trial


def without_training(*arguments: Any, **named: Any) -> None:
    """A trial in its own process."""
    tune_trials.run_one = pretended_run  # type: ignore[assignment]
    _trial(*arguments, **named)


def test_a_trial_that_fails_is_named_and_the_others_stay(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tune_trials, "_trial", without_training)
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    records, kept = storage / "sweeps" / "mine" / "trials", ""
    for resume in ([], ["--resume"]):
        assert run.main(["sweep", str(path), *resume]) == 1
        printed = capsys.readouterr().err
        assert ("1 trials are finished, 1 left" in printed) == bool(resume)
        assert "lhs: 1 of 2 trials failed:" in printed
        assert "trial 2 (k_scale=2.0): no second trial" in printed
        frame = pd.read_csv(storage / "sweeps" / "mine" / "summary.csv")
        assert frame["number"].tolist() == [1, 2]
        assert frame["per_pixel"].tolist() == [0.75, pytest.approx(math.nan, nan_ok=True)]
        assert frame["error"][1] == "no second trial"
        assert "1 failed" in (storage / "sweeps" / "mine" / "sweep.html").read_text()
        # What is finished is not run again.
        assert kept in ("", (records / "001.json").read_text())
        kept = (records / "001.json").read_text()
    parent, children = runs_of(storage)
    assert [one.info.status for one in [parent, *children]] == ["FAILED", "FINISHED", "FAILED"]


DIVERGING = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="mine", recipe={recipe!r}, trials=[
    {{"train.hierarchical.learned_w.learning_rate": 0.002}},
    {{"train.hierarchical.learned_w.learning_rate": 1e12}},
    {{"train.hierarchical.learned_w.learning_rate": 0.001}},
])
"""


@pytest.mark.slow
def test_a_trial_that_diverges_is_named_and_the_others_are_finished(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    path.write_text(DIVERGING.format(recipe=str(tmp_path / "tiny.yaml")))
    command = ["sweep", str(path), "--set", "train.optimizer=sgd", "--set", "train.schedule=steps"]
    reason = "lower train.hierarchical.learned_w.learning_rate (1e+12 now)"
    for resume in ([], ["--resume"]):
        assert run.main([*command, *resume]) == 1
        printed = capsys.readouterr().err
        assert "lhs: 1 of 3 trials failed:" in printed
        assert "trial 2 (learning_rate=1000000000000.0): the training diverged" in printed
        assert reason in printed
        frame = pd.read_csv(storage / "sweeps" / "mine" / "summary.csv")
        assert frame["number"].tolist() == [1, 2, 3]
        assert frame["per_pixel"].notna().tolist() == [True, False, True]
        assert reason in frame["error"][1]
        page = (storage / "sweeps" / "mine" / "sweep.html").read_text()
        assert "3 trials of" in page
        assert "1 failed" in page
        assert reason in page
    parent, children = runs_of(storage)
    assert [entry.info.status for entry in [parent, *children]] == [
        "FAILED", "FINISHED", "FAILED", "FINISHED",
    ]  # fmt: skip


# Kills


def started(path: Path, storage: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "lhs.run", "sweep", str(path), *options],
        env={**environment, "LHS_STORAGE": str(storage), "RAY_AUTH_MODE": "disabled"},
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def waited(process: subprocess.Popen[bytes], until: Any, seconds: float = 500) -> None:
    limit = time.monotonic() + seconds
    while not until():
        assert process.poll() is None, "ended too early"
        if time.monotonic() > limit:
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"not so far after {seconds:.0f} s")
        time.sleep(0.05)


def trial_process(driver: int) -> psutil.Process | None:
    """The process that runs a trial in the driver's own cluster."""
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if "ImplicitFunc" in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_twice_and_a_trial_once_it_ends_as_undisturbed(whole: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    records = storage / "sweeps" / "mine" / "trials"
    training = storage / "stages" / "model"
    # One after the other, so that one is left when the other has ended.
    order = ("--trials-at-once", "1")
    first = started(path, storage, *order)
    waited(first, lambda: list(training.glob(".unfinished-*")) and trial_process(first.pid))
    found = trial_process(first.pid)
    assert found is not None
    found.send_signal(signal.SIGKILL)
    waited(first, (records / "001.json").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = started(path, storage, *order, "--resume")
    waited(second, lambda: list(training.glob(".unfinished-*")))
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    parent, children = runs_of(storage)
    assert {entry.info.status for entry in [parent, *children]} >= {"RUNNING", "FINISHED"}
    done = {file.name: file.read_text() for file in records.glob("00?.json")}
    assert list(done) == ["001.json"]
    assert started(path, storage, "--resume").wait(timeout=300) == 0
    pd.testing.assert_frame_equal(table(storage), table(whole))
    for name, text in done.items():
        assert (records / name).read_text() == text
    parent, children = runs_of(storage)
    assert [entry.info.status for entry in [parent, *children]] == ["FINISHED"] * 3


@pytest.mark.slow
def test_two_at_once_on_one_storage_make_a_stage_once(cluster: None, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    path = written(tmp_path, storage)
    options = ("--until", "hierarchy", "--name")
    both = [started(path, storage, *options, name) for name in ("one", "two")]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    tables = [
        pd.read_csv(storage / "sweeps" / name / "summary.csv").drop(columns="run_id")
        for name in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*tables)
    seconds = [
        [json.loads(path.read_text())["seconds"] for path in sorted((storage / "sweeps" / name /
         "trials").glob("*.json"))] for name in ("one", "two")
    ]  # fmt: skip
    # Both name the one result, by what it cost when it was made.
    assert seconds[0] == seconds[1]
    made = {
        name: len([key for key in (storage / "stages" / name).iterdir() if key.name[0] != "."])
        for name in ("scenes", "samples", "histograms", "hierarchy")
    }
    assert made == {"scenes": 1, "samples": 1, "histograms": 1, "hierarchy": 2}
