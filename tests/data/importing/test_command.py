"""`lhs data import` from a source to a folder that opens: pixels, splits, files and messages."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.data import open_dataset
from lhs.data.dataset import Dataset
from lhs.loading import load_config
from lhs.run import main
from tests.data.builders import noise_image, plain
from tests.data.importing.sources import SOURCES, Source, made, one_folder, two_folders
from tests.data.test_orientation import quarters, save_turned


def run_import(source: Source | Path, out: Path, *arguments: str) -> int:
    folder, own = (source, ()) if isinstance(source, Path) else (source.folder, source.arguments)
    return main(["data", "import", str(folder), "--out", str(out), *own, *arguments])


def opened(printed: str, *more: str) -> Dataset:
    """The dataset that the printed line trains on."""
    words = shlex.split(printed.splitlines()[-1])
    assert words[:3] == ["lhs", "run", "folder"]
    assert set(words[3::2]) == {"--set"}
    return open_dataset(load_config("folder", [*words[4::2], *more]).data)


@pytest.mark.parametrize("name", SOURCES)
def test_every_pixel_is_of_the_class_that_the_source_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(name, tmp_path / "source")
    assert run_import(source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{SOURCES[name][0]}: ")
    dataset = opened(printed)
    assert dataset.classes == source.classes
    found = {scene.id: scene for scene in dataset.scenes()}
    listed_ids = {id for ids in source.splits.values() for id in ids} or set(source.pixels)
    assert set(found) == listed_ids - source.splits.get("val", set())
    names = [*dataset.classes, *[None] * 256]
    for id, scene in found.items():
        _, label_map = scene.load()
        assert [[names[v] for v in row] for row in label_map.tolist()] == source.pixels[id]
        assert scene.name == source.scenes.get(id)
    for split, ids in source.splits.items():
        lines = (tmp_path / "out" / "splits" / f"{split}.txt").read_text().split("\n")
        assert sorted(lines[:-1]) == sorted(ids)
    written = {
        path.relative_to(tmp_path / "out" / "labels").with_suffix("").as_posix()
        for path in (tmp_path / "out" / "labels").rglob("*.png")
    }
    assert written == set(source.pixels)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = two_folders(tmp_path / "source")
    image = tmp_path / "source" / "images" / "train" / "deep"
    Image.fromarray(noise_image()).save(image / "without.png")
    assert run_import(source, tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pairs: 6 images have a label picture of its name, such as images/")
    assert "note: 1 images have no label picture and are left out" in lines
    start = next(n for n, line in enumerate(lines) if line.split()[:2] == ["value", "class"])
    table = [line.split() for line in lines[start + 1 : start + 6]]
    pixels = dict.fromkeys((0, 1, 2, 3, 255), 0)
    for path in (tmp_path / "source" / "masks").rglob("*.png"):
        for value in np.asarray(Image.open(path)).ravel().tolist():
            pixels[value] += 1
    total = sum(pixels.values())
    for value, name in ((1, ["sky"]), (2, ["sea"]), (3, ["sand"]), (0, []), (255, [])):
        share = f"{pixels[value] / total:.3%}"
        void = [] if name else ["yes"]
        assert [str(value), *name, f"{pixels[value]:,}", share, *void] in table
    assert "3 train, 1 val, 2 test images" in lines
    report = json.loads((tmp_path / "out" / "import.json").read_text())
    assert report["format"] == "pairs"
    assert report["options"] == {"ids_from": 1, "void": [0, 255]}
    assert report["splits"] == {"train": 3, "val": 1, "test": 2}
    assert report["values"][0] == {"value": 1, "class": 0, "pixels": pixels[1]}
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width == 960
        assert len(sheet.getcolors(2**20) or ()) > 100


def test_images_are_links_and_are_not_copied(tmp_path: Path) -> None:
    source = one_folder(tmp_path / "source")
    assert run_import(source, tmp_path / "out") == 0
    original = source.folder / "beach_0.jpg"
    assert os.path.samefile(original, tmp_path / "out" / "images" / "beach_0.jpg")


def test_where_the_disk_does_not_link_images_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    source = one_folder(tmp_path / "source")
    monkeypatch.setattr(os, "link", refuse)
    assert run_import(source, tmp_path / "out") == 0
    original, copy = source.folder / "beach_0.jpg", tmp_path / "out" / "images" / "beach_0.jpg"
    assert not os.path.samefile(original, copy)
    assert original.read_bytes() == copy.read_bytes()


def test_a_dry_run_says_the_same_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = one_folder(tmp_path / "source")
    assert run_import(source, tmp_path / "out", "--dry-run") == 0
    dry = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    assert run_import(source, tmp_path / "out") == 0
    wet = capsys.readouterr().out.splitlines()
    assert dry[-1] == wet[-1]
    assert [line for line in wet if line not in dry] == [
        f"written to {tmp_path / 'out'}; look at {tmp_path / 'out' / 'contact_sheet.png'}"
    ]


def test_a_folder_that_holds_anything_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = one_folder(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run_import(source, tmp_path / "out") == 2
    assert "is there and not empty" in capsys.readouterr().err
    (tmp_path / "out" / "mine.txt").unlink()
    assert run_import(source, tmp_path / "out") == 0


def test_a_place_below_a_file_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = one_folder(tmp_path / "source")
    (tmp_path / "afile").touch()
    for out in (tmp_path / "afile", tmp_path / "afile" / "x" / "y"):
        assert run_import(source, out) == 2
        printed = capsys.readouterr()
        told = (
            f"lhs: --out {out}: {tmp_path / 'afile'} is a file, not a folder; name another folder\n"
        )
        assert (printed.out, printed.err) == ("", told)


def test_more_than_255_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "source"
    for number in range(2):
        for part, pixels in (("images", noise_image(0, 20, 20)), ("labels", None)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            if pixels is None:
                values = (np.arange(400).reshape(20, 20) % 301).astype(np.uint16)
                Image.fromarray(values).save(folder / part / f"{number}.png")
            else:
                Image.fromarray(pixels).save(folder / part / f"{number}.png")
    (folder / "classes.txt").write_text("".join(f"class {n}\n" for n in range(300)))
    assert run_import(folder, tmp_path / "out", "--void", "300") == 0
    dataset = opened(capsys.readouterr().out)
    _, label_map = dataset.scenes()[0].load()
    expected = np.where((wide := np.arange(400).reshape(20, 20) % 301) == 300, 65535, wide)
    np.testing.assert_array_equal(label_map, expected)


# EXIF


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("upright", [False, True])
def test_images_are_written_upright_and_labels_lie_so(
    orientation: int, upright: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder reader's own rules give the truth, from a plain folder of the same files."""
    lying = quarters(40, 48)
    if orientation > 4 and upright:
        lying = quarters(48, 40)
    root = plain(tmp_path / "source", ["a", "b", "c"], splits={"train": ["a"], "test": ["b"]})
    (root / "splits" / "train.txt").write_text("a\nc\n")
    save_turned(root / "images" / "a.png", noise_image(0, 40, 48), orientation)
    Image.fromarray(lying).save(root / "labels" / "a.png")
    follows = "yes" if upright else "no"
    asks = [] if orientation != 3 else ["--labels-follow-exif", follows]
    if asks:
        assert run_import(root, tmp_path / "out") == 2
        assert "give `--labels-follow-exif yes`" in capsys.readouterr().err
    assert run_import(root, tmp_path / "out", *asks) == 0
    truth = open_dataset(
        load_config(
            "folder",
            [f"data.folder.path={root}", f"data.folder.labels_follow_exif={str(upright).lower()}"],
        ).data
    )
    dataset = opened(capsys.readouterr().out)
    for id in ("a", "b", "c"):
        for found, expected in zip(dataset.scene(id).load(), truth.scene(id).load(), strict=True):
            np.testing.assert_array_equal(found, expected)
    with Image.open(tmp_path / "out" / "images" / "a.png") as written:
        assert written.getexif().get(0x0112, 1) == 1


# Killed


KILLED = """
import os, sys
from lhs.data.importing.writing import Output
from lhs.run import main
write, left = Output.write, [3]
def killing(self, name, content):
    write(self, name, content)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
Output.write = killing
main(sys.argv[1:])
"""


@pytest.mark.thorough
def test_a_killed_import_leaves_no_dataset_and_is_repeated(tmp_path: Path) -> None:
    source = one_folder(tmp_path / "source")
    command = ["data", "import", str(source.folder), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", KILLED, *command], check=False)
    assert done.returncode == -9
    left = [path for path in tmp_path.iterdir() if path != source.folder]
    assert not (tmp_path / "out").exists()
    assert [path.name.startswith(".partial-out-") for path in left] == [True]
    assert any(left[0].rglob("*.png"))
    assert not (left[0] / "classes.txt").exists()
    assert run_import(source, tmp_path / "out") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_an_import_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lhs.data.importing import writing

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = one_folder(tmp_path / "source")
    monkeypatch.setattr(writing.Output, "write", full)
    assert run_import(source, tmp_path / "out") == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
