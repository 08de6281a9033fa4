"""Folders of `.mat` masks: the variable, partners, and what holds no ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lhs.data.importing import matlab_masks
from lhs.data.importing.found import Options
from lhs.data.matlab import list_arrays
from lhs.errors import BadImageError, UserError
from tests.data.importing.pictures import NOTHING, by_id, save

MASK = np.random.default_rng(0).integers(0, 5, (12, 16))


def make(source: Path, **variables: object) -> Path:
    content = {"S": MASK.astype(np.uint16), "names": np.array(["a", "b"], object), "n": 5}
    for split in ("train", "val"):
        save(source / "images" / split / "a.jpg")
        (source / "masks" / split).mkdir(parents=True)
        savemat(source / "masks" / split / "a.mat", content | variables, do_compression=True)
    return source


def test_it_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    save(tmp_path / "images/train/b.jpg")
    savemat(tmp_path / "masks/train/c.mat", {"S": MASK})
    found = matlab_masks.read(tmp_path, Options(void=(0,)))
    items = by_id(found.items)
    assert {id: item.split for id, item in items.items()} == {
        "masks/train/a": "train", "masks/val/a": "val",
    }  # fmt: skip
    assert items["masks/val/a"].image == tmp_path / "images/val/a.jpg"
    labels = items["masks/val/a"].read()
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, MASK)
    assert (found.names, found.void) == (None, {0})
    assert found.notes == (
        "label maps are the variable 'S' of each file",
        "1 .mat files without an image: masks/train/c.mat",
        "1 images without a .mat file",
    )
    assert "2 .mat files have an image" in (matlab_masks.recognise(tmp_path, NOTHING) or "")
    assert matlab_masks.recognise(tmp_path / "masks", NOTHING) is None


@pytest.mark.parametrize("values", [MASK.astype(float), MASK > 2, MASK.astype(np.int64)])
def test_other_types_of_numbers(tmp_path: Path, values: np.ndarray) -> None:
    item = matlab_masks.read(make(tmp_path, S=values), NOTHING).items[0]
    np.testing.assert_array_equal(item.read(), values.astype(int))


def test_the_variable_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, depth=MASK / 2.0)
    with pytest.raises(UserError, match=r"2 arrays have the size \(12, 16\).*--variable NAME"):
        matlab_masks.read(tmp_path, NOTHING)
    item = matlab_masks.read(tmp_path, Options(variable="S")).items[0]
    np.testing.assert_array_equal(item.read(), MASK)
    make(tmp_path / "b", S=MASK[:5])
    with pytest.raises(UserError, match=r"0 arrays have the size .*S \(5, 16\)"):
        matlab_masks.read(tmp_path / "b", NOTHING)
    with pytest.raises(UserError, match=r"no \.mat file with an image"):
        matlab_masks.read(tmp_path / "masks", NOTHING)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (MASK + 0.5, "no ids, such as 4.5"),
        (MASK * 1e12, "no ids"),
        (np.where(MASK == 1, np.nan, MASK), "no ids"),
        (MASK[None], r"shape \(1, 12, 16\)"),
        (MASK * 1j, "complex128 of shape"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        ("text", r"<U4 of shape"),
    ],
)
def test_what_holds_no_ids_is_refused(tmp_path: Path, values: object, message: str) -> None:
    item = matlab_masks.read(make(tmp_path, S=values), Options(variable="S")).items[0]
    with pytest.raises(BadImageError, match=rf"a\.mat: S .*{message}"):
        item.read()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = make(tmp_path) / "masks/train/a.mat"
    path.write_bytes(path.read_bytes()[:200])
    item = matlab_masks.read(tmp_path, Options(variable="S")).items[0]
    with pytest.raises(BadImageError, match=r"a\.mat: unreadable label file"):
        item.read()
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(BadImageError, match=r"a\.mat: unreadable label file"):
        matlab_masks.read(tmp_path, NOTHING)


@pytest.mark.parametrize(
    ("format", "others"), [("5", {"names": np.array(["a"], object), "s": {"a": 1}}), ("4", {})]
)
def test_arrays_are_listed(tmp_path: Path, format: str, others: dict[str, object]) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"S": MASK.astype(float), "t": "text", **others}, format=format)
    assert list_arrays(path) == {"S": (12, 16)}
    with pytest.raises(BadImageError, match="missing"):
        list_arrays(tmp_path / "b.mat")


def test_the_format_of_matlab_7_3_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(BadImageError, match=r"a\.mat: .*save\(\.\.\., '-v7'\)"):
        list_arrays(path)
