"""Names from datasets stay inside; partners and splits are found."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from lhs.data.importing.files import class_name, ends, inside, is_file, partners, split_of
from lhs.errors import UserError


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.jpg", "x/y/a.jpg"), ("../z/a.jpg", "x/z/a.jpg"), ("..\\..\\a.jpg", "a.jpg"),
     ("b/../a.jpg", "x/y/a.jpg"), ("a b.jpg", "x/y/a b.jpg")],
)  # fmt: skip
def test_a_name_inside(tmp_path: Path, name: str, place: str) -> None:
    assert inside(tmp_path, tmp_path / "x" / "y", name) == tmp_path / place


@pytest.mark.parametrize(
    ("name", "message"),
    [("../../../a", "leaves"), ("b/../../../../a", "leaves"), ("/etc/passwd", "absolute"),
     ("\\\\host\\a", "absolute"), ("C:\\a", "absolute"), ("", "needed"), (None, "needed"),
     (["a"], "needed"), ("a" * 2000, "needed")],
)  # fmt: skip
def test_a_name_outside_is_refused(tmp_path: Path, name: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        inside(tmp_path, tmp_path / "x" / "y", name)


def test_names_that_no_file_has(tmp_path: Path) -> None:
    for name in ("\0", "x" * 300, "\ud800"):
        assert not is_file(tmp_path / name)


def test_class_names_are_one_line() -> None:
    assert class_name(" car ") == "car"
    for name in ("", "a\nb", 3, None, "\ud800"):
        with pytest.raises(UserError, match="text of one line"):
            class_name(name)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train2017", "train"), ("Validation", "val"), ("valid", "val"), ("test-dev2017", "test"),
     ("training", "train"), ("default", None), ("trained", None), ("detrain", None)],
)  # fmt: skip
def test_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_ends_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for size in (0, 10, 100_000, 300_000):
        path.write_bytes(bytes(range(250)) * (size // 250) + b"end"[: size % 250])
        content, whole = ends(path), path.read_bytes()
        assert content == whole or (
            len(whole) > 131_072 and content == whole[:65_536] + whole[-65_536:]
        )


def test_partners_by_name_then_by_folder(tmp_path: Path) -> None:
    paths = [PurePosixPath(path) for path in ("i/train/a.jpg", "i/test/a.jpg", "i/test/b.jpg")]
    masks = [PurePosixPath(path) for path in ("m/train/a.mat", "m/b.mat", "m/c.mat")]
    assert partners(tmp_path, masks, paths) == {masks[0]: paths[0], masks[1]: paths[2]}
    with pytest.raises(UserError, match=r"both i/train/a\.jpg and i/test/a\.jpg"):
        partners(tmp_path, [PurePosixPath("m/a.mat")], paths)
