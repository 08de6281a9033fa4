"""Images that EXIF turns, and label maps that lie like them or like the stored pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lhs.config import DataConfig
from lhs.data.checking import inspect_dataset
from lhs.data.folder import open_folder
from lhs.data.images import image_orientation, read_image, turned_upright
from lhs.errors import BadImageError, UserError
from tests.data.builders import noise_image, plain, save_labels

ORIENTATIONS = range(1, 9)


def save_turned(path: Path, pixels: np.ndarray, orientation: int, **options: object) -> None:
    """Store pixels so that a viewer turns them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)


def quarters(height: int, width: int) -> np.ndarray:
    """A label map of 0, 1, 2, 0 that no turn leaves as it is."""
    ids = np.zeros((height, width), np.uint8)
    ids[: height // 2, width // 2 :] = 1
    ids[height // 2 :, : width // 2] = 2
    return ids


def made(folder: Path, stored: np.ndarray, orientation: int, ids: np.ndarray) -> Path:
    root = plain(folder, ["a", "b", "c"], splits={"train": ["a", "b"], "test": ["c"]})
    save_turned(root / "images/a.png", stored, orientation)
    save_labels(root, "a", ids)
    return root


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_arrays_are_turned_as_pillow_turns_pictures(orientation: int) -> None:
    pixels = noise_image(0, 5, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(out)))
    np.testing.assert_array_equal(turned_upright(pixels, orientation), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_orientations_are_read(tmp_path: Path, suffix: str) -> None:
    save_turned(tmp_path / f"a{suffix}", noise_image(), 6)
    assert image_orientation(tmp_path / f"a{suffix}") == 6
    Image.fromarray(noise_image()).save(tmp_path / f"b{suffix}")
    assert image_orientation(tmp_path / f"b{suffix}") == 1


def test_a_png_may_say_it_after_its_pixels(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.png", noise_image(), 8)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    moved = data[:start] + data[end:last] + data[start:end] + data[last:]
    (tmp_path / "b.png").write_bytes(moved)
    assert image_orientation(tmp_path / "b.png") == 8
    assert read_image(tmp_path / "b.png", upright=True).shape == (16, 12, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("follows", [True, False])
def test_the_size_of_a_label_map_tells_how_it_lies(
    tmp_path: Path, orientation: int, follows: bool
) -> None:
    stored = noise_image(1, 12, 16)
    upright_ids = turned_upright(quarters(12, 16), orientation)
    ids = upright_ids if follows else quarters(12, 16)
    # Where both sizes fit, the setting says it.
    scene = open_folder(
        made(tmp_path, stored, orientation, ids), labels_follow_exif=follows
    ).scene("a")  # fmt: skip
    image, label_map = scene.load()
    np.testing.assert_array_equal(image, turned_upright(stored, orientation))
    np.testing.assert_array_equal(label_map, upright_ids)
    assert scene.size() == label_map.shape


@pytest.mark.parametrize(("orientation", "height"), [(6, 16), (3, 12)])
def test_where_both_sizes_fit_the_setting_must_say_it(
    tmp_path: Path, orientation: int, height: int
) -> None:
    ids = quarters(height, 16)
    root = made(tmp_path / "own", noise_image(1, height, 16), orientation, ids)
    with pytest.raises(
        UserError, match=r"a\.png: its image .*data\.folder\.labels_follow_exif"
    ) as e:
        open_folder(root).scene("a").label_map()
    assert not isinstance(e.value, BadImageError)  # none to leave out
    tree = {"dataset": "folder", "folder": {"path": str(root)}}
    assert len(inspect_dataset(DataConfig.model_validate(tree)).errors) == 1
    fine = tree["folder"] | {"labels_follow_exif": True}  # type: ignore[operator]
    assert not inspect_dataset(DataConfig.model_validate(tree | {"folder": fine})).errors


def test_sizes_that_fit_neither_way(tmp_path: Path) -> None:
    root = made(tmp_path, noise_image(1, 12, 16), 6, quarters(5, 6))
    with pytest.raises(BadImageError, match=r"label map is 6 x 5 .* is 12 x 16"):
        open_folder(root).scene("a").load()


def test_the_setting_moves_the_fingerprint_only_where_it_is_given(tmp_path: Path) -> None:
    root = plain(tmp_path)
    one, other, third = (
        open_folder(root, **settings).fingerprint()  # type: ignore[arg-type]
        for settings in ({}, {"labels_follow_exif": True}, {"value_range": (0.0, 4095.0)})
    )
    assert len({one, other, third}) == 3
