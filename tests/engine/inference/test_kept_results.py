"""Which results `lhs predict` keeps: those of the same image file. Its steps without Ray."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lhs.data.images import read_label_picture
from lhs.engine.inference import prediction
from lhs.engine.inference.sources import Source
from lhs.engine.inference.tta import PredictOptions
from lhs.engine.storage import Storage
from lhs.errors import UserError
from tests.data.builders import noise_image, save_image

CLASSES = ("sky", "sea", "sand")
COLOURS = np.array([[0, 0, 255], [0, 255, 0], [255, 255, 0]], np.uint8)


@pytest.fixture
def out(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "out"))
    storage.make_folder(storage.path())
    return storage


def labelled(out: Storage, *paths: Path, label: int = 0) -> list[dict[str, Any]]:
    """Label images whose pixels all get one label, and write the table."""
    job = prediction._LabelJob(None, out, PredictOptions(), CLASSES, COLOURS, None)  # type: ignore[arg-type]
    rows = []
    for path in paths:
        source = Source(str(path), path.stem)
        if job.done(source):
            rows.append(job.write_done(source))
            continue
        arrays = dict(job.read(source))
        arrays["labels"] = np.full(arrays["image"].shape[:2], label, np.uint8)
        arrays["confidence"] = np.full(arrays["image"].shape[:2], 204, np.uint8)
        rows.append(job.write(source, arrays))
    prediction._write_summary(out, rows, CLASSES, COLOURS)
    return rows


def table(out: Storage) -> list[tuple[str, str, int]]:
    with Path(out.path("pixels.csv")).open() as stream:
        rows = list(csv.DictReader(stream))
    return [(row["image"], row["class"], int(row["pixels"])) for row in rows]


def label_of(out: Storage, name: str) -> list[int]:
    return np.unique(np.array(Image.open(out.path(f"{name}.png")))).tolist()


def test_a_label_map_of_another_image_is_not_kept(out: Storage, tmp_path: Path) -> None:
    one = save_image(tmp_path / "day1" / "good.png", noise_image(1))
    other = save_image(tmp_path / "day2" / "good.png", noise_image(2))
    assert not labelled(out, one)[0]["kept"]
    (again,) = labelled(out, one, label=1)
    assert (again["kept"], again["replaced"]) == (True, False)
    (new,) = labelled(out, other, label=1)
    assert (new["kept"], new["replaced"]) == (False, True)
    assert label_of(out, "good") == [1]
    assert table(out) == [("good", "sea", 12 * 16)]


def test_a_copy_of_the_image_in_another_place_keeps_its_result(
    out: Storage, tmp_path: Path
) -> None:
    one = save_image(tmp_path / "here" / "good.png", noise_image(1))
    copy = save_image(tmp_path / "there" / "good.png", noise_image(1))
    assert one.read_bytes() == copy.read_bytes()
    labelled(out, one)
    assert labelled(out, copy, label=1)[0]["kept"]
    assert label_of(out, "good") == [0]


def test_an_image_that_was_changed_is_labelled_again(out: Storage, tmp_path: Path) -> None:
    path = save_image(tmp_path / "x.png", noise_image(1))
    labelled(out, path)
    save_image(path, noise_image(2))
    assert labelled(out, path, label=2)[0]["replaced"]
    assert label_of(out, "x") == [2]


@pytest.mark.parametrize("damage", ["unnamed", "cut"])
def test_results_that_do_not_say_their_source_are_made_again(
    out: Storage, tmp_path: Path, damage: str
) -> None:
    path = save_image(tmp_path / "x.png", noise_image(1))
    labelled(out, path)
    stored = Path(out.path("x.png"))
    if damage == "unnamed":
        Image.fromarray(np.zeros((12, 16), np.uint8)).save(stored)
    else:
        stored.write_bytes(stored.read_bytes()[:20])
    assert labelled(out, path, label=2)[0]["replaced"]
    assert label_of(out, "x") == [2]


def test_results_of_an_earlier_version_are_kept(out: Storage, tmp_path: Path) -> None:
    """Which had no palette and no picture beside; the page says that it can't show them."""
    path = save_image(tmp_path / "x.png", noise_image(1))
    (new,) = labelled(out, path, label=2)
    assert new["confidence"] == pytest.approx(0.8)
    stored = Path(out.path("x.png"))
    with Image.open(stored) as picture:
        info = PngInfo()
        info.add_text(prediction.SOURCE, picture.info[prediction.SOURCE])
        Image.fromarray(np.array(picture)).save(stored, pnginfo=info)
    (again,) = labelled(out, path, label=1)
    assert (again["kept"], again["confidence"]) == (True, pytest.approx(0.8, abs=1e-4))
    Path(out.path("x_side_by_side.png")).unlink()
    (again,) = labelled(out, path, label=1)
    assert (again["kept"], again["confidence"]) == (True, None)
    assert prediction._line(again, CLASSES) == "x: sand 100.0 %; labelled before"
    assert label_of(out, "x") == [2]
    page = Path(out.path("overview.html")).read_text()
    assert "1 image labelled by an earlier version cannot be shown" in page


@pytest.mark.parametrize("classes", [3, 255, 256])
def test_label_maps_are_ids_with_the_colours_of_the_classes(classes: int) -> None:
    """As any reader of palettes sees them; 16 bits of ids have no colours in a PNG."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (9, 11)).astype(np.uint8 if classes < 256 else np.uint16)
    colours = rng.integers(0, 256, (classes, 3), np.uint8)
    content = prediction.png(labels, colours, **{prediction.SOURCE: "ab12"})
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == ("P" if classes < 256 else "I;16")
        np.testing.assert_array_equal(np.array(picture), labels)
        if classes < 256:
            np.testing.assert_array_equal(np.array(picture.convert("RGB")), colours[labels])
            assert content[24] == 8, "bits of an id"
    ids = read_label_picture("x.png", content=io.BytesIO(content))
    np.testing.assert_array_equal(ids, labels)
    assert prediction._source_of(content) == "ab12"


def test_an_image_gets_a_line(out: Storage, tmp_path: Path) -> None:
    row = {"name": "x", "counts": [1, 6, 3], "confidence": 0.456, "kept": False}
    line = prediction._line(row, CLASSES)
    assert line == "x: sea 60.0 %, sand 30.0 %, sky 10.0 %; confidence 0.46"


@pytest.mark.thorough
def test_the_table_keeps_the_rows_of_earlier_calls(out: Storage, tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{name}.png", noise_image(n)) for n, name in enumerate("bca")]
    labelled(out, *paths[:2], label=1)
    labelled(out, paths[2], label=2)
    labelled(out)
    assert table(out) == [("a", "sand", 192), ("b", "sea", 192), ("c", "sea", 192)]


def test_a_table_of_something_else_is_not_overwritten(out: Storage, tmp_path: Path) -> None:
    Path(out.path("pixels.csv")).write_text("mine\n1\n")
    with pytest.raises(UserError, match=r"pixels\.csv: found a file that is not a table"):
        labelled(out, save_image(tmp_path / "x.png"))
    assert Path(out.path("pixels.csv")).read_text() == "mine\n1\n"
