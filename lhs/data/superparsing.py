"""Reader of the SuperParsing layout: SIFTFlow, Barcelona, LM+Sun.

References
----------
J. Tighe, S. Lazebnik. SuperParsing: scalable nonparametric image parsing with superpixels.
ECCV 2010.
C. Liu, J. Yuen, A. Torralba. Nonparametric scene parsing: label transfer via dense scene
alignment. CVPR 2009.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.images import IMAGE_SUFFIXES
from lhs.data.layout import find_files, read_lines, scene_ids
from lhs.data.matlab import read_variable
from lhs.data.remote import located
from lhs.data.scenes import FileScene
from lhs.errors import BadImageError, UserError

TEST_LIST = "TestSet1.txt"
MOST_CLASSES = 65535


class SuperParsingScene(FileScene):
    """A scene whose labels are a `.mat` file with `S`, ids from 1 and 0 where unlabelled."""

    def read_ids(self) -> np.ndarray:
        """Read `S`: (H, W) int32, class ids from 0, -1 where unlabelled."""
        ids = read_variable(located(self.label_file), "S")
        if ids.dtype.kind not in "iuf":
            raise BadImageError(f"{self.label_file}: S must hold numbers, found {ids.dtype}")
        if ids.dtype.kind == "f" and not (ids == np.floor(ids)).all():
            raise BadImageError(f"{self.label_file}: S must hold whole numbers")
        if ids.size and ids.max() > MOST_CLASSES:
            raise UserError(
                f"{self.label_file}: S holds {ids.max():.0f}, allowed are 0 to {self.num_classes}"
            )
        # No type wraps around here: neither a byte below 0 nor eight of them above 65535.
        return np.maximum(ids, 0).astype(np.int32) - 1

    def class_names(self) -> tuple[str, ...]:
        """Read the class names that the label file itself gives."""
        return read_class_names(located(self.label_file))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the class names in `names`, a cell array of any orientation.

    Parameters
    ----------
    path
        A `.mat` label file.

    Returns
    -------
    tuple of str
        In the order of their ids.

    Raises
    ------
    BadImageError
        If the file is unreadable or has no names.
    """
    return tuple(
        str(np.asarray(cell).ravel()[0]).strip() if np.size(cell) else ""
        for cell in read_variable(path, "names").ravel()
    )


def open_superparsing(name: str, folder: Path, *, scene_names: bool) -> Dataset:
    """Open a folder in the SuperParsing layout.

    Parameters
    ----------
    name
        The dataset's name.
    folder
        It holds `Images/**.jpg`, `SemanticLabels/**.mat` and `TestSet1.txt`.
    scene_names
        Whether the file name up to the first `_` is the scene name (SIFTFlow).

    Returns
    -------
    Dataset
        Classes as the label files name them.

    Raises
    ------
    UserError
        If no label file can be read for the class names, or the test list names an image that
        is not there.
    """
    paths = find_files(folder / "Images")
    ids = scene_ids(paths)
    classes = _first_class_names(folder / "SemanticLabels")
    test = _test_images(folder / TEST_LIST, paths)
    return Dataset(
        name,
        classes,
        [
            SuperParsingScene(
                id=id,
                split="test" if path in test else "train",
                num_classes=len(classes),
                name=path.name.split("_")[0] if scene_names else None,
                image_file=str(folder / "Images" / path),
                label_file=str(folder / "SemanticLabels" / path.with_suffix(".mat")),
            )
            for id, path in zip(ids, paths, strict=True)
        ],
        folder=folder,
    )


def _first_class_names(folder: Path) -> tuple[str, ...]:
    """Take the class names of the first label file that can be read."""
    for path in find_files(folder, {".mat"}):
        try:
            return read_class_names(folder / path)
        except BadImageError:
            continue
    raise UserError(f"{folder}: no readable label file (.mat with S and names) in this folder")


def _test_images(path: Path, images: list[PurePosixPath]) -> set[PurePosixPath]:
    """Find the images that the test list names.

    Lists differ in separators, letter case, file endings (of the image, of the label file, none)
    and in the folders that they give: fewer or more than there are, or others where the name alone
    identifies the image.
    """
    known = set(images)
    by_name: dict[str, list[PurePosixPath]] = {}
    for image in images:
        by_name.setdefault(_parts(image)[-1], []).append(image)
    found, wrong = set(), []
    for line in read_lines(path):
        entry = PurePosixPath(line.replace("\\", "/"))
        alike = by_name.get(_parts(entry)[-1], [])
        fitting = [image for image in alike if _one_ends_the_other(_parts(image), _parts(entry))]
        if entry in known:
            found.add(entry)
        elif len(fitting or alike) == 1:
            found |= set(fitting or alike)
        else:
            wrong.append(line)
    if wrong:
        some = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
        raise UserError(
            f"{path}: {len(wrong)} test images not found in Images, or several fit: {some}"
        )
    return found


def _parts(path: PurePosixPath) -> tuple[str, ...]:
    ending = path.suffix.lower()
    path = path.with_suffix("") if ending in {*IMAGE_SUFFIXES, ".mat"} else path
    return tuple(part.lower() for part in path.parts) or ("",)


def _one_ends_the_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]
