"""What `lhs data import` cannot know, it asks for by the name of the option."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import noise_image, save_image
from tests.data.importing.sources import (
    HEIGHT,
    WIDTH,
    Source,
    image,
    made,
    one_folder,
    save,
    values_of,
)
from tests.data.importing.test_command import run_import


def pairs_of(folder: Path, choices: list, classes: str | None = "sky\nsea\nsand\n") -> Path:
    for number in range(3):
        image(folder / "images" / f"{number}.jpg", number)
        save(folder / "labels" / f"{number}.png", values_of(choices, number))
    if classes:
        (folder / "classes.txt").write_text(classes)
    return folder


def test_names_that_are_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pairs_of(tmp_path / "source", [0, 255], classes=None)
    assert run_import(folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "names of the 2 values 0, 255 are not known: give `--classes FILE`" in said.err
    assert "`--void`" in said.err
    table = [line.split() for line in said.out.splitlines()[-2:]]
    assert [row[:2] for row in table] == [["0", "?"], ["255", "?"]]
    assert sum(int(row[2].replace(",", "")) for row in table) == 3 * HEIGHT * WIDTH
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choices", "arguments", "message"),
    [
        ([0, 1, 2, 3], (), r"1 values have no class: 3 \(1,440 pixels\).*`--ids-from 1 --void 0`"),
        ([0, 1, 2, 255], (), "255 .*pixels.*give `--void 255`"),
        ([0, 1, 2, 7, 9], (), "2 values have no class: .*give `--void 7,9`"),
        ([1, 2, 3], (), "`--ids-from 0` or `--ids-from 1`"),
        ([0, 1, 2, 3], ("--ids-from", "1"), "1 values have no class: 0 .*`--void 0`"),
        ([0, 1, 2], ("--void", "1,2"), ""),
        ([0, 1, 2], ("--background", "void"), "--background has no effect with the format pairs"),
        ([0, 1, 2], ("--suffix", "_gt"), "--suffix"),
        ([0, 1, 2], ("--labels", "nosuch"), "--labels nosuch: no such folder in .*source"),
        ([0, 1, 2], ("--classes", "nosuch.txt"), "--classes nosuch.txt: no such file"),
        ([0, 1, 2], ("--format", "coco"), "no JSON file with images"),
        ([0, 1, 2], ("--format", "labelme"), "no JSON file with shapes"),
        ([0, 1, 2], ("--format", "voc"), "not Pascal VOC"),
        ([0, 1, 2], ("--format", "cityscapes"), "not Cityscapes"),
        ([0, 1, 2], ("--format", "ade20k"), "not ADE20K"),
        ([0, 1, 2], ("--format", "camvid"), "not CamVid"),
    ],
)  # fmt: skip
def test_values(
    choices: list, arguments: tuple[str, ...], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = pairs_of(tmp_path / "source", choices)
    code = run_import(folder, tmp_path / "out", *arguments)
    said = capsys.readouterr().err
    if message:
        assert code == 2
        assert said.startswith("lhs: ")
        assert re.search(message, said), said
        assert not (tmp_path / "out").exists()
    else:
        # A class of the list that is void by request is none.
        assert code == 2
        assert "1 classes (sky)" in said


def coloured(folder: Path, table: str, name: str = "class_dict.csv") -> Path:
    for number in range(3):
        image(folder / "images" / f"{number}.jpg", number)
        values = values_of([(255, 0, 0), (0, 255, 0), (7, 8, 9)], number)
        save(folder / "labels" / f"{number}.png", values)
    (folder / name).write_text(table)
    return folder


def test_a_colour_outside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coloured(tmp_path / "source", "name,r,g,b\nred,255,0,0\ngreen,0,255,0\n")
    assert run_import(folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "1 colours have no class: #070809 (" in said.err
    assert "`--void '#070809'`" in said.err
    assert "#ff0000" in said.out
    assert run_import(folder, tmp_path / "out", "--void", "#070809") == 0


def test_colours_without_a_table_of_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = coloured(tmp_path / "source", "red\ngreen\nblue\n", "classes.txt")
    assert run_import(folder, tmp_path / "out") == 2
    assert "show colours" in capsys.readouterr().err
    (folder / "classes.txt").unlink()
    assert run_import(folder, tmp_path / "out") == 2
    assert "3 colours #00ff00, #070809, #ff0000 are not known" in capsys.readouterr().err


def test_two_tables_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coloured(tmp_path / "source", "name,r,g,b\nred,255,0,0\ngreen,0,255,0\nx,7,8,9\n")
    (folder / "label_colors.txt").write_text("255 0 0 rot\n0 255 0 green\n")
    assert run_import(folder, tmp_path / "out") == 2
    assert "name the right one with `--classes FILE`" in capsys.readouterr().err
    assert run_import(folder, tmp_path / "out", "--classes", str(folder / "class_dict.csv")) == 0


def test_several_ways_to_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = one_folder(tmp_path / "source")
    for number in range(5):
        shutil.copy(
            source.folder / f"beach_{number}_mask.png", source.folder / f"beach_{number}_gt.png"
        )
    assert run_import(source, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "5 with `--suffix=_mask`" in said
    assert "5 with `--suffix=_gt`" in said
    assert run_import(source, tmp_path / "out", "--suffix", "_gt.png") == 0


def test_an_ending_that_is_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = one_folder(tmp_path / "source", suffix="-lbl")
    assert run_import(source, tmp_path / "out") == 2
    assert "is it `--suffix=-lbl`?" in capsys.readouterr().err
    assert run_import(source, tmp_path / "out", "--suffix=-lbl") == 0


def test_a_folder_of_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save_image(tmp_path / "source" / f"{number}.jpg", noise_image(number))
    assert run_import(tmp_path / "source", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "no image has a label picture" in said
    assert "`--labels FOLDER`" in said
    assert run_import(tmp_path / "nosuch", tmp_path / "out") == 2
    assert "is not there" in capsys.readouterr().err


def test_sizes_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pairs_of(tmp_path / "source", [0, 1, 2])
    save(folder / "labels" / "1.png", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    assert run_import(folder, tmp_path / "out") == 2
    assert "1.jpg: the image is 48 x 40 (width x height), its label map 49 x 40" in (
        capsys.readouterr().err
    )


def test_noise_for_label_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhs.data.importing import counting

    monkeypatch.setattr(counting, "MOST_VALUES", 500)
    folder = coloured(tmp_path / "source", "name,r,g,b\nred,255,0,0\ngreen,0,255,0\nx,7,8,9\n")
    Image.fromarray(noise_image(0, HEIGHT, WIDTH)).save(folder / "labels" / "1.png")
    assert run_import(folder, tmp_path / "out") == 2
    assert "is it a photograph?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["voc", "cityscapes", "camvid", "ade20k", "one folder"])
@pytest.mark.parametrize("damage", [b"", b"no picture", None])
def test_a_damaged_label_file_is_named(
    name: str, damage: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(name, tmp_path / "source")
    patterns = {"cityscapes": "*labelIds.png", "camvid": "*_L.png", "one folder": "*_mask.png"}
    files = sorted(source.folder.rglob(patterns.get(name, "*.png")))
    broken = next(path for path in files if "Object" not in str(path))
    broken.write_bytes(broken.read_bytes()[:60] if damage is None else damage)
    assert run_import(source, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert str(broken) in said
    assert "unreadable" in said
    assert not (tmp_path / "out").exists()


def test_ade20k_without_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made("ade20k", tmp_path / "source")
    names = source.folder / "ADEChallengeData2016" / "objectInfo150.txt"
    away = names.rename(tmp_path / "names.txt")
    assert run_import(source, tmp_path / "out") == 2
    assert "give the class names with `--classes FILE`" in capsys.readouterr().err
    assert run_import(source, tmp_path / "out", "--classes", str(away)) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda base: (base / "SegmentationClass" / "mine.png").write_bytes(b""),
        lambda base: (base / "class_names.txt").write_text("a\nb\n"),
    ],
)
def test_the_layout_of_voc_with_other_classes_is_not_voc(
    spoil: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made("voc", tmp_path / "source")
    spoil(source.folder / "VOCdevkit" / "VOC2012")
    assert run_import(Source(source.folder), tmp_path / "out") == 2
    assert "`--classes FILE`" in capsys.readouterr().err


def test_the_layout_of_camvid_with_other_frames_is_not_camvid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        image(tmp_path / "source" / split / "frame1.png")
        save(tmp_path / "source" / f"{split}annot" / "frame1.png", values_of([0, 1], 0))
    assert run_import(tmp_path / "source", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out.startswith("pairs: ")
    assert "give `--classes FILE`" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--test", "1.5"), ("--test", "x"), ("--void", "sky"), ("--ids-from", "-1"),
        ("--columns", "image"), ("--format", "nosuch"), ("--labels-follow-exif", "maybe"),
    ],
)  # fmt: skip
def test_what_argparse_refuses(
    arguments: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_import(tmp_path, tmp_path / "out", *arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_out_inside_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pairs_of(tmp_path / "source", [0, 1, 2])
    (tmp_path / "link").symlink_to(folder)
    for out in (folder / "out", tmp_path / "link" / "images" / "out"):
        assert run_import(folder, out) == 2
        assert f"--out {out}: lies inside the source {folder}" in capsys.readouterr().err
        assert not out.exists()


def test_a_source_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pairs_of(tmp_path / "source", [0, 1, 2]) / "classes.txt"
    assert run_import(file, tmp_path / "out") == 2
    assert f"{file}: found a file, needed is a folder" in capsys.readouterr().err


def test_a_void_value_that_no_pixel_has_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pairs_of(tmp_path / "source", [0, 1, 2])
    assert run_import(folder, tmp_path / "out", "--void", "77,0x4e", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note: --void 77: no pixel has it" in lines
    assert "note: --void 78: no pixel has it" in lines
