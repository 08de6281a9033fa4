"""12 bits in 16, floats, more than three channels: scaled by a stated rule, or refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.data.images import read_image
from lhs.data.pixel_values import check_white, scaled
from lhs.errors import BadImageError
from lhs.loading import load_config
from tests.data.builders import plain

RANGE = (0.0, 4095.0)
TWELVE = np.random.default_rng(0).integers(0, 4096, (12, 16, 3), dtype=np.uint16)
TWELVE[0, 0] = 4095


def expected(values: np.ndarray) -> np.ndarray:
    return np.floor(values.astype(float) / 4095 * 255 + 0.5).astype(np.uint8)


@pytest.fixture(params=["grey.png", "grey.tif", "colour.png", "colour.tif"])
def twelve_bits(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    path = tmp_path / request.param
    if request.param.startswith("grey"):
        Image.fromarray(TWELVE[:, :, 0]).save(path)
        return path, np.repeat(TWELVE[:, :, :1], 3, axis=2)
    cv2.imwrite(str(path), TWELVE[:, :, ::-1])
    return path, TWELVE


def test_12_bits_in_16_are_refused_or_scaled(twelve_bits: tuple[Path, np.ndarray]) -> None:
    path, values = twelve_bits
    with pytest.raises(BadImageError, match=r"about 12 .*data\.folder\.range=\[0,4095\]"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, value_range=RANGE), expected(values))
    with path.open("rb") as content:
        found = read_image("s3://b/x", content=io.BytesIO(content.read()), value_range=RANGE)
    np.testing.assert_array_equal(found, expected(values))


def test_8_bits_in_16_of_a_colour_picture_are_not_black(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), TWELVE // 16)
    with pytest.raises(BadImageError, match=r"range=\[0,255\]"):
        read_image(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), TWELVE * 0)
    assert not read_image(tmp_path / "b.png").any()


def test_a_turned_picture_of_12_bits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(TWELVE[:, :, 0]).save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png", upright=True, value_range=RANGE)
    np.testing.assert_array_equal(found[:, :, 0], np.rot90(expected(TWELVE[:, :, 0]), -1))


def test_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.linspace(-1, 1, 48, dtype=np.float32).reshape(6, 8)).save(path)
    with pytest.raises(BadImageError, match=r"'F'.*data\.folder\.range"):
        read_image(path)
    pixels = read_image(path, value_range=(-1.0, 1.0))[:, :, 0].ravel()
    assert (pixels[0], pixels[-1]) == (0, 255)
    assert (np.diff(pixels.astype(int)) > 0).all()
    with pytest.raises(BadImageError, match=r"values -1 to 1, of which 50% are outside"):
        read_image(path, value_range=(0.0, 1.0))


def test_few_values_outside_are_black_or_white() -> None:
    values = np.full((10, 10), 50.0)
    values[0, :4] = (-3, 200, 0, 100)
    pixels = scaled("a", values, (0.0, 100.0))
    assert pixels.shape == (10, 10, 3)
    assert pixels[0, :5, 0].tolist() == [0, 255, 0, 255, 128]
    for bad in (np.nan, np.inf):
        values[1, 1] = bad
        with pytest.raises(BadImageError, match="1 that are no numbers"):
            scaled("a", values, (0.0, 100.0))


def test_8_bits_do_not_look_at_the_range(tmp_path: Path) -> None:
    pixels = (TWELVE // 16).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", value_range=RANGE), pixels)


def test_16_bits_that_are_used_are_kept() -> None:
    check_white("a", 1 << 14)
    check_white("a", 0)
    with pytest.raises(BadImageError, match="14"):
        check_white("a", (1 << 14) - 1)


def test_bands_of_a_tiff_are_never_dropped(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    rows = np.random.default_rng(0).integers(0, 256, (12, 16, 5), dtype=np.uint8)
    cases: list[tuple[np.ndarray, dict[str, Any], str]] = [
        (rows[..., :4], {"photometric": "rgb", "extrasamples": [0]}, "TIFF of 4 channels"),
        (rows, {"photometric": "rgb", "extrasamples": [0, 0], "planarconfig": "contig"},
         "TIFF of 5 channels"),
        (rows[..., :4], {"photometric": "rgb", "extrasamples": [2]}, "declared alpha"),
        (rows.transpose(2, 0, 1).copy(), {"photometric": "minisblack"}, "TIFF of 5 pages"),
        (rows, {"photometric": "minisblack", "planarconfig": "contig"}, "one or three channels"),
    ]  # fmt: skip
    for values, how, message in cases:
        tifffile.imwrite(tmp_path / "a.tif", values, **how)
        with pytest.raises(BadImageError, match=message):
            read_image(tmp_path / "a.tif")
    rows[..., 3] = 255
    tifffile.imwrite(tmp_path / "a.tif", rows[..., :4], photometric="rgb", extrasamples=[2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), rows[..., :3])


def test_a_folder_s_range(tmp_path: Path) -> None:
    root = plain(tmp_path / "own", ["a", "b"], splits={"test": ["b"]})
    Image.fromarray(TWELVE[:, :, 0]).save(root / "images/a.png")
    tree = {"dataset": "folder", "folder": {"path": str(root), "range": [0, 4095]}}
    scene = open_dataset(DataConfig.model_validate(tree)).scene("a")
    np.testing.assert_array_equal(scene.image()[:, :, 0], expected(TWELVE[:, :, 0]))


def test_a_range_goes_from_black_to_white() -> None:
    assert load_config("demo", ["data.folder.range=[0, 4095]"]).data.folder.range == (0, 4095)
    with pytest.raises(Exception, match=r"data\.folder\.range.*black below white"):
        load_config("demo", ["data.folder.range=[5, 5]"])
