"""What MLflow has of a run, in a real SQLite store, without Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

import lhs
from lhs.cli.parser import parser
from lhs.config import Config
from lhs.data import Dataset
from lhs.engine import pipeline
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.storage import Storage
from lhs.engine.tracking import machine
from lhs.engine.tracking import tracker as tracker_module
from lhs.engine.tracking.metrics import (
    change_metrics,
    class_metrics,
    log_dataset,
    log_outcome,
    log_score_first,
    log_training,
    mean_of,
)
from lhs.engine.tracking.parameters import origin_tags, parameters
from lhs.engine.tracking.registry import registered_name
from lhs.engine.tracking.summary import compare_lines, print_summary
from lhs.engine.tracking.tracker import Tracker, tracked, workers_reach
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.metrics import scores
from lhs.evaluation.model import save_model
from lhs.loading import build_config
from lhs.networks.build import build_network
from lhs.report.statistics import Difference
from tests.browser import mlflow_ui, needs_chromium, opened
from tests.data.test_progress import Terminal
from tests.engine.conftest import tiny
from tests.engine.tracking.test_reporting import Plain

pytestmark = pytest.mark.thorough
CLASSES = ("sky", "sea/lake", "sea:lake", "c++")
COUNTS = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """With a tiny model, as a stage leaves it."""
    made = Storage(str(tmp_path_factory.mktemp("runs")))
    config = build_config({"network": {"channels": 8, "weights": "none"}}).network
    torch.manual_seed(0)
    description = ModelDescription(
        network=config, strategy="baseline", dataset="toy", classes=("sky", "sea", "sand"),
        colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)), outputs=3, hierarchy_digest=None,
    )  # fmt: skip
    model = Path(made.path("stages", "model", "k1", "model"))
    model.mkdir(parents=True)
    save_model(model, build_network(config, 3), description)
    rows = [
        {"step": n, "phase": phase, "epoch": 1, "loss": loss, "learning_rate": 0.1, "seconds": 1.0,
         "waited": 0.0}
        for n, (phase, loss) in enumerate(
            [("subclass_all_layers", 4.0), ("class_last_layer", 1.0), ("class_last_layer", 2.0)], 1
        )
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(model.parent / "history.parquet")
    return made


@pytest.fixture
def config(storage: Storage) -> Config:
    return tiny(storage.root, train__strategy="sequential", description="what it is")


@pytest.fixture
def run(storage: Storage, config: Config) -> Iterator[Tracker]:
    with tracked(config, storage, "toy", "mine", tags={"own": "tag"}) as tracker:
        yield tracker


def result(storage: Storage, name: str, key: str, reused: bool) -> StageResult:
    return StageResult(name, key, storage.path("stages", name, key), {}, 2.0, reused)


def stages(storage: Storage, *reused: bool, key: str = "k1") -> Stages:
    names = ("scenes", "model", "evaluation")
    done = [result(storage, name, key, one) for name, one in zip(names, reused, strict=True)]
    return Stages(storage, done=done)


def read(tracker: Tracker) -> Any:
    return tracker.client.get_run(tracker.run_id)


def test_a_run_says_what_it_is(run: Tracker, config: Config, monkeypatch: Any) -> None:
    found = read(run).data
    assert found.tags["mlflow.note.content"] == "what it is"
    assert found.tags["own"] == "tag"
    assert found.params == {key: str(value) for key, value in parameters(config).items()}
    monkeypatch.setattr("sys.argv", ["/x/bin/lhs", "run", "demo", "--set", "a=b c"])
    assert origin_tags()["lhs.command"] == "lhs run demo --set 'a=b c'"
    assert "mlflow.note.content" not in origin_tags()
    monkeypatch.setattr("lhs.engine.tracking.parameters.commit", lambda: "ab12, with changes")
    tags = origin_tags()
    assert (tags["mlflow.source.git.commit"], tags["lhs.commit"]) == ("ab12", "ab12, with changes")


H_LC = {
    "data.dataset", "data.synthetic.train", "data.seed", "context.variants", "hierarchy.kind",
    "hierarchy.rho", "hierarchy.region", "hierarchy.k_scale", "network.name", "network.head",
    "train.strategy", "train.alpha", "train.hierarchical.learned_w.epochs", "train.crop_height",
    "evaluation.precision", "unlabelled.mode",
}  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "there", "missing"),
    [
        ({"train": {"strategy": "hierarchical"}}, H_LC,
         {"data.stanford.fold", "data.folder.path", "hierarchy.like", "hierarchy.image_clusters",
          "hierarchy.file", "train.sequential.class_last_layer.epochs", "unlabelled.below",
          "train.baseline.all_layers.epochs", "evaluation.stride", "train.sampling",
          "network.weights_file", "storage", "data.root", "description", "report.scenes",
          "tracking.register", "data.long_side", "train.validate_every"}),
        ({"train": {"strategy": "baseline"}}, {"network.name", "train.baseline.all_layers.epochs"},
         {"hierarchy.kind", "hierarchy.rho", "context.variants", "train.alpha",
          "train.hierarchical.fixed_w.epochs"}),
        ({"train": {"strategy": "sequential"}, "hierarchy": {"kind": "random"}},
         {"hierarchy.like", "hierarchy.region", "hierarchy.seed"}, {"hierarchy.image_clusters"}),
        ({"data": {"dataset": "stanford"}, "network": {"name": "squeezenet"}},
         {"data.stanford.fold", "evaluation.stride", "train.sampling"},
         {"data.synthetic.train", "train.crop_height", "train.flip"}),
    ],
)  # fmt: skip
def test_parameters_are_the_settings_that_a_run_uses(
    tree: dict[str, Any], there: set[str], missing: set[str]
) -> None:
    found = parameters(build_config(tree))
    assert there <= set(found)
    assert not missing & set(found)


def test_the_dataset_is_logged_with_its_digest(run: Tracker, storage: Storage) -> None:
    path = storage.path("stages", "scenes", "k1")
    storage.make_folder(path)
    storage.write_json(f"{path}/{SUCCESS}", {"inputs": {"dataset": "0123456789" * 6}})
    scenes = [Plain(id=str(n), split=split, num_classes=2)
              for n, split in enumerate(["train", "train", "test"])]  # fmt: skip
    dataset = Dataset("toy", ("a", "b"), scenes)
    log_dataset(run, storage, CheckedScenes(dataset, path, np.ones(2), {}))
    (given,) = read(run).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("toy", ("0123456789" * 6)[:32])
    assert json.loads(given.dataset.profile) == {"train": 2, "test": 1, "classes": 2}
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]


def test_scores_of_classes_have_names_that_mlflow_takes(run: Tracker, storage: Storage) -> None:
    found = scores(COUNTS)
    log_outcome(run, "mine", found, CLASSES, stages(storage, True, True, False, key="k0"))
    metrics = read(run).data.metrics
    assert metrics["test/per_pixel"] == pytest.approx(10 / 14)
    # Both seas would have the same name; the second has no pixel in the test images.
    assert {key: value for key, value in metrics.items() if key.startswith("class_")} == {
        "class_accuracy/sky": 6 / 8, "class_accuracy/sea_lake 1": 3 / 4, "class_accuracy/c__": 0.5,
        "class_iou/sky": 6 / 10, "class_iou/sea_lake 1": 3 / 6, "class_iou/c__": 0.5,
    }  # fmt: skip
    assert read(run).data.tags["lhs.reused"] == "scenes, model"
    assert read(run).info.run_name == "mine"
    assert set(class_metrics(found, ("x" * 300, "y", "z", "w"))) >= {"class_iou/" + "x" * 200}


def test_the_score_stays_before_what_is_logged_of_the_machine(
    run: Tracker, storage: Storage
) -> None:
    """MLflow's page that compares runs opens on the metric that its store gives first."""
    log_score_first(run)
    assert math.isnan(read(run).data.metrics["test/per_pixel"])
    run.metrics({"system/cpu_utilization_percentage": 50.0}, step=3)
    log_outcome(
        run, "mine", scores(COUNTS), CLASSES, stages(storage, False, False, False, key="k9")
    )
    metrics = read(run).data.metrics
    assert next(iter(metrics)) == "test/per_pixel"
    assert metrics["test/per_pixel"] == pytest.approx(10 / 14)


def test_changes_have_their_intervals(run: Tracker) -> None:
    nan = float("nan")
    run.metrics(
        change_metrics({"per_pixel": Difference(0.1, 0.05, 0.2, nan, 9),
                        "mean_iou": Difference(-0.1, nan, nan, nan, 1)})
    )  # fmt: skip
    assert read(run).data.metrics == {
        "change/per_pixel": 0.1, "change/per_pixel.low": 0.05, "change/per_pixel.high": 0.2,
        "change/mean_iou": -0.1,
    }  # fmt: skip


def test_a_run_that_reused_everything_does_not_look_like_the_first(
    storage: Storage, config: Config
) -> None:
    first = []
    for reused in ((False, False, False), (True, True, True), (True, True, True)):
        with tracked(config, storage, "twins", "mine") as tracker:
            log_outcome(tracker, "mine", scores(COUNTS), CLASSES, stages(storage, *reused))
        first.append(tracker)
    one, two, three = (read(tracker) for tracker in first)
    assert (one.info.run_name, one.data.tags["lhs.reused"]) == ("mine", "none")
    for again in (two, three):
        assert again.info.run_name == "mine (reused)"
        assert again.data.tags["lhs.reused"] == "everything"
        assert again.data.tags["lhs.same_as"] == one.info.run_id
        assert again.data.metrics == one.data.metrics


def test_the_losses_of_the_steps_of_s_and_of_h_have_names_of_their_own() -> None:
    rows = [{"phase": phase, "loss": loss, "learning_rate": 0.1, "seconds": 1.0, "waited": 0.0}
            for phase, loss in [("subclass_all_layers", 4.0), ("class_last_layer", 1.0),
                                ("class_last_layer", 2.0)]]  # fmt: skip
    train = build_config({"train": {"strategy": "sequential"}}).train
    found = mean_of(rows, train)
    assert {k: v for k, v in found.items() if "loss" in k} == {
        "subclass_loss": 4.0, "class_loss": 1.5,
    }  # fmt: skip
    rows = [{**rows[0], "phase": "fixed_w"}]
    train = build_config({"train": {"strategy": "hierarchical"}}).train
    assert {k for k in mean_of(rows, train) if "loss" in k} == {"joint_loss"}


# The model


@pytest.mark.parametrize(
    ("uri", "place", "nodes", "reached"),
    [
        ("sqlite:////home/me/mlflow.db", "s3://bucket/lhs", 2, False),
        ("sqlite:////home/me/mlflow.db", "s3://bucket/lhs", 1, True),
        ("http://10.0.0.5:5000", "s3://bucket/lhs", 2, True),
        ("sqlite:////mnt/all/mlflow.db", "/mnt/all", 2, True),
        ("sqlite:////home/me/mlflow.db", "/mnt/all", 2, False),
    ],
)
def test_workers_reach_a_server_or_a_file_that_their_node_has(
    uri: str, place: str, nodes: int, reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "cluster_nodes", lambda: [{"CPU": 2.0}] * nodes)
    storage: Any = SimpleNamespace(local="://" not in place, root=place)
    assert workers_reach(uri, storage) == reached


@pytest.mark.parametrize("live", [True, False])
def test_a_training_has_the_tracker_where_workers_reach_it(
    live: bool, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run as far as its `Stages`: nothing is made."""
    run: Any = SimpleNamespace(uri="uri")

    class Reached(Exception):
        """Where the run ends."""

    def stages(storage: Storage, tracker: Any, callbacks: Any) -> None:
        raise Reached(tracker)

    monkeypatch.setattr(pipeline, "trainings_that_fit", lambda config: 1)
    monkeypatch.setattr(pipeline, "tracked", lambda *_, **more: contextlib.nullcontext(run))
    monkeypatch.setattr(pipeline, "log_score_first", lambda tracker: None)
    monkeypatch.setattr(pipeline, "workers_reach", lambda uri, storage: live and uri == "uri")
    monkeypatch.setattr(pipeline, "Stages", stages)
    with pytest.raises(Reached) as told:
        pipeline.run_one(config, "mine")
    assert told.value.args == ((run if live else None),)


def test_a_model_has_an_example_and_requirements_and_is_registered_once(
    run: Tracker, storage: Storage, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lhs")
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    model = result(storage, "model", "k1", True)
    log_training(run, storage, model, config, image)
    client = run.client
    assert client.search_registered_models() == []
    history = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.run_id, name)]
        for name in ("train/subclass_loss", "train/class_loss")
    }
    assert history == {"train/subclass_loss": [(3, 4.0)], "train/class_loss": [(3, 1.5)]}

    # Of a model that was trained now, they were logged by its workers.
    with tracked(config, storage, "synthetic", "live") as live:
        log_training(live, storage, dataclasses.replace(model, reused=False), config, image)
    assert client.get_metric_history(live.run_id, "train/class_loss") == []
    # Unless these did not reach the store.
    with tracked(config, storage, "synthetic", "late") as late:
        trained = dataclasses.replace(model, reused=False)
        log_training(late, storage, trained, config, image, live=False)
    [point] = client.get_metric_history(late.run_id, "train/class_loss")
    assert (point.step, point.value) == (3, 1.5)

    asked = config.model_copy(update={"tracking": type(config.tracking)(register=True)})
    for _ in range(2):
        log_training(run, storage, model, asked, image)
    name = registered_name(asked)
    assert name == "lhs-synthetic-lite"
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (str(version.version), version.tags["lhs.model"]) == ("1", "k1")
    assert f"registered already: {name}, version 1" in caplog.messages

    mlflow.set_tracking_uri(run.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
        example = loaded.input_example
        folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/model"))
    finally:
        mlflow.set_tracking_uri(None)
    np.testing.assert_array_equal(example, image[None, :64, :64])
    expected = lhs.load(f"{model.path}/model").predict(image[:64, :64]).label_map
    np.testing.assert_array_equal(loaded.predict(example)[0], expected)
    needed = (folder / "requirements.txt").read_text().split()
    assert f"lhs=={lhs.__version__}" in needed
    assert f"torch=={torch.__version__.partition('+')[0]}" in [
        line.partition("+")[0] for line in needed
    ]


def test_names_of_models_are_such_that_mlflow_takes() -> None:
    for network, name in (("timm:resnet18", "timm-resnet18"), ("smp:unet", "smp-unet-on-")):
        config = build_config({"network": {"name": network, "weights": "none"}})
        assert registered_name(config).startswith(f"lhs-synthetic-{name}")
        assert not set(registered_name(config)) & set("/: ")


# The machine, and the address


def test_use_of_the_machine_is_logged_of_runs_that_last(
    storage: Storage, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MONITORED_AFTER", 0.05)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with tracked(config, storage, "toy", "long") as tracker:
        time.sleep(1.5)
    found = read(tracker).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        found
    )
    monkeypatch.setattr(machine, "MONITORED_AFTER", 5.0)
    with tracked(config, storage, "toy", "short") as tracker:
        pass
    assert read(tracker).data.metrics == {}


def test_the_printed_address_is_that_of_the_experiment_s_runs(run: Tracker) -> None:
    experiment = read(run).info.experiment_id
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert compare_lines(run) == [
        f"compare   mlflow ui --backend-store-uri {run.uri}",
        f"          then open http://127.0.0.1:5000{page}",
    ]
    tags = run.client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.slow
@needs_chromium
def test_the_printed_address_opens_on_the_runs(run: Tracker) -> None:
    page_of = compare_lines(run)[-1].partition("http://127.0.0.1:5000")[2]
    with mlflow_ui(run.uri) as address, opened() as page:
        page.goto(address + page_of)
        page.get_by_text("mine").first.wait_for(timeout=60_000)
        assert "Run Name" in page.inner_text("body")


def outcome(run: Tracker, storage: Storage, config: Config) -> Any:
    found = SimpleNamespace(scores=scores(COUNTS))
    return SimpleNamespace(
        config=config, name="mine", stages=stages(storage, True, False, False), hierarchy=None,
        model=result(storage, "model", "k1", False), evaluation=found, baseline=found, tracker=run,
        report="/there/report.html",
    )  # fmt: skip


def test_the_end_of_a_run_names_the_next_three_commands(
    run: Tracker, storage: Storage, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["train.seed=0", "network.channels=8"]
    print_summary([outcome(run, storage, config)], "demo", typed)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{'':<18}{'baseline':>14}{'sequential':>14}"
    assert lines[2] == f"{'per_pixel':<18}{10 / 14:>14.4f}{10 / 14:>14.4f}"
    assert "scenes        reused      2.0 s" in lines
    assert lines[-3:] == [
        f'next      lhs predict {storage.path("stages", "model", "k1", "model")} "photos/*.jpg" '
        "--out labelled",
        f"next      lhs report {run.run_id} --storage {storage.root}",
        "next      lhs run demo --set network.channels=8 --set train.seed=1",
    ]
    for line in lines[-3:]:
        parser().parse_args(shlex.split(line.removeprefix("next"))[1:])


def test_a_terminal_shows_drawn_tables(
    run: Tracker, storage: Storage, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stdout", shown)
    print_summary([outcome(run, storage, config)], "demo", [])
    lines = [line.split() for line in shown.getvalue().splitlines()]
    assert ["per_pixel", "0.7143", "0.7143"] in lines
    assert ["model", "made", "2.0", "s"] in lines
    assert any("─" in line for line in shown.getvalue().splitlines())


# A storage that was moved


def test_a_moved_storage_goes_on_in_its_new_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    from lhs.cli.main import main

    caplog.set_level(logging.INFO, logger="lhs")
    old, new = tmp_path / "old place", tmp_path / "new place"
    file = tmp_path / "file.txt"
    file.write_text("here")

    def begun(root: Path, name: str, run_id: str | None = None) -> Tracker:
        with tracked(tiny(root), Storage(str(root)), "toy", name, run_id=run_id) as tracker:
            tracker.client.log_artifact(tracker.run_id, str(file))
        return tracker

    before, unfinished = begun(old, "before"), begun(old, "unfinished")
    assert not caplog.messages
    shutil.move(old, new)
    _artifact_repos_cache.clear()  # as in another process
    after, again = begun(new, "after"), begun(new, "unfinished", unfinished.run_id)
    assert not old.exists()
    (message,) = caplog.messages
    assert f"the runs in {new} were moved here from {old}" in message
    assert f"`lhs mend --storage {new}`" in message
    place = (new / "mlartifacts").as_uri()
    for tracker in (after, again):
        assert read(tracker).info.artifact_uri.startswith(place)
        assert [f.path for f in tracker.client.list_artifacts(tracker.run_id)] == ["file.txt"]
    client = after.client
    assert client.get_run(before.run_id).info.artifact_uri.startswith((old).as_uri())

    assert main(["mend", "--storage", str(new)]) == 0
    assert capsys.readouterr().out.startswith("mended    1 run")
    assert client.get_run(before.run_id).info.artifact_uri.startswith(place)
    assert [f.path for f in client.list_artifacts(before.run_id)] == ["file.txt"]
    assert main(["mend", "--storage", str(new)]) == 0
    assert capsys.readouterr().out.startswith("mended    0 runs")
    begun(new, "later")
    link = tmp_path / "link"
    link.symlink_to(new)
    begun(link, "by a link, which is no move")
    assert len(caplog.messages) == 1
    assert not old.exists()
