"""A model over a few images without Ray."""

from __future__ import annotations

import csv
import dataclasses
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.engine.inference import prediction
from lhs.engine.inference.prediction import predict_files
from lhs.engine.inference.tta import PredictOptions
from lhs.engine.runtime import cluster as ray_cluster
from lhs.engine.runtime.model_pool import in_this_process
from lhs.evaluation.model import save_model
from tests.data.builders import noise_image, save_image
from tests.engine.runtime.test_model_pool import Note
from tests.evaluation.test_export import model_of


@pytest.fixture
def not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of `connected` on a machine without GPUs, before anything needs Ray."""
    monkeypatch.setattr(ray_cluster, "_later", ExitStack())

    def start() -> None:
        raise AssertionError("Ray starts")

    monkeypatch.setattr(ray_cluster, "_init", start)


def test_the_steps_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "b2.txt").write_text("before")
    shown: list[int] = []
    items = ["a1", "b2", "bad3", "c4", "d5"]
    rows = in_this_process(Note(str(tmp_path)), items, shown.append, batch=2)
    assert rows == [
        {"name": "a1", "state": "made", "text": "[27, 1]"},
        {"name": "b2", "state": "kept", "text": "before"},
        {"name": "bad3", "state": "failed", "text": "bad3: unreadable"},
        {"name": "c4", "state": "made", "text": "[72, 1]"},
        {"name": "d5", "state": "made", "text": "[135, 1]"},
    ]
    assert shown == [1, 2, 3, 4, 5]


@pytest.mark.thorough
def test_a_few_images_need_no_ray(
    not_started: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of("lite")
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, model.scores.whole, model.description)
    images = {name: noise_image(number, 40, 50) for number, name in enumerate("abc")}
    files = [str(save_image(tmp_path / f"{name}.png", image)) for name, image in images.items()]
    (tmp_path / "bad.png").write_text("no image")
    out = tmp_path / "out"
    assert predict_files(folder, [*files, str(tmp_path / "bad.png")], str(out)) == 2
    assert "3 images labelled, 1 not readable" in capsys.readouterr().out
    for name, image in images.items():
        labels = np.array(Image.open(out / f"{name}.png"))
        np.testing.assert_array_equal(labels, model.predict(image).label_map)
    with (out / "pixels.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} == set("abc")
    assert predict_files(folder, files, str(out)) == 0
    assert "3 images labelled (3 of them before)" in capsys.readouterr().out
    options = PredictOptions(flip=True, probabilities=True)
    assert predict_files(folder, files, str(tmp_path / "flipped"), options) == 0
    assert np.load(tmp_path / "flipped" / "a_probabilities.npy").shape[1:] == (40, 50)


@pytest.mark.thorough
def test_images_are_read_in_the_range_that_the_model_was_trained_with(
    not_started: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, folder = model_of("lite"), tmp_path / "model"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (40, 50), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    save_model(folder, model.scores.whole, model.description)
    assert predict_files(folder, [str(tmp_path / "deep.png")], str(tmp_path / "none")) == 2
    assert "data.folder.range" in caplog.text
    described = dataclasses.replace(model.description, image_range=(0.0, 4095.0))
    save_model(folder, model.scores.whole, described)
    assert predict_files(folder, [str(tmp_path / "deep.png")], str(tmp_path / "out")) == 0
    grey = np.rint(values / 4095 * 255).astype(np.uint8)
    expected = model.predict(np.repeat(grey[:, :, None], 3, axis=2)).label_map
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "deep.png")), expected)


@pytest.mark.thorough
def test_more_images_and_several_models_need_ray(
    not_started: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("lite")
    save_model(tmp_path, model.scores.whole, model.description)
    file = str(save_image(tmp_path / "x.png"))
    with pytest.raises(AssertionError, match="Ray starts"):
        predict_files(tmp_path, [file], str(tmp_path / "out"), workers=2)
    monkeypatch.setattr(prediction, "FEW", 0)
    with pytest.raises(AssertionError, match="Ray starts"):
        predict_files(tmp_path, [file], str(tmp_path / "out"))
