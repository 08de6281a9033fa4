"""Label maps that do not fit the classes of a folder: told with class, ids and a likely cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.config import DataConfig
from lhs.data.checking import inspect_dataset
from lhs.data.labels import differing_palettes
from tests.data.builders import HEIGHT, WIDTH, plain, save_labels

NAMES = ["a", "b", "c"]
SPLITS = {"train": ["a", "b"], "test": ["c"]}


def made(folder: Path, classes: list[str], ids: np.ndarray) -> Path:
    """A folder whose label maps are all `ids`."""
    root = plain(folder, NAMES, classes=classes, splits=SPLITS)
    for name in NAMES:
        save_labels(root, name, ids)
    return root


def halves(upper: int, lower: int) -> np.ndarray:
    ids = np.full((HEIGHT, WIDTH), lower)
    ids[: HEIGHT // 2] = upper
    return ids


def errors(root: Path, **settings: object) -> list[str]:
    tree = {"dataset": "folder", "folder": {"path": str(root)}, **settings}
    return inspect_dataset(DataConfig.model_validate(tree)).errors


def save_palette(path: Path, ids: np.ndarray, colours: list[tuple[int, int, int]]) -> None:
    picture = Image.frombytes("P", ids.shape[::-1], ids.astype(np.uint8).tobytes())
    picture.putpalette([value for colour in colours for value in colour])
    picture.save(path)


@pytest.mark.parametrize(
    ("classes", "ids", "found"),
    [
        (["ground", "road"], (0, 255), ["class road (id 1)", "ids found: 0, and 255", "2 of 2",
                                        "masks of 0 and 255: write id 1"]),
        (["# classes", "sky", "sea"], (0, 1), ["sea (id 2)", "line 1 of classes.txt, '# classes'"]),
        (["name", "sky", "sea"], (0, 1), ["sea (id 2)", "line 1 of classes.txt, 'name'"]),
        (["none", "sky", "sea"], (1, 2), ["none (id 0)", "ids found: 1, 2", "counted from 1"]),
        (["sky", "sea", "sand"], (0, 255), ["sea (id 1), sand (id 2)", "longer than the labels'"]),
        (["sky", "sea", "sand"], (0, 1), ["sand (id 2)", "255 (data.folder.void", "0 of 2"]),
    ],
)  # fmt: skip
def test_a_class_without_training_pixels(
    tmp_path: Path, classes: list[str], ids: tuple[int, int], found: list[str]
) -> None:
    root = made(tmp_path / "own", classes, halves(*ids))
    (error,) = errors(root)
    assert all(text in error for text in [*found, "data.allow_empty_classes=true"])
    assert errors(root, allow_empty_classes=True) == []


def test_ids_are_told_as_they_are_in_the_files(tmp_path: Path) -> None:
    root = made(tmp_path / "own", ["sky", "sea", "sand"], halves(1, 3))
    folder = {"path": str(root), "void": [0, 255], "ids_from": 1}
    (error,) = errors(root, folder=folder)
    assert "no train pixel of class sea (id 2); ids found: 1, 3, and 0 or 255" in error
    for name, (first, second) in (("a", (5, 6)), ("b", (6, 5)), ("c", (5, 6))):
        colours = [(0, 0, 0), (first, 0, 0), (second, 0, 0), (7, 0, 0)]
        save_palette(root / f"labels/{name}.png", halves(1, 2), colours)
    assert "its palette shows id 1 as" in errors(root, folder=folder)[0]


def test_test_images_may_lack_a_class(tmp_path: Path) -> None:
    root = made(tmp_path / "own", ["sky", "sea"], halves(0, 1))
    save_labels(root, "c", halves(0, 0))
    assert errors(root) == []


def test_palettes_of_each_file_s_own(tmp_path: Path) -> None:
    root = made(tmp_path / "own", ["sky", "sea"], halves(0, 1))
    blue, green = (0, 0, 255), (0, 128, 0)
    for name, colours in (("a", [blue, green]), ("b", [green, blue]), ("c", [blue, green])):
        save_palette(root / f"labels/{name}.png", halves(0, 1), colours)
    (error,) = errors(root)
    assert str(root / "labels/a.png") in error
    assert str(root / "labels/b.png") in error
    assert "id 0 as #008000" in error
    assert "as #0000ff" in error


def test_palettes_that_differ_only_in_ids_that_do_not_occur(tmp_path: Path) -> None:
    root = made(tmp_path / "own", ["sky", "sea", "sand"], halves(0, 1))
    save_palette(root / "labels/a.png", halves(0, 1), [(1, 1, 1), (2, 2, 2), (3, 3, 3)])
    save_palette(root / "labels/b.png", halves(0, 2), [(1, 1, 1), (9, 9, 9), (4, 4, 4)])
    assert errors(root) == []  # and c is grey


def test_the_first_two_files_that_differ_are_named() -> None:
    assert differing_palettes([("a", {0: 1}), ("b", {1: 2}), ("c", {0: 1, 1: 2})]) == ""
    message = differing_palettes([("a", {0: 1}), ("b", {1: 2}), ("c", {0: 1, 1: 3})])
    assert message.startswith("c: its palette shows id 1 as #000003, that of b as #000002")


def test_unlabelled_pixels_may_have_any_colour(tmp_path: Path) -> None:
    root = made(tmp_path / "own", ["sky", "sea"], halves(0, 1))
    for name, grey in (("a", 10), ("b", 20)):
        ids = halves(0, 1)
        ids[0] = 255
        save_palette(root / f"labels/{name}.png", ids, [(grey if n == 255 else n,) * 3
                                                        for n in range(256)])  # fmt: skip
    assert errors(root) == []
