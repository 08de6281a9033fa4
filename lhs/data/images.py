"""One decoder for every image and label picture; it refuses what it can't read exactly."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from lhs.data.pixel_values import check_white, scaled
from lhs.data.remote import local_copy
from lhs.errors import BadImageError, UserError

MAX_PIXELS = 80_000_000
FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI",
    "SGI", "SUN", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pictures made of pixels. Of Pillow's other kinds EPS starts Ghostscript, IPTC and icons hold
files of any kind and size, FITS is unpacked whole before its size is known."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})

# Pillow stretches grey PNGs of 2 and 4 bits to 0..255; ids must be shrunk back.
_STRETCH = {"L;2": 85, "L;4": 17}

_ORIENTATION = 0x0112
_SAMPLES = 0x0115
# Where a PNG may say its orientation: only in chunks with one of these names.
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


def read_image(
    path: str | Path,
    *,
    content: BinaryIO | None = None,
    upright: bool = False,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decode an image file of one of `FORMATS`, whatever its suffix, to RGB.

    Grey images are repeated in three channels, palettes resolved, CMYK converted, an alpha channel
    dropped. 8 bits a channel are kept; 16 bits and floats are scaled from `value_range` to 0..255.

    Parameters
    ----------
    path
        The file.
    content
        What is in it, where the file is not a local one.
    upright
        Rotate the image by its EXIF orientation, as viewers do; otherwise the pixels as stored.
    value_range
        The values that are black and white in images of 16 bits a channel and of floats. Up to
        a tenth of an image's values may lie outside; they are black or white. Where None, 16 bits
        are 0..65535, and an image that uses less than a quarter of them is refused.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    BadImageError
        If the file is missing, truncated, not one of `FORMATS`, has more than `MAX_PIXELS`, more
        channels than colours and alpha, or values that no range explains.
    """
    image, raw_mode = _open(path, content, upright=upright)
    _check_alpha(path, image)
    wide = ";16" in raw_mode and image.mode in ("RGB", "RGBA", "L", "LA")
    if wide and value_range is not None:
        return scaled(path, _all_bits(path, content, image, upright), value_range)
    if image.mode in ("RGB", "L", "P", "RGBA", "LA", "PA", "1", "CMYK", "YCbCr"):
        pixels = np.array(image.convert("RGB"))
        if wide:
            # Pillow has kept the upper half of each value.
            upper = int(pixels.max())
            check_white(path, upper << 8 or int(_all_bits(path, content, image, False).max()))
        return pixels
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if value_range is not None:
            return scaled(path, values, value_range)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError(
                f"{path}: pixel values from {values.min()} to {values.max()}; allowed are 8 or 16 "
                "bits a channel, or data.folder.range, the values that are black and white"
            )
        check_white(path, int(values.max()))
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F" and value_range is not None:
        return scaled(path, np.asarray(image), value_range)
    raise BadImageError(
        f"{path}: pixels of kind {image.mode!r}; allowed are 8 or 16 bits a channel, and floats "
        "with data.folder.range, the values that are black and white (lhs predict: that of the "
        "model's training)"
    )


def _all_bits(
    path: str | Path, content: BinaryIO | None, image: Image.Image, upright: bool
) -> np.ndarray:
    """The 16 bits a channel of a picture that Pillow reads as 8: (H, W) or (H, W, 3), RGB."""
    if content is not None:
        content.seek(0)
    data = Path(local_copy(path)).read_bytes() if content is None else content.read()
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None or values.dtype != np.uint16:
        raise BadImageError(
            f"{path}: {image.mode} of 16 bits a channel can't be read here with data.folder.range; "
            "allowed are PNG and TIFF"
        )
    if upright:
        values = turned_upright(values, image_orientation(path, content))
    return values[:, :, 2::-1] if values.ndim == 3 else values


def turned_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array (H, W, ...) as EXIF's orientation 1..8 says; other numbers change nothing."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def image_orientation(path: str | Path, content: BinaryIO | None = None) -> int:
    """Read an image's EXIF orientation, 1..8, mostly from its header.

    Raises
    ------
    BadImageError
        If it can't be read.
    """
    try:
        with Image.open(content or local_copy(path), formats=FORMATS) as image:
            if image.format == "PNG" and "exif" not in image.info and content is None:
                # It may come after the pixels: they are decoded only where something is there.
                data = Path(local_copy(path)).read_bytes()
                if not any(name in data for name in _PNG_EXIF):
                    return 1
            found = image.getexif().get(_ORIENTATION, 1)
    except UserError:
        raise
    except Exception as error:
        raise BadImageError(f"{path}: unreadable image: {error or repr(error)}") from error
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def read_label_picture(path: str | Path, *, content: BinaryIO | None = None) -> np.ndarray:
    """Decode a picture whose pixel values are label ids.

    Parameters
    ----------
    path
        A grey (1 to 16 bits) or palette picture; of a palette, the indices are the ids.
    content
        What is in it, where the file is not a local one.

    Returns
    -------
    numpy.ndarray
        (H, W) int32 of the values as stored.

    Raises
    ------
    BadImageError
        If the file is missing, unreadable, or has several channels.
    """
    image, raw_mode = _open(path, content)
    if image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.int32) // _STRETCH.get(raw_mode, 1)
    raise BadImageError(
        f"{path}: a label map must have one channel of ids (grey or palette), found {image.mode!r}"
    )


def read_palette(path: str | Path) -> np.ndarray | None:
    """Read the (N, 3) uint8 RGB colours of a palette picture's indices; None where it has none.

    Raises
    ------
    BadImageError
        If the header can't be read.
    """
    image, _ = _open(path, pixels=False)
    if image.mode != "P" or image.palette is None:
        return None
    mode, data = image.palette.getdata()
    colours = np.frombuffer(bytes(data), np.uint8)
    channels = colours[: len(colours) // len(mode) * len(mode)].reshape(-1, len(mode))
    return channels[:, [mode.index(channel) for channel in "RGB"]]


def image_size(path: str | Path, content: BinaryIO | None = None) -> tuple[int, int]:
    """Read (H, W) from an image's header, without its pixels; `content` as of `read_image`.

    Raises
    ------
    BadImageError
        If the header can't be read.
    """
    image, _ = _open(path, content, pixels=False)
    return image.height, image.width


def _open(
    path: str | Path, content: BinaryIO | None = None, *, pixels: bool = True, upright: bool = False
) -> tuple[Image.Image, str]:
    """Open and decode; also give the raw mode of the data, "" where it has none."""
    try:
        with Image.open(content or local_copy(path), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            raw_mode = _raw_mode(image)
            if pixels:
                _check_channels(path, image)
                image.load()
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return image, raw_mode
    except FileNotFoundError:
        raise BadImageError(f"{path}: image file is missing") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(
            f"{path}: image has more than the {MAX_PIXELS // 10**6} million pixels allowed"
        ) from None
    except Image.UnidentifiedImageError:
        raise BadImageError(
            f"{path}: unreadable image: not an image; allowed are {', '.join(FORMATS)}, of one or "
            "three channels"
        ) from None
    except UserError:
        raise
    # Pillow's decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise BadImageError(f"{path}: unreadable image: {error or repr(error)}") from error


def _raw_mode(image: Image.Image) -> str:
    """How the data of an opened picture is packed, as Pillow names it; "" where it does not."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    codec, *_, packed = tiles[0]
    if codec == "SGI16":
        return f"{image.mode};16B"
    if isinstance(packed, tuple) and packed:
        packed = packed[0]
    return packed if isinstance(packed, str) else ""


def _check_channels(path: str | Path, image: Image.Image) -> None:
    """Refuse a TIFF with bands that Pillow would drop: too many channels, or pages of one size."""
    if image.format != "TIFF":
        return
    samples, bands = image.tag_v2.get(_SAMPLES, 1), image.getbands()  # type: ignore[attr-defined]
    if samples > len(bands):
        raise BadImageError(
            f"{path}: a TIFF of {samples} channels; allowed are one or three, and alpha: save "
            "the three that the network is to see"
        )
    size, pages = image.size, getattr(image, "n_frames", 1)
    if pages > 1:
        image.seek(1)
        same = image.size == size
        image.seek(0)
        if same:
            raise BadImageError(
                f"{path}: a TIFF of {pages} pages of one size, which may be its channels; allowed "
                "is one page: save the three channels that the network is to see in it"
            )


def _check_alpha(path: str | Path, image: Image.Image) -> None:
    """Refuse a TIFF whose alpha channel varies: a fourth band, such as infrared, is called so."""
    if image.format != "TIFF" or image.mode not in ("RGBA", "LA"):
        return
    darkest, brightest = image.getchannel("A").getextrema()
    if darkest != brightest:
        raise BadImageError(
            f"{path}: a TIFF whose last channel, declared alpha, has values {darkest} to "
            f"{brightest}; allowed are one or three channels: save those that the network is to see"
        )
