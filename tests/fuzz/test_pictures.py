"""Images and label files of every kind and damage are read, or refused with their name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from lhs.data import images
from lhs.data.images import (
    FORMATS,
    image_orientation,
    image_size,
    read_image,
    read_label_picture,
    read_palette,
)
from lhs.data.stanford import StanfordScene
from lhs.data.superparsing import SuperParsingScene
from tests.fuzz.guard import edited, edits, ends_well, fuzzed

MEGABYTES = 100
MOST = 1_000_000
"""Pixels here, for speed."""
SHADES = np.add.outer(np.arange(24) * 5, np.arange(32) * 3).astype(np.uint8)
PICTURE = Image.fromarray(np.dstack([SHADES, SHADES.max() - SHADES, SHADES // 2]))
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "I", "F")
OPTIONS: tuple[dict, ...] = (
    {}, {"progressive": True}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"},
    {"compression": "jpeg"}, {"lossless": True}, {"rle": True}, {"save_all": True}, {"tiled": True},
)  # fmt: skip


def _encodings() -> list[bytes]:
    Image.init()
    found = {}
    for format in FORMATS:
        for mode in MODES:
            for options in OPTIONS:
                out = io.BytesIO()
                try:
                    PICTURE.convert(mode).save(out, format=format, **options)
                except Exception:
                    continue  # Pillow writes no such picture
                found[out.getvalue()] = None
    # Formats that Pillow reads and does not write, by hand.
    found[b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x08\0\0\0\x08\0\x08\0\3" + bytes(14 + 192)] = None
    found[b"\x59\xa6\x6a\x95" + b"".join(
        number.to_bytes(4, "big") for number in (8, 8, 24, 192, 1, 0, 0)
    ) + bytes(192)] = None  # fmt: skip
    found[b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"] = None
    return list(found)


ENCODINGS = _encodings()
encodings = st.sampled_from(range(len(ENCODINGS)))


@pytest.fixture(autouse=True, scope="module")
def _small():  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", MOST)
        yield


def check(place: Path, data: bytes, upright: bool) -> None:
    path = place / "picture"
    path.write_bytes(data)
    for value_range in (None, (0.0, 4095.0)):
        image = ends_well(
            lambda: read_image(path, upright=upright, value_range=value_range),  # noqa: B023
            MEGABYTES,
        )
        if image is not None:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.shape[0] * image.shape[1] <= MOST
    ids = ends_well(lambda: read_label_picture(path), MEGABYTES)
    assert ids is None or (ids.dtype == np.int32 and ids.ndim == 2)
    ends_well(lambda: image_size(path), MEGABYTES)
    ends_well(lambda: image_orientation(path), MEGABYTES)
    ends_well(lambda: read_palette(path), MEGABYTES)


def test_most_formats_are_among_them() -> None:
    formats = set()
    for data in ENCODINGS[:-1]:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            formats.add(image.format)
    assert formats >= set(FORMATS) - {"DIB"}


@pytest.mark.thorough
@fuzzed(100)
@given(encodings, edits, st.booleans(), st.sampled_from([64, 10**9]))
def test_damaged_pictures(place: Path, which: int, damage: list, upright: bool, most: int) -> None:
    check(place, edited(ENCODINGS[which], damage, most), upright)


@fuzzed(30)
@given(edits, st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF"]), st.integers(0, 65535))
def test_damaged_exif(place: Path, damage: list, format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = orientation % 10, "x" * 40, {0x9003: "2020"}
    out = io.BytesIO()
    try:
        PICTURE.save(out, format=format, exif=edited(exif.tobytes(), damage))
    except Exception:
        return  # Pillow writes no such EXIF
    check(place, out.getvalue(), True)


def _mat(**variables: object) -> bytes:
    out = io.BytesIO()
    compressed = variables.pop("compressed", False)
    savemat(out, variables, do_compression=bool(compressed))
    return out.getvalue()


NAMES = np.array([["sky"], ["sea"], ["sand"]], object)
MATS = [
    _mat(S=(SHADES % 4).astype(kind), names=names, compressed=compressed)
    for kind in (np.uint8, np.int16, np.float64)
    for names in (NAMES, NAMES.T)
    for compressed in (False, True)
] + [_mat(S=NAMES, names=SHADES), _mat(S={"a": 1}, names={"b": NAMES}), _mat(S="text", names="x")]


@fuzzed(60)
@given(st.sampled_from(range(len(MATS))), edits, st.sampled_from([200, 10**9]))
def test_damaged_mat_files(place: Path, which: int, damage: list, most: int) -> None:
    path = place / "labels.mat"
    path.write_bytes(edited(MATS[which], damage, most))
    scene = SuperParsingScene(
        id="a", split="train", num_classes=3, image_file="none", label_file=str(path)
    )
    ids = ends_well(scene.read_ids, MEGABYTES)
    assert ids is None or ids.dtype == np.int32
    ends_well(scene.class_names, MEGABYTES)


REGIONS = "".join(" ".join(map(str, row)) + "\n" for row in (SHADES % 9).astype(int) - 1).encode()
tokens = st.sampled_from(
    ["1 ", "-1 ", "\n", "99999999999 ", "nan ", "1e5 ", "0x1 ", "\0", "é", "# "]
)


@fuzzed(30)
@given(edits, st.lists(tokens), st.booleans())
def test_damaged_stanford_labels(place: Path, damage: list, words: list, whole: bool) -> None:
    path = place / "labels.regions.txt"
    path.write_bytes(edited(REGIONS, damage) if whole else "".join(words).encode())
    scene = StanfordScene(
        id="a", split="train", num_classes=8, image_file="none", label_file=str(path)
    )
    ids = ends_well(scene.read_ids, MEGABYTES)
    assert ids is None or (ids.dtype == np.int16 and ids.ndim == 2 and ids.min() >= -1)
