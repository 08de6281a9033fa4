"""Some training samples of every subclass: what surrounds them, and which are worth a look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array, vstack

from lhs.context.extraction import histogram_rows
from lhs.context.histograms import normalise
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.samples import row_tables
from lhs.engine.storage import Storage
from lhs.hierarchy import Hierarchy

IMAGES = 300
"""Training images to look at, of any size of dataset."""


@dataclass(frozen=True, eq=False)
class SubclassSamples:
    """The N samples of a seeded choice of unaugmented training images.

    Attributes
    ----------
    hierarchy
        Of n subclasses of L classes.
    images
        (N,) id of each sample's image.
    centres
        (N, 2) int, (y, x).
    subclasses
        (N,) int64.
    histograms
        (N, L) label histograms in the hierarchy's window, of the whole image where it has none.
    """

    hierarchy: Hierarchy
    images: np.ndarray
    centres: np.ndarray
    subclasses: np.ndarray
    histograms: csr_array

    @cached_property
    def shares(self) -> np.ndarray:
        """(n, L) mean histogram of each subclass, which sums to 1, or to 0 without a sample."""
        return self._means(self.histograms / self.histograms.sum(axis=1)[:, None])

    @cached_property
    def distances(self) -> np.ndarray:
        """(N,) from the centre of the subclass, or from its mean normalised histogram."""
        rows = csr_array(normalise(self.histograms.toarray()))
        centres = self._means(rows)
        for place, subclass in enumerate(self.hierarchy.subclasses):
            if subclass.centre is not None:
                centres[place] = subclass.centre
        found = np.empty(len(self.images))
        for place, centre in enumerate(centres):
            of_it = self.subclasses == place
            # Rows have length 1.
            found[of_it] = 1 + centre @ centre - 2 * (rows[of_it] @ centre)
        return found

    def _means(self, rows: csr_array) -> np.ndarray:
        count = len(self.hierarchy.subclasses)
        total = np.bincount(self.subclasses, minlength=count)
        ones = np.ones(len(self.subclasses))
        member = csr_array((ones, (self.subclasses, np.arange(len(ones)))), (count, len(ones)))
        return np.asarray((member @ rows).todense()) / np.maximum(total, 1)[:, None]

    def nearest(self, subclass: int, count: int) -> np.ndarray:
        """Samples nearest to the centre, of different images as far as there are."""
        members = np.flatnonzero(self.subclasses == subclass)
        return self._of_several_images(
            members[np.argsort(self.distances[members], kind="stable")], count
        )

    def random(self, subclass: int, count: int, without: np.ndarray) -> np.ndarray:
        """A seeded choice of other samples, of different images as far as there are."""
        members = np.setdiff1d(np.flatnonzero(self.subclasses == subclass), without)
        return self._of_several_images(
            np.random.default_rng([0, subclass]).permutation(members), count
        )

    def _of_several_images(self, ordered: np.ndarray, count: int) -> np.ndarray:
        _, first = np.unique(self.images[ordered], return_index=True)
        later = np.setdiff1d(np.arange(len(ordered)), first)
        return ordered[np.concatenate([np.sort(first), later])[:count].astype(np.int64)]


def subclass_samples(
    storage: Storage, scenes: CheckedScenes, hierarchy: Hierarchy, path: str
) -> SubclassSamples:
    """Samples in `path`, the folder of a stage `samples` of these scenes."""
    train = {scene.id: scene for scene in scenes.split("train")}
    rng = np.random.default_rng(0)
    chosen = rng.choice(sorted(train), size=min(IMAGES, len(train)), replace=False)
    keep = (pc.field("variant") == 0) & pc.field("image").isin(chosen.tolist())
    columns = ["image", "variant", "y", "x", "label"]
    rows = pa.concat_tables(table.filter(keep) for table in row_tables(storage, path, columns))
    frame = rows.to_pandas().sort_values(["image", "y", "x"], ignore_index=True)
    region = hierarchy.made.get("region", math.inf)
    subclasses = [np.empty(0, np.int64)]
    histograms = [csr_array((0, len(hierarchy.classes)))]
    for image, group in frame.groupby("image", sort=True):
        scene, centres = train[str(image)], group[["y", "x"]].to_numpy()
        counted = histogram_rows(scenes.dataset, scene, 0, centres, region=float(region), seed=0)
        if hierarchy.of_whole_images:
            subclass_map = hierarchy.relabel(scene.label_map(), image_id=scene.id)
            subclasses.append(subclass_map[centres[:, 0], centres[:, 1]].astype(np.int64))
        else:
            names = [hierarchy.scene_of(scene) or ""] * len(centres)
            subclasses.append(hierarchy.subclass_of(group["label"].to_numpy(), counted, names))
        histograms.append(csr_array(counted.astype(np.float64)))
    return SubclassSamples(
        hierarchy, frame["image"].to_numpy(), frame[["y", "x"]].to_numpy(),
        np.concatenate(subclasses), csr_array(vstack(histograms)),
    )  # fmt: skip
