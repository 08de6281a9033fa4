"""Reader of the Stanford Background dataset.

References
----------
S. Gould, R. Fulton, D. Koller. Decomposing a scene into geometric and semantically consistent
regions. ICCV 2009.
"""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.layout import find_files, scene_ids
from lhs.data.remote import located
from lhs.data.scenes import FileScene
from lhs.errors import BadImageError

CLASSES = ("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground")
FOLDS = 5


class StanfordScene(FileScene):
    """A scene whose labels are text: H lines of W integers, negative where unlabelled."""

    def read_ids(self) -> np.ndarray:
        """Parse the `.regions.txt` file: (H, W) int16, -1 where unlabelled."""
        try:
            # From bytes in memory: numpy's parser is 7 times faster than split() and numpy.array.
            text = located(self.label_file).read_bytes()
            if not text.strip():
                raise ValueError("the file is empty")
            ids = np.loadtxt(io.BytesIO(text), dtype=np.int16, comments=None, ndmin=2)
        except (OSError, ValueError) as error:
            raise BadImageError(f"{self.label_file}: unreadable label map: {error}") from error
        return np.maximum(ids, -1)


def fold_ids(fold: int) -> list[str]:
    """List the 143 image ids of one of the five disjoint folds.

    Parameters
    ----------
    fold
        1 to 5.
    """
    path = files("lhs.data") / "stanford_folds" / f"fold{fold}.txt"
    return path.read_text(encoding="ascii").split()


def open_stanford(folder: Path, *, fold: int = 1, split: str = "folds", seed: int = 0) -> Dataset:
    """Open a folder in the layout of `iccv09Data`.

    Parameters
    ----------
    folder
        It holds `images/*.jpg` and `labels/*.regions.txt`.
    fold
        The fold (1 to 5) that is the test set, with `split="folds"`.
    split
        "folds", or "random" for a seeded random fifth as test set (572 / 143).
    seed
        Of the random split.

    Returns
    -------
    Dataset
        8 classes, no scene names.
    """
    paths = find_files(folder / "images")
    ids = scene_ids(paths)
    if split == "random":
        order = np.random.default_rng(seed).permutation(len(ids))
        test = {ids[i] for i in order[: len(ids) // FOLDS]}
    else:
        test = set(fold_ids(fold))
    return Dataset(
        "stanford",
        CLASSES,
        [
            StanfordScene(
                id=id,
                split="test" if id in test else "train",
                num_classes=len(CLASSES),
                image_file=str(folder / "images" / path),
                label_file=str(folder / "labels" / path.with_suffix(".regions.txt")),
            )
            for id, path in zip(ids, paths, strict=True)
        ],
        folder=folder,
    )
