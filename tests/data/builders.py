"""Small datasets in every layout, made of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = ("sky", "sea", "sand")
HEIGHT, WIDTH = 12, 16


def noise_image(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Make an (H, W, 3) uint8 image."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def stripes(
    num_classes: int = len(CLASSES), height: int = HEIGHT, width: int = WIDTH
) -> np.ndarray:
    """Make an (H, W) label map with every class, ids from 0, in stripes from top to bottom."""
    rows = np.arange(height) * num_classes // height
    return np.repeat(rows[:, None], width, axis=1)


def save_image(path: Path, image: np.ndarray | None = None) -> Path:
    """Write an image file, noise where none is given, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise_image() if image is None else image).save(path)
    return path


def save_mat(path: Path, ids: np.ndarray, classes: Sequence[str] = CLASSES) -> None:
    """Write a SuperParsing label file from ids counted from 0, -1 where unlabelled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.empty((len(classes), 1), object)
    names[:, 0] = list(classes)
    savemat(path, {"S": (ids + 1).astype(np.uint8), "names": names})


def superparsing(
    folder: Path,
    train: Sequence[str] = ("all/coast_a1", "all/coast_a2", "all/street_b1"),
    test: Sequence[str] = ("all/coast_t1", "all/street_t1"),
    *,
    classes: Sequence[str] = CLASSES,
    separator: str = "\\",
) -> Path:
    """Make a dataset in the SuperParsing layout."""
    for image in (*train, *test):
        save_image(folder / "Images" / f"{image}.jpg")
        save_mat(folder / "SemanticLabels" / f"{image}.mat", stripes(len(classes)), classes)
    lines = [f"{image}.jpg".replace("/", separator) for image in test]
    (folder / "TestSet1.txt").write_text("\r\n".join(lines) + "\r\n")
    return folder


def stanford(
    folder: Path, ids: Sequence[str] = ("0000051", "0000059"), labels: np.ndarray | None = None
) -> Path:
    """Make a dataset in Stanford's layout; image 0000059 is in fold 1."""
    for id in ids:
        save_image(folder / "images" / f"{id}.jpg")
        save_stanford_labels(folder, id, stripes(8) if labels is None else labels)
    return folder


def save_stanford_labels(folder: Path, id: str, labels: np.ndarray) -> Path:
    """Write a `.regions.txt` file and the files beside it that are not read."""
    path = folder / "labels" / f"{id}.regions.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in labels.tolist()))
    path.with_name(f"{id}.surfaces.txt").write_text("1 1\n")
    return path


def plain(
    folder: Path,
    images: Sequence[str] = ("beach_1", "beach_2", "beach_3", "town_1", "town_2"),
    *,
    classes: Sequence[str] = CLASSES,
    splits: Mapping[str, Sequence[str]] | None = None,
    suffix: str = ".png",
) -> Path:
    """Make a plain folder dataset."""
    for number, image in enumerate(images):
        save_image(folder / "images" / f"{image}{suffix}", noise_image(number))
        save_labels(folder, image, stripes())
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    for split, entries in (splits or {}).items():
        path = folder / "splits" / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{entry}\n" for entry in entries))
    return folder


def save_labels(folder: Path, image: str, ids: np.ndarray) -> Path:
    """Write the PNG of ids of one image in a plain folder."""
    return save_image(folder / "labels" / f"{image}.png", ids.astype(np.uint8))
