"""`lhs export`: what is compared, what is kept, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lhs import run
from lhs.engine.inference import exporting
from lhs.evaluation.export import SUFFIXES, share_alike
from lhs.evaluation.model import load_model, save_model
from lhs.evaluation.scoring import inference_network
from tests.data.builders import noise_image, save_image
from tests.evaluation.test_export import model_of
from tests.evaluation.test_pooling import saved as pooled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", "lite")


def saved(folder: Path, name: str) -> Path:
    model = model_of(name)
    folder.mkdir()
    save_model(folder, inference_network(model.scores.whole), model.description)
    return folder


@pytest.mark.thorough
def test_it_is_compared_on_procedural_scenes_and_lies_here(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run.main(["export", str(folder), "--format", "onnx"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.onnx"]
    out = capsys.readouterr().out
    assert "pixels of 4 images have the same label as the model's" in out
    assert out.splitlines()[-1] == "written: model.onnx"


@pytest.mark.thorough
def test_it_is_compared_on_the_images_that_are_given_at_the_size_that_is_asked_for(
    folder, tmp_path, capsys
):
    save_image(tmp_path / "in" / "a.png", noise_image(0, 50, 70))
    save_image(tmp_path / "in" / "b.png", noise_image(1, 33, 90))
    out = tmp_path / "new" / "file.pt2"
    command = ["export", str(folder), "--format", "torch-export", "--out", str(out)]
    assert run.main([*command, "--check", str(tmp_path / "in")]) == 0
    assert f"of {50 * 70 + 33 * 90} pixels of 2 images" in capsys.readouterr().out
    assert run.main([*command, "--size", "40", "64", "--check", str(tmp_path / "in")]) == 0
    assert f"of {2 * 40 * 64} pixels of 2 images" in capsys.readouterr().out
    assert out.is_file()


@pytest.mark.thorough
def test_a_file_that_labels_otherwise_is_not_kept(folder, tmp_path, monkeypatch, capsys):
    def of_another(model, path, kind, size):
        model.network.last.weight.data.neg_()
        export(model, path, kind, size)

    export = exporting.export_model
    monkeypatch.setattr(exporting, "export_model", of_another)
    out = tmp_path / "model.pt2"
    out.write_text("an older one")
    assert run.main(["export", str(folder), "--format", "torch-export", "--out", str(out)]) == 1
    assert "not written: allowed are 99.99% and more" in capsys.readouterr().out
    assert out.read_text() == "an older one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.pt2"]


@pytest.mark.thorough
def test_mistakes_are_reported(folder, tmp_path, capsys):
    patches = saved(tmp_path / "patches", "squeezenet")
    command = ["export", str(patches), "--format", "onnx"]
    assert run.main(command) == 2
    assert "--size: found none, needed for squeezenet" in capsys.readouterr().err

    command = ["export", str(folder), "--format", "onnx", "--out"]
    assert run.main([*command, str(folder / "model.json" / "x.onnx")]) == 2
    told = f"--out {folder / 'model.json' / 'x.onnx'}: a part of the path is a file, not a folder"
    assert told in capsys.readouterr().err
    assert run.main([*command, str(tmp_path / "x.onnx"), "--check", "nowhere.png"]) == 2
    assert "nowhere.png" in capsys.readouterr().err
    assert run.main([*command, str(tmp_path)]) == 2
    assert f"--out {tmp_path}: allowed are names that end with .onnx" in capsys.readouterr().err
    small = save_image(tmp_path / "small.png", noise_image(0, 32, 90))
    assert run.main([*command, str(tmp_path / "x.onnx"), "--check", str(small)]) == 2
    assert "--check: found an image with a side of 32 pixels or less" in capsys.readouterr().err
    assert run.main(["export", str(tmp_path / "none"), "--format", "onnx"]) == 2
    assert "none: no such folder; needed is a model folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.thorough
def test_images_are_taken_whole(folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        exporting,
        "share_alike",
        lambda model, path, kind, images, size: seen.extend(images) or (1, 1),
    )
    image = noise_image(3, 40, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    command = ["export", str(folder), "--format", "torch-export", "--out", str(tmp_path / "x.pt2")]
    assert run.main([*command, "--check", str(tmp_path / "a.png")]) == 0
    np.testing.assert_array_equal(seen[0], image)


@pytest.mark.slow
def test_a_model_of_h_is_exported_by_the_rule_that_is_asked_for(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    rule = ["--class-scores", "best_subclass"]
    command = ["export", str(pooled(folder)), "--format", "torch-export"]
    out = str(tmp_path / "best.pt2")
    image = str(save_image(tmp_path / "a.png", noise_image(0, 64, 96)))
    assert run.main([*command, *rule, "--out", out, "--check", image]) == 0
    model, images = load_model(folder, class_scores="best_subclass"), [noise_image(0, 64, 96)]
    same, total = share_alike(model, Path(out), "torch-export", images)
    assert same >= 0.9999 * total
    same, total = share_alike(load_model(folder), Path(out), "torch-export", images)
    assert same < 0.9999 * total
    plain = ["export", str(saved(tmp_path / "plain", "lite")), "--format", "onnx"]
    assert run.main([*plain, *rule]) == 2
    assert "class_scores = best_subclass" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_folder_in_the_place_of_the_file_is_told_before_the_export(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(exporting, "export_model", lambda *_: pytest.fail("exported"))
    place = tmp_path / "dir.onnx"
    place.mkdir()
    assert run.main(["export", str(folder), "--format", "onnx", "--out", str(place)]) == 2
    told = f"--out {place}: found a folder, needed is a file, such as {place}/model.onnx"
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.onnx", "model"]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["torch-export", pytest.param("onnx", marks=pytest.mark.thorough)])
def test_a_full_disk_is_told(kind, folder, tmp_path, monkeypatch, capsys):
    """The whole export would take its time: a small program stands in for the network."""
    program = torch.export.export(torch.nn.Flatten(), (torch.rand(1, 3, 4, 4),))
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: program)
    place = tmp_path / f"x{SUFFIXES[kind]}"
    (tmp_path / f".half-{place.name}").symlink_to("/dev/full")
    command = ["export", str(folder), "--format", kind, "--out", str(place)]
    assert run.main([*command, "--size", "64", "64"]) == 2
    assert f"lhs: --out {place}: No space left on device\n" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def resizing(folder: Path, long_side: int) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"long_side": long_side}))


@pytest.mark.thorough
def test_a_size_above_the_training_s_is_refused(folder, capsys):
    resizing(folder, 64)
    command = ["export", str(folder), "--format", "torch-export", "--size", "48", "96"]
    assert run.main(command) == 2
    assert "--size 48 96: the model was trained on images resized" in capsys.readouterr().err


@pytest.mark.thorough
def test_it_is_compared_on_resized_images_and_says_so(folder, tmp_path, capsys):
    resizing(folder, 64)
    save_image(tmp_path / "a.png", noise_image(0, 75, 100))
    out = ["--out", str(tmp_path / "model.pt2"), "--check", str(tmp_path / "a.png")]
    assert run.main(["export", str(folder), "--format", "torch-export", *out]) == 0
    said = capsys.readouterr().out
    assert f"of {48 * 64} pixels of 1 images" in said
    assert "the file takes images whose longer side has at most 64 pixels (data.long_side)" in said
