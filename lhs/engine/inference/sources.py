"""Images to label: files, folders, patterns and URIs, each with the name its results get."""

from __future__ import annotations

import glob
import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from lhs.data.images import IMAGE_SUFFIXES, read_image
from lhs.errors import BadImageError, UserError

MOST_LISTED = 5
"""Missing files that an error message lists."""


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes
    ----------
    address
        Its path or URI.
    name
        Of its results below `--out`, without suffix: the file's name, below a given folder with its
        sub-folders.
    """

    address: str
    name: str

    def content(self) -> bytes:
        """The file's bytes.

        Raises
        ------
        BadImageError
            If it is missing or unreadable.
        """
        try:
            if "://" not in self.address:
                return Path(self.address).read_bytes()
            filesystem, path = arrow_fs.FileSystem.from_uri(self.address)
            with filesystem.open_input_stream(path) as stream:
                return stream.read()
        except FileNotFoundError:
            raise BadImageError(f"{self.address}: image file is missing") from None
        except (ArrowException, OSError, ValueError) as error:
            raise BadImageError(f"{self.address}: {error}") from None

    def read(
        self, content: bytes | None = None, image_range: tuple[float, float] | None = None
    ) -> np.ndarray:
        """(H, W, 3) uint8, turned as the file's EXIF orientation says.

        Parameters
        ----------
        content
            Its bytes, if they were read already.
        image_range
            The model's, see `ModelDescription`.

        Raises
        ------
        BadImageError
            If it is missing or unreadable.
        """
        content = self.content() if content is None else content
        return read_image(
            self.address, content=io.BytesIO(content), upright=True, value_range=image_range
        )


def find_sources(given: list[str]) -> list[Source]:
    """Find the images that the user named.

    Parameters
    ----------
    given
        Files, folders (all images below them), patterns (`*`, `?`, `[...]`, `**`), and URIs of
        files or folders such as `s3://bucket/photos`.

    Returns
    -------
    list of Source
        In the order given, folders and patterns sorted. A missing file named by a URI is among
        them, and is reported with the unreadable ones.

    Raises
    ------
    UserError
        If a named file is missing, a folder or pattern holds no image, or a URI's place can't be
        read.
    """
    sources = [source for one in given for source in _found(one)]
    missing = [
        source.address
        for source in sources
        if "://" not in source.address and not os.path.exists(source.address)
    ]
    if missing:
        more = f" and {len(missing) - MOST_LISTED} more" if len(missing) > MOST_LISTED else ""
        raise UserError(f"no such file: {', '.join(missing[:MOST_LISTED])}{more}")
    return list(dict.fromkeys(sources))


def _found(given: str) -> list[Source]:
    if "://" in given:
        return _of_uri(given)
    path = Path(os.path.expanduser(given))
    # os.path: pathlib raises for names that are too long.
    if os.path.isdir(path):
        files = sorted(each for each in path.rglob("*") if _is_image(each.name) and each.is_file())
        found = [Source(str(each), each.relative_to(path).with_suffix("").as_posix())
                 for each in files]  # fmt: skip
    elif glob.has_magic(given) and not os.path.exists(path):
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        found = [Source(str(each), each.stem) for each in matches if each.is_file()]
    else:
        return [Source(str(path), path.stem)]
    if not found:
        raise UserError(f"{given}: no image there; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def _of_uri(given: str) -> list[Source]:
    try:
        filesystem, path = arrow_fs.FileSystem.from_uri(given)
        info = filesystem.get_file_info(path)
        if info.type == arrow_fs.FileType.Directory:
            inside = filesystem.get_file_info(arrow_fs.FileSelector(path, recursive=True))
            scheme = given.split("://")[0]
            found = [
                Source(
                    f"{scheme}://{each.path}",
                    str(PurePosixPath(each.path).relative_to(path).with_suffix("")),
                )
                for each in sorted(inside, key=lambda each: each.path)
                if each.type == arrow_fs.FileType.File and _is_image(each.base_name)
            ]
            if not found:
                raise UserError(f"{given}: no image there")
            return found
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{given}: {error}; allowed are files, folders, patterns, s3://, gs:// and file://"
        ) from None
    return [Source(given, PurePosixPath(path).stem)]


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
