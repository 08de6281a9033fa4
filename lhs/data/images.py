"""One decoder for every image and label picture; it refuses what it can't read exactly."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from lhs.errors import BadImageError

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


def read_image(
    path: str | Path, *, content: BinaryIO | None = None, upright: bool = False
) -> np.ndarray:
    """Decode an image file of one of `FORMATS`, whatever its suffix, to RGB.

    Grey images are repeated in three channels, palettes resolved, 16 bits a channel reduced to 8,
    CMYK converted, an alpha channel dropped.

    Parameters
    ----------
    path
        The file.
    content
        What is in it, where the file is not a local one.
    upright
        Rotate the image by its EXIF orientation. Not for images that have label maps: those lie
        on the pixels as stored.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    BadImageError
        If the file is missing, truncated, not one of `FORMATS`, or has more than `MAX_PIXELS`.
    """
    image, _ = _open(path, content, upright=upright)
    if image.mode in ("RGB", "L", "P", "RGBA", "LA", "PA", "1", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError(f"{path}: 32-bit pixel values; allowed are 8 or 16 bits a channel")
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    raise BadImageError(
        f"{path}: pixels of kind {image.mode!r}; allowed are 8 or 16 bits a channel"
    )


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


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (H, W) from an image's header, without its pixels.

    Raises
    ------
    BadImageError
        If the header can't be read.
    """
    image, _ = _open(path, pixels=False)
    return image.height, image.width


def _open(
    path: str | Path, content: BinaryIO | None = None, *, pixels: bool = True, upright: bool = False
) -> tuple[Image.Image, str]:
    """Open and decode; also give the raw mode of the data, "" where it has none."""
    try:
        with Image.open(content or path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            tile = image.tile[0] if getattr(image, "tile", None) else None
            raw_mode = tile[3] if tile and isinstance(tile[3], str) else ""
            if pixels:
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
            f"{path}: unreadable image: not an image; allowed are {', '.join(FORMATS)}"
        ) from None
    # Pillow's decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise BadImageError(f"{path}: unreadable image: {error or repr(error)}") from error
