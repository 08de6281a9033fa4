"""The procedural dataset: what it promises about counts, shares, context and repeatability."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.data.synthetic import CLASSES, synthetic_dataset

VOID = 255


@pytest.fixture(scope="module")
def painted() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Scene name, image and label map of 200 scenes."""
    dataset = synthetic_dataset(200, 0, 96, 128, unlabelled=0.08, seed=3)
    return [(scene.name or "", *scene.load()) for scene in dataset.split("train")]


def shares(label_maps: list[np.ndarray]) -> np.ndarray:
    counts = sum(np.bincount(label_map.ravel(), minlength=256) for label_map in label_maps)
    return np.asarray(counts)[: len(CLASSES)] / np.asarray(counts)[: len(CLASSES)].sum()


def test_splits_ids_and_names() -> None:
    dataset = synthetic_dataset(13, 7, 32, 40, unlabelled=0.1, seed=0)
    assert dataset.name == "synthetic"
    assert len(dataset.classes) >= 12
    assert dataset.colours.shape == (len(dataset.classes), 3)
    assert len(np.unique(dataset.colours, axis=0)) == len(dataset.classes)
    assert len(dataset.split("train")) == 13
    assert len(dataset.split("test")) == 7
    assert len(dataset.scene_names) >= 5
    for scene in dataset.scenes():
        assert scene.id.split("_")[0] == scene.name
        assert scene.files() == ()
        assert dataset.scene(scene.id) is scene


def test_scene_types_take_turns() -> None:
    names = [scene.name for scene in synthetic_dataset(60, 0, 32, 32, 0.0, 1).split("train")]
    assert {names.count(name) for name in set(names)} == {10}


def test_shapes_and_types() -> None:
    scene = synthetic_dataset(1, 0, 48, 80, unlabelled=0.2, seed=0).split("train")[0]
    image, label_map = scene.load()
    assert image.shape == (48, 80, 3)
    assert image.dtype == np.uint8
    assert label_map.shape == (48, 80)
    assert label_map.dtype == np.uint8
    label_map[:] = 0  # what is handed out is the caller's own
    assert scene.label_map().any()


def test_same_seed_same_scene_whatever_the_counts() -> None:
    few = synthetic_dataset(3, 2, 64, 64, unlabelled=0.1, seed=5)
    many = synthetic_dataset(30, 9, 64, 64, unlabelled=0.1, seed=5)
    for scene in few.scenes():
        # Other scenes are painted in between, so nothing comes from a cache.
        first = scene.load()
        for other in many.split("test")[:6]:
            other.image()
        for one, two in zip(first, many.scene(scene.id).load(), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.thorough
def test_seeds_and_splits_differ() -> None:
    images = {
        scene.image().tobytes()
        for seed in (0, 1)
        for scene in synthetic_dataset(12, 12, 32, 32, unlabelled=0, seed=seed).scenes()
    }
    assert len(images) == 48


@pytest.mark.thorough
def test_another_process_paints_the_same() -> None:
    code = (
        "import hashlib; from lhs.data.synthetic import synthetic_dataset;"
        "scenes = synthetic_dataset(6, 0, 64, 80, 0.1, 9).split('train');"
        "print(hashlib.sha256(b''.join(a.tobytes() for s in scenes for a in s.load())).hexdigest())"
    )
    printed = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1] != b""


def test_pickles_small() -> None:
    scene = synthetic_dataset(1, 0, 64, 64, unlabelled=0.1, seed=0).split("train")[0]
    scene.image()
    stored = pickle.dumps(scene)
    assert len(stored) < 500
    np.testing.assert_array_equal(pickle.loads(stored).image(), scene.image())


def test_fingerprint_depends_on_the_parameters() -> None:
    base = {"train": 4, "test": 2, "height": 32, "width": 32, "unlabelled": 0.1, "seed": 0}
    changed = {"train": 5, "test": 3, "height": 33, "width": 40, "unlabelled": 0.2, "seed": 1}
    one = synthetic_dataset(**base).fingerprint()  # type: ignore[arg-type]
    assert one == synthetic_dataset(**base).fingerprint()  # type: ignore[arg-type]
    others = {
        synthetic_dataset(**{**base, key: value}).fingerprint()  # type: ignore[arg-type]
        for key, value in changed.items()
    }
    assert len(others | {one}) == 7


@pytest.mark.thorough
@pytest.mark.parametrize("share", [0.03, 0.3, 0.9])
def test_share_unlabelled(share: float) -> None:
    scenes = synthetic_dataset(90, 0, 48, 64, unlabelled=share, seed=2).split("train")
    void = np.mean([(scene.label_map() == VOID).mean() for scene in scenes])
    assert void == pytest.approx(share, rel=0.2)


def test_nothing_unlabelled() -> None:
    for scene in synthetic_dataset(6, 0, 48, 64, unlabelled=0, seed=2).split("train"):
        assert scene.label_map().max() < len(CLASSES)


@pytest.mark.thorough
def test_void_lies_on_boundaries(painted: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    full = synthetic_dataset(12, 0, 96, 128, unlabelled=0, seed=3).split("train")
    part = synthetic_dataset(12, 0, 96, 128, unlabelled=0.1, seed=3).split("train")
    at_edge, away = [], []
    for one, two in zip(full, part, strict=True):
        edge = cv2.Laplacian(one.label_map(), cv2.CV_32F) != 0
        void = two.label_map() == VOID
        np.testing.assert_array_equal(one.label_map()[~void], two.label_map()[~void])
        at_edge.append(void[edge].mean())
        away.append(void[~edge].mean())
    assert np.mean(at_edge) > 2 * np.mean(away)


@pytest.mark.thorough
def test_long_tail(painted: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    share = np.sort(shares([label_map for *_, label_map in painted]))
    assert share[-1] > 0.18
    assert share[-3:].sum() > 0.45
    assert (share < 0.01).sum() >= 3
    assert share[0] > 0.0003


def test_every_class_occurs_often(painted: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    images = [sum((m == k).any() for *_, m in painted) for k in range(len(CLASSES))]
    assert min(images) >= 20, dict(zip(CLASSES, images, strict=True))


def test_context_changes_how_a_class_looks(
    painted: list[tuple[str, np.ndarray, np.ndarray]],
) -> None:
    building = CLASSES.index("building")
    contrast: dict[str, list[float]] = {"street": [], "coast": []}
    area: dict[str, list[float]] = {"street": [], "coast": []}
    for name, image, label_map in painted:
        where = label_map == building
        if name not in contrast or where.sum() < 20:
            continue
        contrast[name].append(float(image[where].std(axis=0).mean()))
        area[name].append(float(where.mean()))
    assert np.median(contrast["street"]) > 1.5 * np.median(contrast["coast"])
    assert np.median(area["street"]) > 10 * np.median(area["coast"])


def test_classes_keep_to_their_scenes(painted: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    by_name = {
        name: shares([label_map for other, _, label_map in painted if other == name])
        for name in {name for name, *_ in painted}
    }
    most = {name: CLASSES[int(share[1:].argmax()) + 1] for name, share in by_name.items()}
    assert most["street"] in ("building", "road")
    assert most["forest"] == "tree"
    assert most["highway"] in ("road", "grass")
    assert most["country"] == "grass"
    assert by_name["coast"][CLASSES.index("sand")] > 0.1
    assert by_name["lake"][CLASSES.index("mountain")] > 0.1


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(32, 200),
    width=st.integers(32, 200),
    unlabelled=st.floats(0, 0.9),
    seed=st.integers(0, 2**40),
    number=st.integers(0, 11),
)
def test_any_size(height: int, width: int, unlabelled: float, seed: int, number: int) -> None:
    dataset = synthetic_dataset(12, 0, height, width, unlabelled=unlabelled, seed=seed)
    image, label_map = dataset.split("train")[number].load()
    assert image.shape == (height, width, 3)
    assert label_map.shape == (height, width)
    assert np.isin(label_map, [*range(len(CLASSES)), VOID]).all()
    assert image.std() > 2


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(32, 640), (640, 32), (700, 900)])
def test_extreme_sizes(shape: tuple[int, int]) -> None:
    for scene in synthetic_dataset(6, 0, *shape, unlabelled=0.1, seed=0).split("train"):
        assert scene.image().shape == (*shape, 3)


def test_nothing_is_painted_at_import() -> None:
    code = (
        "import lhs.data.synthetic as s, sys; from lhs.data.synthetic import canvas, sprites;"
        "print(canvas.noise_tile.cache_info().currsize, sprites.sprite.cache_info().currsize,"
        "s._painted.cache_info().currsize, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0", "0", "False"]
