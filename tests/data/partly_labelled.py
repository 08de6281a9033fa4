"""Writes datasets like Barcelona and LM+Sun, whose images are mostly unlabelled, at any size.

Layout: SuperParsing. Published and kept: the number of classes, the share of labelled pixels of the
training set, the share of its images that are less than 90 % labelled (paper, section 4.4). Those
are the larger ones here: with images of one size LM+Sun's two shares could not both be true. What
the pictures show is made up: patches of one colour a class, in eight kinds of scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SCENES = 8
UNUSED = 5
"""Classes, the last ones, that are listed and never used."""
BARE = 25
"""Of so many sparsely labelled images, one has no label at all."""
TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "int64", "float64")
"""Of `S`: releases of such datasets hold all sorts."""


@dataclass(frozen=True)
class Published:
    """What the paper says of a dataset: `sparse` training images are less than 90 % labelled."""

    classes: int
    train: int
    test: int
    labelled: float
    sparse: int


PUBLISHED = {
    "barcelona": Published(170, 13370, 279, 0.494, 8673),
    "lmsun": Published(232, 45176, 500, 0.384, 24682),
}


def write_partly_labelled(
    folder: Path, name: str, *, train: int, test: int, side: int = 96, seed: int = 0
) -> Path:
    """Write a dataset into `folder`.

    Parameters
    ----------
    folder
        Gets `Images/`, `SemanticLabels/` and `TestSet1.txt`.
    name
        A key of `PUBLISHED`.
    train, test
        Images of each split.
    side
        Pixels of a well labelled image's side, about; the others have twice as many pixels.
    seed
        Of everything.
    """
    published = PUBLISHED[name]
    rng = np.random.default_rng(seed)
    sparse = np.zeros(train, bool)
    sparse[rng.permutation(train)[: round(train * published.sparse / published.train)]] = True
    bare = set(np.flatnonzero(sparse)[::BARE].tolist())
    scene_weights, colours = _world(published.classes, rng)
    names = np.array([f"class {i:03}" for i in range(published.classes)], object)[:, None]
    # The well labelled come first: what they miss or have too much, the others make good.
    due, sparse_pixels = 0.0, 0
    regions = {}
    for number in [*np.flatnonzero(~sparse), *np.flatnonzero(sparse), *range(train, train + test)]:
        is_sparse = number < train and bool(sparse[number])
        regions[int(number)] = found = _regions(side * (2**0.5 if is_sparse else 1.0), rng)
        if number < train:
            due += published.labelled * found.size
            sparse_pixels += found.size * is_sparse
    listed = []
    for number, map_ in regions.items():
        scene = int(rng.integers(SCENES))
        classes = rng.choice(published.classes, map_.max() + 1, p=scene_weights[scene])
        truth = classes[map_]
        if number < train and sparse[number]:
            wanted = 0 if number in bare else due * map_.size / sparse_pixels
            kept = _some_labelled(map_, wanted, rng)
            sparse_pixels -= map_.size
        else:
            kept = _nearly_all_labelled(map_)
        due -= kept.sum() if number < train else 0
        stem = f"static_scene_{scene}/part_{number % 3}/img_{number:06}"
        noise = rng.normal(0, 18, (*map_.shape, 3))
        pixels = np.clip(colours[truth] + noise, 0, 255).astype(np.uint8)
        image = folder / "Images" / f"{stem}.jpg"
        labels = folder / "SemanticLabels" / f"{stem}.mat"
        for path in (image, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(image, quality=90)
        ids = np.where(kept, truth + 1, 0).astype(TYPES[number % len(TYPES)])
        savemat(labels, {"S": ids, "names": names}, do_compression=True)
        if number >= train:
            listed.append(stem.replace("/", "\\") + ".jpg")
    (folder / "TestSet1.txt").write_bytes("".join(f"{line}\r\n" for line in listed).encode())
    return folder


def _world(classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How often classes come in each kind of scene, (SCENES, L), and their colours (L, 3)."""
    used = classes - UNUSED
    weights = np.zeros((SCENES, classes))
    # A few classes are everywhere, most are rare, as in photographs.
    weights[:, :used] = rng.gamma(0.5, size=(SCENES, used)) / np.arange(1, used + 1)
    return weights / weights.sum(axis=1, keepdims=True), rng.uniform(30, 225, (classes, 3))


def _regions(side: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) ids from 0 of 5 to 12 regions, on an image of odd proportions."""
    stretch = rng.uniform(0.8, 1.25)
    height, width = round(side * stretch), round(side / stretch)
    points = rng.uniform(0, 1, (int(rng.integers(5, 13)), 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return np.unique(distance.argmin(axis=2), return_inverse=True)[1].reshape(height, width)


def _nearly_all_labelled(regions: np.ndarray) -> np.ndarray:
    """All but the smallest region, where that leaves more than 90 %."""
    sizes = np.bincount(regions.ravel())
    smallest = sizes.argmin()
    return (regions != smallest) | (sizes[smallest] > 0.08 * regions.size)


def _some_labelled(regions: np.ndarray, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """Whole regions, as annotators skip objects, with about so many pixels; none may be left."""
    sizes = np.bincount(regions.ravel())
    kept, pixels = np.zeros(len(sizes), bool), 0
    for region in rng.permutation(len(sizes)):
        after = pixels + sizes[region]
        if abs(wanted - after) < abs(wanted - pixels) and after < 0.88 * regions.size:
            kept[region], pixels = True, after
    return kept[regions]
