"""The readers of Stanford Background, the SuperParsing layout and plain folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhs.data.folder import ignored_files, open_folder
from lhs.data.stanford import CLASSES, fold_ids, open_stanford
from lhs.data.superparsing import open_superparsing
from lhs.errors import BadImageError, UserError
from tests.data.builders import (
    noise_image,
    plain,
    save_image,
    save_labels,
    save_mat,
    save_stanford_labels,
    stanford,
    stripes,
    superparsing,
)


def test_stanford(tmp_path: Path) -> None:
    labels = stripes(8)
    labels[0, :3] = (-1, -5, 7)
    dataset = open_stanford(stanford(tmp_path, labels=labels))
    assert dataset.classes == CLASSES
    assert [s.id for s in dataset.split("test")] == ["0000059"]
    assert [s.id for s in dataset.split("train")] == ["0000051"]
    image, label_map = dataset.scene("0000051").load()
    assert image.shape == (12, 16, 3)
    assert label_map.dtype == np.uint8
    assert label_map[0, :4].tolist() == [255, 255, 7, 0]
    assert (label_map[1:] == labels[1:]).all()
    assert dataset.scene_names == ()


def test_stanford_folds_are_disjoint_and_complete() -> None:
    folds = [fold_ids(k) for k in range(1, 6)]
    assert [len(fold) for fold in folds] == [143] * 5
    assert len(set().union(*folds)) == 715


def test_stanford_random_split(tmp_path: Path) -> None:
    ids = [f"{i:07}" for i in range(20)]
    folder = stanford(tmp_path, ids)
    first = open_stanford(folder, split="random", seed=1)
    assert (len(first.split("train")), len(first.split("test"))) == (16, 4)
    same = open_stanford(folder, split="random", seed=1)
    other = open_stanford(folder, split="random", seed=2)
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("text", ["", " \n", "0 1\n0\n", "0 a\n0 1\n", "0 1.5\n", "# 0 1\n"])
def test_stanford_labels_that_are_none(tmp_path: Path, text: str) -> None:
    dataset = open_stanford(stanford(tmp_path))
    (tmp_path / "labels/0000051.regions.txt").write_text(text)
    with pytest.raises(BadImageError, match=r"0000051\.regions\.txt"):
        dataset.scene("0000051").label_map()


def test_stanford_id_out_of_range(tmp_path: Path) -> None:
    save_stanford_labels(stanford(tmp_path), "0000051", stripes(9))
    with pytest.raises(UserError, match=r"0000051\.regions\.txt: label id 8 out of range.*8 cla"):
        open_stanford(tmp_path).scene("0000051").label_map()


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_superparsing(tmp_path: Path, separator: str) -> None:
    dataset = open_superparsing(
        "siftflow", superparsing(tmp_path, separator=separator), scene_names=True
    )
    assert dataset.classes == ("sky", "sea", "sand")
    assert [s.id for s in dataset.split("train")] == ["coast_a1", "coast_a2", "street_b1"]
    assert [s.id for s in dataset.split("test")] == ["coast_t1", "street_t1"]
    assert dataset.scene_names == ("coast", "street")
    assert dataset.scene("street_b1").name == "street"
    labels = stripes()
    labels[:2] = -1
    save_mat(tmp_path / "SemanticLabels/all/coast_a1.mat", labels)
    _, label_map = dataset.scene("coast_a1").load()
    assert (label_map[:2] == 255).all()
    assert (label_map[2:] == labels[2:]).all()


def test_superparsing_with_nested_folders(tmp_path: Path) -> None:
    superparsing(tmp_path, ("x/one/a", "x/two/a"), ("y/a",))
    dataset = open_superparsing("barcelona", tmp_path, scene_names=False)
    assert [s.id for s in dataset.scenes()] == ["x/one/a", "x/two/a", "y/a"]
    assert [s.id for s in dataset.split("test")] == ["y/a"]
    assert dataset.scene("y/a").name is None


def test_superparsing_with_more_than_255_classes(tmp_path: Path) -> None:
    classes = [f"c{i}" for i in range(300)]
    superparsing(tmp_path, ("a",), ("b",), classes=classes)
    from scipy.io import savemat

    names = np.array(classes, object)[None]
    savemat(tmp_path / "SemanticLabels/a.mat", {"S": np.array([[0, 300]]), "names": names})
    dataset = open_superparsing("lmsun", tmp_path, scene_names=False)
    assert dataset.void == 65535
    assert dataset.classes == tuple(classes)
    assert dataset.scene("a").label_map().dtype == np.uint16
    assert dataset.scene("a").label_map().tolist() == [[65535, 299]]


def test_superparsing_with_wrong_files(tmp_path: Path) -> None:
    labels = superparsing(tmp_path) / "SemanticLabels/all"
    dataset = open_superparsing("siftflow", tmp_path, scene_names=True)
    save_mat(labels / "coast_a1.mat", stripes(4))
    (labels / "coast_a2.mat").write_bytes(b"no mat file" * 30)
    (labels / "street_b1.mat").unlink()
    with pytest.raises(UserError, match=r"coast_a1\.mat: label id 3 out of range"):
        dataset.scene("coast_a1").label_map()
    with pytest.raises(BadImageError, match=r"coast_a2\.mat: unreadable label file"):
        dataset.scene("coast_a2").label_map()
    with pytest.raises(BadImageError, match=r"street_b1\.mat: label file of .* is missing"):
        dataset.scene("street_b1").label_map()
    save_mat(labels / "coast_t1.mat", stripes(height=5))
    with pytest.raises(BadImageError, match=r"coast_t1\.mat: label map is 16 x 5 .*coast_t1\.jpg"):
        dataset.scene("coast_t1").load()


def test_superparsing_with_a_wrong_test_list(tmp_path: Path) -> None:
    superparsing(tmp_path)
    (tmp_path / "TestSet1.txt").write_text("all/coast_t1.jpg\nall/gone1.jpg\nall/gone2.jpg\n")
    with pytest.raises(UserError, match=r"TestSet1\.txt: 2 test images not found.*gone1.*gone2"):
        open_superparsing("siftflow", tmp_path, scene_names=True)
    for path in tmp_path.rglob("*.mat"):
        path.unlink()
    (tmp_path / "TestSet1.txt").write_text("")
    with pytest.raises(UserError, match="no readable label file"):
        open_superparsing("siftflow", tmp_path, scene_names=True)


def test_folder_with_lists(tmp_path: Path) -> None:
    lists = {"train": ["beach_1", "beach_2.png"], "test": ["town_1.png"]}
    dataset = open_folder(plain(tmp_path / "mine", splits=lists), scenes="prefix")
    assert dataset.name == "mine"
    assert [s.id for s in dataset.split("train")] == ["beach_1", "beach_2"]
    assert [s.id for s in dataset.split("test")] == ["town_1"]
    assert dataset.scene_names == ("beach", "town")
    image, label_map = dataset.scene("beach_1").load()
    assert (image == noise_image(0)).all()
    assert (label_map == stripes()).all()


def test_folder_with_one_list_or_none(tmp_path: Path) -> None:
    dataset = open_folder(plain(tmp_path / "one", splits={"test": ["town_1"]}))
    assert len(dataset.split("train")) == 4
    dataset = open_folder(plain(tmp_path / "other", splits={"train": ["town_1"]}))
    assert len(dataset.split("test")) == 4
    dataset = open_folder(plain(tmp_path / "none"))
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (4, 1)


def test_folder_with_declared_void(tmp_path: Path) -> None:
    plain(tmp_path)
    ids = stripes()
    ids[0] = 9
    save_labels(tmp_path, "beach_1", ids)
    scene = open_folder(tmp_path, void=9).scene("beach_1")
    assert (scene.label_map()[0] == 255).all()
    with pytest.raises(UserError, match=r"beach_1\.png: label id 9 out of range.*ids 0\.\.2"):
        open_folder(tmp_path).scene("beach_1").label_map()
    with pytest.raises(UserError, match=r"void is 1, the id of class 'sea'.*classes\.txt"):
        open_folder(tmp_path, void=1)


def test_folder_with_ids_from_1_and_several_void_ids(tmp_path: Path) -> None:
    plain(tmp_path)
    ids = stripes() + 1
    ids[0], ids[-1] = 0, 255
    save_labels(tmp_path, "beach_1", ids)
    label_map = open_folder(tmp_path, void=(0, 255), ids_from=1).scene("beach_1").label_map()
    assert (label_map[[0, -1]] == 255).all()
    assert (label_map[1:-1] == stripes()[1:-1]).all()
    for void, message in (
        (255, r"id 0 out of range.*ids 1\.\.3, and data\.folder\.void is 255$"),
        ((0, 7), r"id 255 out of range.*ids 1\.\.3, and data\.folder\.void is 0, 7$"),
    ):
        with pytest.raises(UserError, match=message):
            open_folder(tmp_path, void=void, ids_from=1).scene("beach_1").label_map()
    # The fourth of three classes: one off.
    with pytest.raises(UserError, match=r"id 3 out of range.*ids 0\.\.2.*data\.folder\.ids_from=1"):
        open_folder(tmp_path, void=(255, 254)).scene("beach_1").label_map()
    with pytest.raises(UserError, match=r"void is 3, the id of class 'sand'.*counts from 1"):
        open_folder(tmp_path, void=(0, 3), ids_from=1)
    open_folder(tmp_path, void=3)


def test_one_void_id_and_ids_from_0_are_in_the_fingerprint_as_before(tmp_path: Path) -> None:
    plain(tmp_path)
    usual = open_folder(tmp_path, void=9)
    assert usual._identity == {"void": 9}
    assert open_folder(tmp_path, void=(9,)).fingerprint() == usual.fingerprint()
    others = {open_folder(tmp_path, void=void, ids_from=first).fingerprint()
              for void, first in ((9, 0), (10, 0), (9, 1), ((9, 10), 0))}  # fmt: skip
    assert len(others) == 4


def test_folder_tested_on_its_validation_list(tmp_path: Path) -> None:
    lists = {"train": ["beach_1"], "val": ["beach_2", "beach_3.png"], "test": ["town_1"]}

    def split_of(name: str, lists: dict[str, list[str]]) -> tuple[list[str], list[str]]:
        dataset = open_folder(plain(tmp_path / name, splits=lists), held_out="val")
        return [s.id for s in dataset.split("train")], [s.id for s in dataset.split("test")]

    assert split_of("all", lists) == (["beach_1"], ["beach_2", "beach_3"])
    rest = {"val": ["beach_1"], "test": ["town_1"]}
    assert split_of("rest", rest) == (["beach_2", "beach_3", "town_2"], ["beach_1"])
    assert split_of("same", {"val": ["town_1"], "test": ["town_1"]})[1] == ["town_1"]
    train, test = split_of("alone", {"val": ["beach_1", "town_1"]})
    assert test == ["beach_1", "town_1"]
    assert 2 <= len(train) <= 3
    assert not set(train) & set(test)
    assert ignored_files(tmp_path / "all", "val") == []
    (line,) = ignored_files(tmp_path / "all")
    assert line.startswith("splits/val.txt is unused")
    assert "data.held_out=val" in line
    for name, lists, message in (
        ("none", {"train": ["beach_1"]}, r"held_out is 'val', and .*val\.txt is not there"),
        ("both", {"train": ["beach_1"], "val": ["beach_1"]}, r"val\.txt: image 'beach_1' is in tr"),
        ("gone", {"val": ["gone"]}, r"val\.txt: 1 entries are no image.*gone"),
    ):
        with pytest.raises(UserError, match=message):
            split_of(name, lists)


def test_folder_with_scene_names_from_folders_and_csv(tmp_path: Path) -> None:
    nested = plain(tmp_path / "nested", ("sea/a", "sea/b", "hill/a"))
    dataset = open_folder(nested, scenes="folder")
    assert [(s.id, s.name) for s in dataset.scenes()] == [
        ("hill/a", "hill"),
        ("sea/a", "sea"),
        ("sea/b", "sea"),
    ]
    (nested / "names.csv").write_text("image,scene\nsea/a.png,cold\nsea/b,warm\nhill/a,cold\n")
    assert open_folder(nested, scenes="names.csv").scene_names == ("cold", "warm")
    (nested / "names.csv").write_text("image,scene\nsea/a.png,cold\n")
    with pytest.raises(UserError, match=r"names\.csv: 2 images have no scene name.*'hill/a'"):
        open_folder(nested, scenes=str(nested / "names.csv"))
    (nested / "names.csv").write_text("file,kind\nsea/a.png,cold\n")
    with pytest.raises(UserError, match="needed: the columns image,scene"):
        open_folder(nested, scenes="names.csv")
    with pytest.raises(UserError, match=r"scenes is 'prefixes'; allowed: none, folder, prefix"):
        open_folder(nested, scenes="prefixes")
    with pytest.raises(UserError, match="lies in no folder"):
        open_folder(plain(tmp_path / "flat"), scenes="folder")


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no images, labels, classes\.txt"):
        open_folder(tmp_path)
    plain(tmp_path, splits={"train": ["beach_1", "gone"]})
    with pytest.raises(UserError, match=r"train\.txt: 1 entries are no image.*gone"):
        open_folder(tmp_path)
    plain(tmp_path, splits={"train": ["beach_1"], "test": ["beach_1"]})
    with pytest.raises(UserError, match="'beach_1' is in both splits"):
        open_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(UserError, match=r"classes\.txt is empty"):
        open_folder(tmp_path)


@pytest.mark.parametrize("other", ["beach_1_mask.png", "beach_1.tif", "beach_1.mat"])
def test_a_missing_label_file_names_what_is_there_instead(tmp_path: Path, other: str) -> None:
    plain(tmp_path)
    (tmp_path / "labels/beach_1.png").rename(tmp_path / "labels" / other)
    (tmp_path / "labels/beach_12.png").write_bytes(b"of another image")
    scene = open_folder(tmp_path).scene("beach_1")
    with pytest.raises(BadImageError, match=r"beach_1\.png: label file of .* is missing") as caught:
        scene.label_map()
    assert f"; there is {other}, where" in str(caught.value)


def test_a_missing_label_file_without_any_other(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "labels/beach_1.png").rename(tmp_path / "labels/beach_10.png")
    with pytest.raises(BadImageError, match=r"label file of image beach_1 is missing$"):
        open_folder(tmp_path).scene("beach_1").label_map()


def test_files_that_nothing_reads_are_counted(tmp_path: Path) -> None:
    plain(tmp_path, splits={"train": ["beach_1"], "val": ["beach_2"]})
    assert ignored_files(plain(tmp_path / "other")) == []
    for name in ("images/x.gif", "images/y.GIF", "labels/beach_1.tif", "images/.hidden"):
        (tmp_path / name).write_bytes(b"")
    lines = ignored_files(tmp_path)
    assert [line.partition(";")[0] for line in lines] == [
        "2 .gif in images/ are ignored",
        "1 .tif in labels/ is ignored",
        "splits/val.txt is unused",
    ]
    for path in (tmp_path / "images").glob("*.png"):
        path.unlink()
    (tmp_path / "splits/train.txt").unlink()
    with pytest.raises(
        UserError, match=r"no images in this folder; 2 \.gif in images/ are ignored"
    ):
        open_folder(tmp_path)


def test_two_images_of_one_stem(tmp_path: Path) -> None:
    plain(tmp_path)
    save_image(tmp_path / "images/beach_1.jpg")
    with pytest.raises(UserError, match=r"beach_1\.jpg and .*beach_1\.png differ only"):
        open_folder(tmp_path)


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    root = plain(tmp_path / "latin")
    (root / "classes.txt").write_bytes("himmel\nstra\xdfe\nsand\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt: byte 12 is not UTF-8"):
        open_folder(root)
