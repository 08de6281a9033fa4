"""`lhs predict` on files."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.context.superpixels import segment
from lhs.engine.inference import prediction
from lhs.engine.inference.prediction import predict_files
from lhs.engine.inference.tta import PredictOptions
from lhs.engine.pipeline import Outcome
from lhs.engine.runtime.model_pool import stored_model
from lhs.engine.stages.evaluation import folder_files, predict_scenes
from lhs.errors import UserError
from lhs.evaluation.model import Model, load_model, save_model
from lhs.report.predicted import panels_of
from tests.data.builders import noise_image, save_image
from tests.engine.conftest import isolated
from tests.evaluation.test_export import model_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def trained(outcome: Outcome) -> Path:
    return Path(outcome.model.path) / "model"


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_model(trained)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Ray has not started: a few images are labelled in this process. Both ways are
    compared in tests/engine/runtime/test_in_this_process.py."""
    monkeypatch.setattr(prediction, "not_started", lambda: True)


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_results_are_those_of_the_model(
    trained: Path,
    model: Model,
    outcome: Outcome,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = outcome.scenes.split("test")[0].image()
    save_image(tmp_path / "in" / "scene.png", scene)
    save_image(tmp_path / "in" / "sub" / "odd.png", noise_image(1, 50, 71))
    out = tmp_path / "new" / "out"
    options = PredictOptions(probabilities=True)
    assert predict_files(trained, [str(tmp_path / "in")], str(out), options) == 0
    assert list(files(out)) == [
        "legend.png", "overview.html", "pixels.csv", "predict.json",
        "scene.png", "scene_overlay.png", "scene_probabilities.npy", "scene_side_by_side.png",
        "sub/odd.png", "sub/odd_overlay.png", "sub/odd_probabilities.npy",
        "sub/odd_side_by_side.png",
    ]  # fmt: skip
    expected = model.predict(scene)
    ids = np.array(Image.open(out / "scene.png"))
    np.testing.assert_array_equal(ids, expected.label_map)
    np.testing.assert_array_equal(np.array(Image.open(out / "scene_overlay.png")), expected.overlay)
    kept = np.load(out / "scene_probabilities.npy")
    np.testing.assert_allclose(kept, expected.probabilities, atol=1e-3)
    assert np.array(Image.open(out / "sub" / "odd.png")).shape == (50, 71)
    assert min(np.array(Image.open(out / "legend.png")).shape[:2]) > 20
    with (out / "pixels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["image"] == "scene"]
    names = Counter(model.classes[label] for label in ids.ravel().tolist())
    assert {row["class"]: int(row["pixels"]) for row in rows} == dict(names)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)
    printed = capsys.readouterr().out
    assert "2 images labelled, 0 not readable" in printed
    assert [line.split(":")[0] for line in printed.splitlines()[:2]] == ["scene", "sub/odd"]
    sure = panels_of((out / "scene_side_by_side.png").read_bytes()).mean
    assert sure == pytest.approx(expected.probabilities.max(axis=0).mean(), abs=0.003)


def test_options_change_what_is_predicted(
    here: None, trained: Path, outcome: Outcome, tmp_path: Path
) -> None:
    from lhs.context.superpixels import segment
    from lhs.evaluation.prediction import average_predictions, vote

    image = outcome.scenes.split("test")[1].image()
    save_image(tmp_path / "scene.png", image)
    options = PredictOptions(flip=True, scales=(0.75, 1.0), superpixels=100)
    assert (
        predict_files(trained, [str(tmp_path / "scene.png")], str(tmp_path / "out"), options) == 0
    )
    mean = average_predictions(load_model(trained).predict, image, flip=True, scales=(0.75, 1.0))
    expected = vote(mean, segment(image, 100)).label_map
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "scene.png")), expected)


def test_an_unreadable_image_is_reported_and_the_others_are_done(
    here: None,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = save_image(tmp_path / "good.jpg")
    cut = save_image(tmp_path / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    out = tmp_path / "out"
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    assert predict_files(trained, [str(cut), str(text), str(good)], str(out)) == 2
    assert "1 images labelled, 2 not readable" in capsys.readouterr().out
    assert f"lhs: {cut}" in caplog.text
    assert str(text) in caplog.text
    assert list(files(out)) == [
        "good.png", "good_overlay.png", "good_side_by_side.png", "legend.png", "overview.html",
        "pixels.csv", "predict.json",
    ]  # fmt: skip


def test_what_is_there_is_kept(
    here: None, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        save_image(tmp_path / "in" / f"{number}.png", noise_image(number, 40, 48))
    out = tmp_path / "out"
    assert predict_files(trained, [str(tmp_path / "in")], str(out)) == 0
    before = files(out)
    for name in ("1.png", "1_overlay.png", "pixels.csv"):
        (out / name).unlink()
    stamps = {name: (out / name).stat().st_mtime_ns for name in ("0.png", "2.png")}
    assert predict_files(trained, [str(tmp_path / "in")], str(out)) == 0
    assert files(out) == before
    assert stamps == {name: (out / name).stat().st_mtime_ns for name in stamps}
    assert "3 images labelled (2 of them before)" in capsys.readouterr().out


def test_an_image_of_the_same_name_is_labelled_anew(
    here: None, trained: Path, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(("day1/good", "day1/other", "day2/good")):
        save_image(tmp_path / f"{name}.png", noise_image(number, 40, 48))
    out = tmp_path / "out"
    assert predict_files(trained, [str(tmp_path / "day1")], str(out)) == 0
    assert not caplog.text
    assert predict_files(trained, [str(tmp_path / "day2/good.png")], str(out)) == 0
    assert "1 label maps" in caplog.text
    assert "replaced: good" in caplog.text
    expected = model.predict(noise_image(2, 40, 48)).label_map
    np.testing.assert_array_equal(np.array(Image.open(out / "good.png")), expected)
    # Both images are in the table, the new one as it is now.
    with (out / "pixels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image"] for row in rows} == {"good", "other"}
    found = {row["class"]: int(row["pixels"]) for row in rows if row["image"] == "good"}
    assert found == Counter(model.classes[label] for label in expected.ravel().tolist())


def test_results_of_another_model_or_other_options_are_not_mixed(
    here: None, trained: Path, tmp_path: Path
) -> None:
    image = str(save_image(tmp_path / "x.png"))
    out = tmp_path / "out"
    assert predict_files(trained, [image], str(out)) == 0
    with pytest.raises(UserError, match=r"holds results with another flip, superpixels"):
        predict_files(trained, [image], str(out), PredictOptions(flip=True, superpixels=50))
    (out / "predict.json").write_text(
        json.dumps({**json.loads((out / "predict.json").read_text()), "model": "0"})
    )
    with pytest.raises(UserError, match="holds results with another model"):
        predict_files(trained, [image], str(out))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x.png", "x_overlay.png"), r"overwrite each other: x_overlay\.png"),
        (("a/x.jpg", "b/x.png"), r"x\.jpg and .*x\.png would overwrite each other: x\.png; label"),
        (("legend.jpg",), r"its result would be legend\.png, which is taken"),
    ],
)
def test_names_that_are_taken(
    trained: Path, tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    images = [str(save_image(tmp_path / name)) for name in names]
    with pytest.raises(UserError, match=message):
        predict_files(trained, images, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_image_is_not_overwritten_by_its_own_labels(trained: Path, tmp_path: Path) -> None:
    image = save_image(tmp_path / "x.png")
    before = image.read_bytes()
    with pytest.raises(UserError, match=r"x\.png is an image to label"):
        predict_files(trained, [str(image)], str(tmp_path))
    assert image.read_bytes() == before


def test_out_is_a_file(trained: Path, tmp_path: Path) -> None:
    image = save_image(tmp_path / "x.png")
    with pytest.raises(UserError, match="a part of the path is a file"):
        predict_files(trained, [str(image)], str(image))


@pytest.mark.slow
def test_killed_half_way_it_ends_as_undisturbed(
    trained: Path, outcome: Outcome, tmp_path: Path
) -> None:
    """The whole process group, driver and actors; two actors. The undisturbed ones run here. Test
    scenes are labelled as the evaluation labelled them, with twice as many threads."""
    scenes = outcome.scenes.split("test")
    for scene in scenes:
        save_image(tmp_path / "in" / f"{scene.id}.png", scene.image())
    for number in range(40 - len(scenes)):
        save_image(tmp_path / "in" / f"{number:02}.png", noise_image(number, 100, 120))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "lhs.run", "predict", str(trained), str(tmp_path / "in"),
             "--out", str(out), "--workers", "2"],
            env=isolated(), start_new_session=True,
        )  # fmt: skip

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert predict_files(trained, [str(tmp_path / "in")], str(whole), workers=2) == 0
    killed = start()
    for _ in range(6000):
        done = len(list(out.glob("*_overlay.png")))
        if done >= 10 or killed.poll() is not None:
            break
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(2)
    assert 10 <= done < 40
    assert start().wait(timeout=300) == 0
    kept = {name: content for name, content in files(out).items() if not name.startswith(".")}
    # The page says where it lies.
    kept["overview.html"] = kept["overview.html"].replace(bytes(out), bytes(whole))
    assert kept == files(whole)
    dataset = outcome.scenes.dataset
    stored = stored_model(folder_files(trained), 1, "float32")
    evaluated = predict_scenes(stored, dataset, scenes, gpu=False)
    for row in evaluated.to_pylist():
        labels = [np.array(Image.open(png)) for png in (out / f"{row['image']}.png",
                                                        io.BytesIO(row["png"]))]  # fmt: skip
        np.testing.assert_array_equal(*labels)
    assert len(evaluated) == len(scenes) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PredictOptions(centres=300), "--centres: the model is lite, which scores whole images"),
        (PredictOptions(stride=2), "lite: stride = 2 pixels: allowed for patch networks alone"),
    ],
)
def test_options_that_a_model_does_not_support(
    trained: Path, tmp_path: Path, options: PredictOptions, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        predict_files(
            trained, [str(save_image(tmp_path / "x.png"))], str(tmp_path / "out"), options
        )
    assert not (tmp_path / "out").exists()


def test_centres_are_scored_alone(here: None, tmp_path: Path) -> None:
    """By a patch network; every superpixel has one label, that of the patch around its centre."""
    model = model_of("squeezenet")
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, model.scores.whole, model.description)
    image = noise_image(1, 40, 50)
    address = str(save_image(tmp_path / "x.png", image))
    out = str(tmp_path / "out")
    for others in (
        PredictOptions(centres=200, flip=True),
        PredictOptions(centres=200, stride=2, superpixels=9),
    ):
        with pytest.raises(UserError, match=r"--centres: found together with --.*, allowed alone"):
            predict_files(folder, [address], out, others)
    options = PredictOptions(centres=200, probabilities=True)
    assert predict_files(folder, [address], out, options) == 0
    expected = model.predict(image, segment(image, 200))
    labels = np.array(Image.open(tmp_path / "out" / "x.png"))
    np.testing.assert_array_equal(labels, expected.label_map)
    kept = np.load(tmp_path / "out" / "x_probabilities.npy")
    np.testing.assert_allclose(kept, expected.probabilities, atol=1e-3)
