"""The commands that need Ray or a trained model, called as the command line calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhs.engine.pipeline import Outcome
from lhs.run import main
from tests.data.builders import plain, save_image, save_labels, stripes
from tests.engine.conftest import stage, tiny

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
