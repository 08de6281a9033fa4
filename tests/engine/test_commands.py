"""The commands that need Ray or a trained model, called as the command line calls them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from lhs.engine.pipeline import Outcome
from lhs.run import main
from tests.data.builders import plain, save_image, save_labels, stripes
from tests.engine.conftest import isolated, stage, tiny

pytestmark = pytest.mark.ray

SCORES = {"per_pixel", "per_class", "per_class_over_L", "mean_iou"}


@pytest.fixture
def recipe(finished: list[Outcome], folder: Path, tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(tiny(folder).yaml())
    return str(path)


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[str, Any]:
    out = capsys.readouterr().out
    *text, last = out.rstrip("\n").split("\n")
    return "\n".join(text), json.loads(last)


def test_run_json(recipe: str, finished: list[Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", recipe, "--json"]) == 0
    text, tree = last_line(capsys)
    before, after = finished
    assert tree["name"] == "small"
    assert tree["strategy"] == "hierarchical"
    assert tree["seed"] == 0
    assert set(tree["scores"]) >= SCORES
    assert tree["scores"]["per_pixel"] == pytest.approx(after.evaluation.scores.per_pixel)
    baseline = tree["baseline"]
    assert baseline["scores"]["per_pixel"] == pytest.approx(before.evaluation.scores.per_pixel)
    assert baseline["name"] == "small-baseline"
    assert len(tree["run_id"]) == 32
    assert tree["run_id"] != baseline["run_id"]
    for path in tree["paths"].values():
        assert Path(path).exists()
    assert baseline["paths"]["hierarchy"] is None
    names = ["scenes", "samples", "histograms", "hierarchy", "model", "evaluation"]
    assert list(tree["seconds"]) == tree["reused"] == names
    assert all(seconds > 0 for seconds in tree["seconds"].values())
    # For people: both side by side.
    lines = {line.split()[0]: line.split()[1:] for line in text.split("\n") if line.strip()}
    assert lines["baseline"] == ["hierarchical"]
    assert lines["per_pixel"] == [
        f"{outcome.evaluation.scores.per_pixel:.4f}" for outcome in finished
    ]
    assert lines["report"] == [tree["paths"]["report"]]


def test_hierarchy_json(recipe: str, outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hierarchy", recipe, "--json"]) == 0
    _, tree = last_line(capsys)
    assert outcome.hierarchy is not None
    facts = outcome.hierarchy.facts
    for key in ("common_classes", "subclasses", "subclasses_per_class", "digest"):
        assert tree[key] == facts[key]
    samples = stage(outcome.stages, "samples").facts
    assert tree["samples"] == samples["samples"]
    assert tree["mean_superpixel_size"] == samples["mean_superpixel_size"]
    assert list(tree["seconds"]) == ["scenes", "samples", "histograms", "hierarchy"]
    assert sum(tree["subclasses_per_class"].values()) <= tree["subclasses"]
    entries = json.loads(Path(tree["path"]).read_text())["subclasses"]
    assert all(entry["title"] for entry in entries)
    page = Path(tree["page"]).read_text()
    assert tree["digest"] in page
    assert all(entry["title"] in page for entry in entries)


def test_evaluate_json(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    data = outcome.config.data.synthetic
    sets = [
        text
        for key in ("train", "test", "height", "width")
        for text in ("--set", f"data.synthetic.{key}={getattr(data, key)}")
    ]
    model = f"{outcome.model.path}/model"
    assert main(["evaluate", model, "--dataset", "synthetic", "--json", *sets]) == 0
    _, tree = last_line(capsys)
    np.testing.assert_array_equal(tree["counts"], outcome.evaluation.counts)
    assert set(tree) >= SCORES


@pytest.mark.slow
def test_evaluate_leaves_bad_images_out_where_the_setting_says_so(
    outcome: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = outcome.scenes.dataset.classes
    names = [f"image_{number}" for number in range(4)]
    root = plain(tmp_path / "photos", names, classes=classes, splits={"test": names[1:]})
    (root / "images" / "image_1.png").write_bytes(b"no picture")
    command = ["evaluate", f"{outcome.model.path}/model", "--dataset", "folder", "--json",
               "--set", f"data.folder.path={root}"]  # fmt: skip
    assert main(command) == 2
    assert "image_1.png: unreadable image" in capsys.readouterr().err
    assert main([*command, "--set", "data.on_bad_image=skip"]) == 0
    _, tree = last_line(capsys)
    assert np.sum(tree["counts"]) == 2 * stripes().size
    for name in names[2:]:
        save_labels(root, name, np.full((12, 16), 255))
    assert main([*command, "--set", "data.on_bad_image=skip"]) == 2
    assert "no pixel of the 3 test images carries a label" in capsys.readouterr().err


def test_report_and_predict(
    outcome: Outcome, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", outcome.tracker.run_id, "--storage", str(folder)]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert main(["report", "nosuch", "--storage", str(folder)]) == 2
    assert "lhs: run 'nosuch' is not in" in capsys.readouterr().err
    image = save_image(tmp_path / "x.jpg")
    out = tmp_path / "out"
    assert main(["predict", outcome.model.path, str(image), "--out", str(out)]) == 0
    assert (out / "x.png").is_file()
    assert main(["predict", str(tmp_path), str(image), "--out", str(out)]) == 2
    assert "not a model" in capsys.readouterr().err


def test_mistakes_that_workers_find(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = plain(tmp_path / "wrong", splits={"test": ["town_2"]})
    save_labels(root, "beach_2", stripes(height=9))
    config = tiny(tmp_path / "storage", data={"dataset": "folder", "folder": {"path": str(root)}})
    (tmp_path / "x.yaml").write_text(config.yaml())
    for command in ("hierarchy", "run"):
        assert main([command, str(tmp_path / "x.yaml")]) == 2
        printed = capsys.readouterr().err
        assert "lhs: wrong: 1 bad images:" in printed
        assert "beach_2.png" in printed
        assert "Traceback" not in printed


NO_RAY = """
import json, sys
import ray
def init(*arguments, **named):
    raise AssertionError("Ray starts")
ray.init = init
from lhs.run import main
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
    print("== done ==")
"""
AFTER = "== done =="


def test_what_is_finished_needs_no_ray(
    recipe: str, finished: list[Outcome], tmp_path: Path
) -> None:
    """A run that reuses everything, its plan, the hierarchy alone, and a few images."""
    image = save_image(tmp_path / "x.png")
    model = finished[-1].model.path
    commands = {
        "per_pixel": ["run", recipe],
        "is there": ["run", recipe, "--plan"],
        "common classes": ["hierarchy", recipe],
        "1 images labelled": ["predict", model, str(image), "--out", str(tmp_path / "out")],
    }
    done = subprocess.run(
        [sys.executable, "-c", NO_RAY, json.dumps(list(commands.values()))],
        env=isolated(CUDA_VISIBLE_DEVICES=""),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for least, printed in zip(commands, done.stdout.split(AFTER), strict=False):
        assert least in printed


def interrupted(
    command: list[str],
    begun: Callable[[str], bool],
    log: Path,
    *,
    by: signal.Signals = signal.SIGINT,
    **variables: str,
) -> tuple[int, str]:
    """Send SIGINT to a command's whole process group, as a terminal does on Ctrl-C, or SIGTERM to
    the command alone, once `begun` says so of what it printed."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lhs", *command], env=isolated(**variables),
            start_new_session=True, stdout=file, stderr=subprocess.STDOUT,
            # Where the tests run in the background, a child would inherit that SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    limit = time.monotonic() + 200
    try:
        while not begun(log.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.05)
        if by is signal.SIGINT:
            os.killpg(process.pid, by)
        else:
            process.send_signal(by)
        return process.wait(timeout=60), log.read_text()
    finally:
        # One that was not stopped would take its cores from all other tests.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def states(storage: Path) -> list[str]:
    """The states of all runs in a storage's MLflow."""
    client = mlflow.MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(places)]


@pytest.mark.parametrize(
    ("moment", "by"),
    [
        pytest.param("scenes", signal.SIGINT, marks=pytest.mark.slow),
        ("training", signal.SIGINT),
        pytest.param("training", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("evaluation", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_stopped(moment: str, by: signal.Signals, tmp_path: Path) -> None:
    """By Ctrl-C or SIGTERM: while files are read, in Ray Train, and after it."""
    storage = tmp_path / "storage"
    config = tiny(
        storage, report__baseline="none", train__strategy="baseline", train__checkpoint_steps=1,
        train__max_steps=12 if moment == "evaluation" else None,
        train__baseline__all_layers__steps=100_000,
    )  # fmt: skip
    path = tmp_path / "x.yaml"
    path.write_text(config.yaml())
    sign = {"scenes": "14 classes", "training": "scenes: made", "evaluation": "model: made"}[moment]

    def begun(printed: str) -> bool:
        checkpoints = list((storage / "stages" / "model").glob(".unfinished-*/*"))
        return sign in printed and (moment != "training" or bool(checkpoints))

    code, printed = interrupted(["run", str(path)], begun, tmp_path / "log", by=by)
    assert code == 130, printed
    assert printed.endswith("lhs: stopped; the same command goes on\n")
    assert "Traceback" not in printed
    assert states(storage) == ["KILLED"]


SWEEP = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="mine", recipe={recipe!r}, trials=[{{"train.seed": 0}}, {{"train.seed": 1}}])
"""


@pytest.mark.slow
def test_ctrl_c_in_a_sweep(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    config = tiny(
        storage, report__baseline="none", train__strategy="baseline", train__max_steps=None,
        train__baseline__all_layers__steps=100_000,
    )  # fmt: skip
    (tmp_path / "x.yaml").write_text(config.yaml())
    (tmp_path / "mine.py").write_text(SWEEP.format(recipe=str(tmp_path / "x.yaml")))
    command = ["sweep", str(tmp_path / "mine.py"), "--trials-at-once", "1"]
    code, printed = interrupted(command, lambda text: "[1 " in text, tmp_path / "log")
    assert code == 130, printed
    assert printed.endswith("lhs: stopped; the same command with --resume goes on\n")
    assert "Traceback" not in printed
    assert set(states(storage)) == {"KILLED"}


@pytest.mark.slow
def test_ctrl_c_in_a_prediction(outcome: Outcome, tmp_path: Path) -> None:
    for number in range(200):
        save_image(tmp_path / "in" / f"{number}.png")
    out = tmp_path / "out"
    command = ["predict", outcome.model.path, str(tmp_path / "in"), "--out", str(out)]
    code, printed = interrupted(
        command, lambda _: len(list(out.glob("*_overlay.png"))) > 3, tmp_path / "log"
    )
    assert code == 130, printed
    assert printed.endswith("lhs: stopped; the same command goes on\n")
    assert "Traceback" not in printed
    assert main(command) == 0


@pytest.mark.slow
def test_a_sweep_s_hierarchies_of_a_baseline(cluster: None, tmp_path: Path) -> None:
    """The same that `lhs hierarchy` makes."""
    config = tiny(tmp_path / "storage", report__baseline="none", train__strategy="baseline")
    (tmp_path / "x.yaml").write_text(config.yaml())
    (tmp_path / "mine.py").write_text(
        SWEEP.format(recipe=str(tmp_path / "x.yaml")).replace("train.seed", "hierarchy.seed")
    )
    assert main(["sweep", str(tmp_path / "mine.py"), "--until", "hierarchy"]) == 0
    made = tmp_path / "storage" / "stages"
    assert not (made / "model").exists()
    keys = {path.name for path in (made / "hierarchy").iterdir() if not path.name.startswith(".")}
    assert len(keys) == 2
    assert main(["hierarchy", str(tmp_path / "x.yaml")]) == 0
    assert {p.name for p in (made / "hierarchy").iterdir() if not p.name.startswith(".")} == keys
