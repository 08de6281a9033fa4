"""Every kind of image file is decoded rightly or refused with its name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from lhs.data import images
from lhs.data.images import image_size, read_image, read_label_picture
from lhs.errors import BadImageError
from tests.data.builders import noise_image, save_image


def test_rgb_is_kept(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", noise_image())
    assert (read_image(path) == noise_image()).all()
    assert image_size(path) == (12, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    # 51 is a shade of the web palette, 255 one that a single bit can hold.
    shade = 255 if mode == "1" else 51
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (9, 6), (shade,) * 3).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (6, 9, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - shade).max() <= 2


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).convert("CMYK").save(path)
    assert np.abs(read_image(path).astype(int) - 200).max() <= 3


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    rgba = np.dstack([noise_image(), np.zeros((12, 16), np.uint8)])
    assert (read_image(save_image(tmp_path / "a.png", rgba)) == noise_image()).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_rgb(tmp_path: Path) -> None:
    path = _png(tmp_path / "a.png", 2, 1, depth=16, colour=2, rows=[b"\x80\x00" * 3 + b"\xff" * 6])
    assert read_image(path)[0, :, 0].tolist() == [128, 255]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(BadImageError, match=r"a\.tif.*'F'"):
        read_image(path)


def test_exif_orientation_is_left_alone(tmp_path: Path) -> None:
    picture = Image.fromarray(noise_image())
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (12, 16, 3)


def test_a_damaged_orientation_is_reported(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise_image()).save(tmp_path / "a.png", exif=b"D" + exif.tobytes()[1:])
    with pytest.raises(BadImageError, match=r"a\.png: unreadable image: not a TIFF file"):
        read_image(tmp_path / "a.png", upright=True)
    assert read_image(tmp_path / "a.png").shape == (12, 16, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = save_image(tmp_path / f"cut{suffix}", noise_image(0, 60, 80))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImageError, match=rf"cut\{suffix}: unreadable"):
        read_image(path)


def test_what_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for data in (b"", b"no image at all", bytes(1000)):
        path.write_bytes(data)
        with pytest.raises(BadImageError, match=r"a\.jpg: unreadable image: not an image"):
            read_image(path)
    with pytest.raises(BadImageError, match=r"gone\.jpg: image file is missing"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(BadImageError, match="unreadable"):
        read_image(tmp_path)


def test_a_file_that_is_a_program_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow would hand PostScript to Ghostscript, whatever the file's suffix.
    interpreter = tmp_path / "bin" / "gs"
    interpreter.parent.mkdir()
    interpreter.write_text(f"#!/bin/sh\n: > {tmp_path}/started\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(interpreter.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(BadImageError, match=r"a\.jpg: unreadable image: not an image; allowed are"):
        read_image(path)
    assert not (tmp_path / "started").exists()


def _card(text: str) -> bytes:
    return text.ljust(80).encode()


_FITS = ("SIMPLE  =                    T", "BITPIX  =                    8",
         "NAXIS   =                    2", "NAXIS1  =                    4",
         "NAXIS2  =                    3", "END")  # fmt: skip
_CONTAINERS = {
    "FITS": b"".join(map(_card, _FITS)).ljust(2880) + bytes(2880),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
    # A placeable metafile of 8 x 8 units, 72 to the inch.
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 8, 8, 72) + bytes(6)
    + b"\x01\x00\t\x00" + bytes(14),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["ICO", *_CONTAINERS])
def test_containers_of_anything_are_refused(tmp_path: Path, kind: str) -> None:
    """Files that Pillow by itself takes for a picture."""
    path = tmp_path / "a.png"
    if kind == "ICO":
        Image.new("RGB", (16, 16)).save(path, format=kind)
    else:
        path.write_bytes(_CONTAINERS[kind])
    with Image.open(path) as picture:
        assert picture.format == kind
    with pytest.raises(BadImageError, match=r"a\.png: unreadable image: not an image; allowed are"):
        read_image(path)


_RGB = (51, 102, 153)
_UNWRITTEN = {
    # Of 9 x 6 pixels: rows of BGR, padded to an even length; and channel after channel.
    "SUN": struct.pack(">8I", 0x59A66A95, 9, 6, 24, 6 * 28, 1, 0, 0)
    + (bytes(_RGB[::-1]) * 9 + b"\0") * 6,
    "PSD": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 6, 9, 8, 3) + bytes(12) + bytes(2)
    + b"".join(bytes([value]) * 54 for value in _RGB),
}  # fmt: skip
"""Formats that Pillow reads and does not write."""


@pytest.mark.parametrize("format", images.FORMATS)
def test_every_allowed_format_is_read(tmp_path: Path, format: str) -> None:
    path = tmp_path / "picture"
    if format in _UNWRITTEN:
        path.write_bytes(_UNWRITTEN[format])
    else:
        Image.new("RGB", (9, 6), _RGB).save(path, format=format)
    image = read_image(path)
    assert image.shape == (6, 9, 3)
    assert np.abs(image.astype(int) - _RGB).max() <= 6


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = _png(tmp_path / "bomb.png", 60_000, 60_000, depth=8, colour=0, rows=[])
    with pytest.raises(BadImageError, match=r"bomb\.png.*million pixels"):
        read_image(huge)
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(BadImageError, match="million pixels"):
        read_image(save_image(tmp_path / "large.png"))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_label_ids_of_few_bits_stay_ids(tmp_path: Path, depth: int, palette: bool) -> None:
    # Row 0 1 0 1 or the like: the ids 0 and 1 packed at `depth` bits.
    bits = "".join(f"{id:0{depth}b}" for id in (0, 1) * 4)
    row = int(bits, 2).to_bytes(depth, "big")
    path = _png(tmp_path / "l.png", 8, 1, depth=depth, colour=3 if palette else 0, rows=[row])
    assert read_label_picture(path).tolist() == [[0, 1] * 4]


def test_labels_of_16_bits(tmp_path: Path) -> None:
    ids = np.array([[0, 300], [65535, 255]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "l.png")
    assert (read_label_picture(tmp_path / "l.png") == ids).all()


def test_labels_in_colour_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"l\.png.*one channel"):
        read_label_picture(save_image(tmp_path / "l.png"))


def _png(path: Path, width: int, height: int, *, depth: int, colour: int, rows: list) -> Path:
    """Write a PNG of kinds that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    palette = chunk(b"PLTE", bytes([0, 0, 0, 200, 100, 50])) if colour == 3 else b""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + palette
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )
    return path
