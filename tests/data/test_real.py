"""What the real SIFTFlow and Stanford Background hold, as METHOD's section 1 says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lhs.data import Dataset, open_dataset
from lhs.data.checking import inspect_dataset
from lhs.data.statistics import describe

pytestmark = pytest.mark.real
Opener = Callable[[str], Dataset]


def test_siftflow(real_dataset: Opener) -> None:
    dataset = real_dataset("siftflow")
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (2488, 200)
    assert len(dataset.classes) == 33
    assert (dataset.classes[0], dataset.classes[27], dataset.classes[32]) == (
        "awning",
        "sky",
        "window",
    )
    assert dataset.scene_names == (
        "coast",
        "forest",
        "highway",
        "insidecity",
        "mountain",
        "opencountry",
        "street",
        "tallbuilding",
    )
    found = describe(dataset)
    assert found.sizes == {(256, 256): 2688}
    assert found.splits["train"].labelled_share == pytest.approx(0.916, abs=0.0005)
    assert found.splits["train"].unlabelled_images == 2
    absent = [
        c for c, n in zip(dataset.classes, found.splits["test"].class_pixels, strict=True) if not n
    ]
    assert absent == ["cow", "desert", "moon"]
    assert dataset.scene("coast_natu975").split == "test"


def test_stanford(real_dataset: Opener) -> None:
    dataset = real_dataset("stanford")
    found = describe(dataset)
    assert (found.splits["train"].images, found.splits["test"].images) == (572, 143)
    assert len(dataset.classes) == 8
    assert len(found.sizes) == 51
    assert found.labelled_share == pytest.approx(0.995, abs=0.0005)
    assert dataset.scene_names == ()


def test_both_are_sound(real_data_root: Path) -> None:
    siftflow = inspect_dataset(open_dataset("siftflow", real_data_root))
    assert siftflow.errors == []
    assert len(siftflow.notes) == 3
    assert "highway_bost181" in siftflow.notes[0]
    assert "street_urb506" in siftflow.notes[1]
    stanford = inspect_dataset(open_dataset("stanford", real_data_root))
    assert (stanford.errors, stanford.notes) == ([], [])


@pytest.mark.slow
def test_text_labels_are_read_fast(real_dataset: Opener) -> None:
    scenes = real_dataset("stanford").split("test")
    start = time.process_time()
    for scene in scenes:
        scene.label_map()
    assert (time.process_time() - start) / len(scenes) < 0.010
