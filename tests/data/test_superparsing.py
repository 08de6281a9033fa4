"""The SuperParsing layout in all its variants, and datasets of Barcelona's and LM+Sun's kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lhs.data import open_dataset
from lhs.data.catalogue import KNOWN
from lhs.data.statistics import describe
from lhs.data.superparsing import open_superparsing
from lhs.errors import BadImageError, UserError
from tests.data.builders import superparsing
from tests.data.partly_labelled import PUBLISHED, UNUSED, write_partly_labelled


def opened(folder: Path):
    return open_superparsing("barcelona", folder, scene_names=False)


def saved(folder: Path, ids: np.ndarray) -> None:
    names = np.array(["sky", "sea", "sand"], object)[None]
    savemat(folder / "SemanticLabels/a.mat", {"S": ids, "names": names})


@pytest.mark.parametrize(
    "kind", ["u1", "i1", "u2", "i2", ">i2", "u4", "i4", "u8", "i8", "f4", "f8"]
)
def test_labels_of_any_type_of_number(tmp_path: Path, kind: str) -> None:
    dataset = opened(superparsing(tmp_path, ("a",), ("b",)))
    ids = np.array([[0, 1], [3, 2]]).astype(kind)
    if np.dtype(kind).kind != "u":
        ids[0, 0] = -7
    saved(tmp_path, ids)
    assert dataset.scene("a").label_map().tolist() == [[255, 0], [2, 1]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[1.5]]), "whole numbers"),
        (np.array([[np.nan]]), "whole numbers"),
        (np.array(["text"]), "must hold numbers, found"),
        (np.array([[1 + 2j]]), "must hold numbers, found complex128"),
        # Numbers that a smaller type would take for unlabelled.
        (np.array([[2**32]], "u8"), "S holds 4294967296, allowed are 0 to 3"),
        (np.array([[2**63]], "u8"), "S holds 9223372036854775808, allowed are 0 to 3"),
        (np.array([[np.inf]]), "S holds inf, allowed are 0 to 3"),
        (np.array([[65536]], "i4"), "S holds 65536, allowed are 0 to 3"),
        (np.array([[4]], "u1"), "label id 3 out of range"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, ids: np.ndarray, message: str) -> None:
    dataset = opened(superparsing(tmp_path, ("a",), ("b",)))
    saved(tmp_path, ids)
    with pytest.raises((BadImageError, UserError), match=rf"a\.mat: .*{message}"):
        dataset.scene("a").label_map()


IMAGES = ("x/one/a", "x/two/a", "y/b", "y/c.d")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (rb"x\one\a.jpg", ["x/one/a"]),
        (b"x/one/a.jpg\r\ny/b.jpg\r\n", ["x/one/a", "y/b"]),
        (b"\xef\xbb\xbfx/two/a.jpg\n\n  y/b.jpg  \n", ["x/two/a", "y/b"]),
        ("\ufeffx\\two\\a.jpg\r\n".encode("utf-16-le"), ["x/two/a"]),
        ("\ufeffy/b.jpg\n".encode("utf-16-be"), ["y/b"]),
        (b"x/one/a.mat\ny/b", ["x/one/a", "y/b"]),
        (b"X/ONE/A.JPG", ["x/one/a"]),
        (b"y/c.d.jpg\ny/b.png", ["y/b", "y/c.d"]),
        (b"y/c.d", ["y/c.d"]),
        (rb".\Images\x\one\a.jpg", ["x/one/a"]),
        (b"/home/me/Barcelona/Images/x/two/a.jpg", ["x/two/a"]),
        (b"two/a.jpg\nb.jpg", ["x/two/a", "y/b"]),
        (b"elsewhere/b.jpg", ["y/b"]),
        (b"x/one/a.jpg\nx/one/a.jpg", ["x/one/a"]),
    ],
)
def test_lists_of_test_images(tmp_path: Path, lines: bytes, found: list[str]) -> None:
    superparsing(tmp_path, IMAGES, ())
    (tmp_path / "TestSet1.txt").write_bytes(lines)
    dataset = opened(tmp_path)
    assert [scene.id for scene in dataset.split("test")] == found
    assert len(dataset.split("train")) == len(IMAGES) - len(found)


@pytest.mark.parametrize("line", ["a.jpg", "z/a.jpg", "y/c.jpg", "/", "..", "y"])
def test_what_names_no_image_or_several_is_refused(tmp_path: Path, line: str) -> None:
    superparsing(tmp_path, IMAGES, ())
    (tmp_path / "TestSet1.txt").write_text(line)
    with pytest.raises(UserError, match="1 test images not found in Images, or several fit: "):
        opened(tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_generated_datasets_have_the_published_shares(tmp_path: Path, name: str) -> None:
    published, known = PUBLISHED[name], KNOWN[name]
    assert (published.classes, published.train, published.test) == (
        known.num_classes, known.train, known.test,
    )  # fmt: skip
    write_partly_labelled(tmp_path / name, name, train=120, test=12, side=48)
    dataset = open_dataset(name, tmp_path)
    assert len(dataset.classes) == published.classes
    found = describe(dataset)
    train, test = found.splits["train"], found.splits["test"]
    assert (train.images, test.images) == (120, 12)
    assert train.labelled_share == pytest.approx(published.labelled, abs=0.01)
    shares = np.array([(s.label_map() != dataset.void).mean() for s in dataset.split("train")])
    assert (shares < 0.9).mean() == pytest.approx(published.sparse / published.train, abs=0.01)
    assert test.labelled_share > 0.9
    assert train.unlabelled_images > 0
    assert len(found.sizes) > 50
    assert {(height % 2, width % 2) for height, width in found.sizes} == {
        (0, 0), (0, 1), (1, 0), (1, 1),
    }  # fmt: skip
    assert not any(train.class_pixels[-UNUSED:])
    assert sum(count > 0 for count in train.class_pixels) > 20
