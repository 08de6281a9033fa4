"""An exported hierarchy, read by other trainers' own loaders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import VOCSegmentation

from lhs.data.folder import open_folder
from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.controls import from_classes
from lhs.hierarchy.export import VOC, check_target, export_dataset
from lhs.hierarchy.image_clusters import from_image_clusters
from lhs.hierarchy.scene_names import from_scene_names
from tests.data.builders import noise_image, plain

from .test_hierarchy import CLASSES, cluster_hierarchy


@dataclass(frozen=True, kw_only=True)
class Toy(Scene):
    """Noise; 40 x 50 in training, 30 x 20 in the test split."""

    def image(self) -> np.ndarray:
        return noise_image(len(self.id), *self._sides())

    def label_map(self) -> np.ndarray:
        rng = np.random.default_rng(len(self.id))
        return rng.choice([0, 1, 2, 4, 255], self._sides()).astype(np.uint8)

    def _sides(self) -> tuple[int, int]:
        return (40, 50) if self.split == "train" else (30, 20)


SCENES = [
    Toy(id=name, split=split, num_classes=5, name="coast")
    for name, split in (("all/a", "train"), ("all/bc", "train"), ("d", "test"))
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "new"
    assert export_dataset(cluster_hierarchy(), SCENES, folder) == {"train": 2, "val": 1}
    return folder


def expected(scene: Scene) -> np.ndarray:
    return cluster_hierarchy().relabel(scene.label_map())


def test_torchvision_reads_it(exported: Path) -> None:
    for split, scenes in (("train", SCENES[:2]), ("val", SCENES[2:])):
        dataset = VOCSegmentation(str(exported), image_set=split)
        assert len(dataset) == len(scenes)
        for (image, target), scene in zip(dataset, scenes, strict=True):
            np.testing.assert_array_equal(np.array(target), expected(scene))
            difference = np.abs(np.array(image).astype(int) - scene.image())
            # JPEG of quality 95, of noise.
            assert difference.mean() < 8
    assert (exported / "classes.txt").read_text().splitlines() == [
        "sky/1", "sky/2", "sky/3", "sea/1", "sea/2", "tree/1", "moon", "cow",
    ]  # fmt: skip
    assert Hierarchy.load(exported / "hierarchy.json").digest == cluster_hierarchy().digest


def test_hugging_face_reads_it(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Reads these variables when it is imported.
    import datasets

    listed = {"train": str(exported / VOC / "metadata.jsonl")}
    rows = datasets.load_dataset(
        "imagefolder", data_files=listed, split="train", cache_dir=str(tmp_path)
    )
    assert rows["split"] == ["train", "train", "val"]
    train = rows.filter(lambda split: split == "train", input_columns="split")
    assert len(train) == 2
    for row, scene in zip(rows, SCENES, strict=True):
        np.testing.assert_array_equal(np.array(row["label"]), expected(scene))
        assert row["image"].size == scene.image().shape[1::-1]
    names = json.loads((exported / "id2label.json").read_text())
    assert {int(key): name for key, name in names.items()} == {
        k: subclass.name for k, subclass in enumerate(cluster_hierarchy().subclasses)
    }


def test_the_maps_come_back_by_their_ids(exported: Path) -> None:
    """As a hierarchy of subclass maps reads them."""
    labels = exported / VOC / "SegmentationClass"
    for scene in SCENES:
        found = np.array(Image.open(labels / f"{scene.id}.png"))
        np.testing.assert_array_equal(found, expected(scene))


def test_image_clusters_know_no_test_image(tmp_path: Path) -> None:
    hierarchy = from_image_clusters(
        kind="image_clusters", dataset="toy", classes=CLASSES, counts=np.ones((2, 5)),
        images={"all/a": 0, "all/bc": 1}, centres=np.eye(2), rho=0.9, described_by="gist",
        seed=0, backend="sklearn",
    )  # fmt: skip
    assert export_dataset(hierarchy, SCENES, tmp_path / "new") == {"train": 2}
    assert not (tmp_path / "new" / VOC / "ImageSets/Segmentation/val.txt").exists()


def test_jpegs_are_copied_unless_turned(tmp_path: Path) -> None:
    folder = plain(tmp_path / "set", ["a", "b"], splits={"test": ["b"]}, suffix=".jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(noise_image(3)).save(folder / "images/b.jpg", exif=exif)
    dataset = open_folder(folder, labels_follow_exif=True)
    hierarchy = from_classes(dataset="set", classes=dataset.classes, counts=np.ones(3))
    export_dataset(hierarchy, dataset.scenes(), tmp_path / "new")
    pictures = tmp_path / "new" / VOC / "JPEGImages"
    assert (pictures / "a.jpg").read_bytes() == (folder / "images/a.jpg").read_bytes()
    turned = np.array(Image.open(pictures / "b.jpg")).astype(int)
    assert np.abs(turned - dataset.scene("b").image()).mean() < 8


def test_more_than_255_subclasses_are_16_bits(tmp_path: Path) -> None:
    hierarchy = from_scene_names(
        dataset="many", classes=CLASSES, scene_names=["coast", *map(str, range(59))],
        counts=np.ones((60, 5), int), rho=1.0,
    )  # fmt: skip
    export_dataset(hierarchy, SCENES[:1], tmp_path / "new")
    [(_, target)] = VOCSegmentation(str(tmp_path / "new"), image_set="train")
    found = np.array(target)
    assert found.max() == 65535
    np.testing.assert_array_equal(found, hierarchy.relabel(SCENES[0].label_map(), "coast"))


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--export .*file: found a file, needed is a folder"):
        check_target(tmp_path / "file")


def test_a_folder_that_holds_something_is_refused(exported: Path) -> None:
    with pytest.raises(UserError, match="not empty; name a new or an empty folder"):
        export_dataset(cluster_hierarchy(), SCENES, exported)
