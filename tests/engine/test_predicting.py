"""`lhs predict` on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.engine.pipeline import Outcome
from lhs.engine.predicting import predict_files
from lhs.errors import UserError
from lhs.evaluation.model import Model, load_model
from tests.data.builders import noise_image, save_image

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def model(outcome: Outcome) -> Model:
    return load_model(Path(outcome.model.path) / "model")


def test_files_are_those_of_the_model(
    model: Model, outcome: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = outcome.scenes.split("test")[0].image()
    save_image(tmp_path / "scene.png", scene)
    save_image(tmp_path / "odd.png", noise_image(1, 50, 71))
    out = tmp_path / "new" / "out"
    code = predict_files(model, [str(tmp_path / "scene.png"), str(tmp_path / "odd.png")], out)
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "legend.png", "odd.png", "odd_overlay.png", "scene.png", "scene_overlay.png",
    ]  # fmt: skip
    ids = np.array(Image.open(out / "scene.png"))
    np.testing.assert_array_equal(ids, model.predict(scene).label_map)
    assert np.array(Image.open(out / "odd.png")).shape == (50, 71)
    assert np.array(Image.open(out / "odd_overlay.png")).shape[:2] == (50, 71)
    assert min(np.array(Image.open(out / "legend.png")).shape[:2]) > 20
    assert "2 images labelled, 0 not readable" in capsys.readouterr().out


def test_an_unreadable_image_is_told_and_the_others_are_done(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_image(tmp_path / "good.jpg")
    cut = save_image(tmp_path / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    out = tmp_path / "out"
    absent = tmp_path / "absent.jpg"
    assert predict_files(model, [str(cut), str(absent), str(good)], out) == 2
    captured = capsys.readouterr()
    assert "1 images labelled, 2 not readable" in captured.out
    assert f"lhs: {cut}" in captured.err
    assert str(absent) in captured.err
    assert sorted(path.name for path in out.iterdir()) == [
        "good.png", "good_overlay.png", "legend.png",
    ]  # fmt: skip


def test_names_that_would_overwrite_each_other(model: Model, tmp_path: Path) -> None:
    images = [str(save_image(tmp_path / name)) for name in ("a/x.jpg", "b/x.png", "b/y.png")]
    with pytest.raises(UserError, match=r"would overwrite each other: x\.png, x_overlay\.png$"):
        predict_files(model, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_overlay_is_not_overwritten_by_a_label_map(model: Model, tmp_path: Path) -> None:
    images = [str(save_image(tmp_path / name)) for name in ("x.png", "x_overlay.png")]
    with pytest.raises(UserError, match="overwrite each other"):
        predict_files(model, images, tmp_path / "out")


def test_an_image_is_not_overwritten_by_its_own_labels(model: Model, tmp_path: Path) -> None:
    image = save_image(tmp_path / "x.png")
    before = image.read_bytes()
    with pytest.raises(UserError, match=r"x\.png is an image to label"):
        predict_files(model, [str(image)], tmp_path)
    assert image.read_bytes() == before


def test_out_is_a_file(model: Model, tmp_path: Path) -> None:
    image = save_image(tmp_path / "x.png")
    with pytest.raises(UserError, match="--out"):
        predict_files(model, [str(image)], image)
