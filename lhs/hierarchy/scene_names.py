"""SN: subclasses of the common classes from scene names (METHOD section 3, paper 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lhs.data.scenes import void_of
from lhs.hierarchy.classes import common_classes
from lhs.hierarchy.model import Hierarchy, Subclass


def from_scene_names(
    *,
    dataset: str,
    classes: Sequence[str],
    scene_names: Sequence[str],
    counts: np.ndarray,
    rho: float,
) -> Hierarchy:
    """Split each common class by scene name; only pairs that occur become subclasses.

    Parameters
    ----------
    dataset
        The dataset's name.
    classes
        L class names.
    scene_names
        S scene names.
    counts
        (S, L) samples of each class in images of each scene name.
    rho
        Share of the common classes, see `common_classes`.

    Returns
    -------
    Hierarchy
        Subclasses are named `scene+class`, in the order of the scene names; a rare class is its
        own single subclass, under its own name.

    Raises
    ------
    lhs.errors.UserError
        If `rho` is outside (0, 1].
    """
    counts = np.asarray(counts, np.int64).reshape(len(scene_names), len(classes))
    totals = counts.sum(axis=0)
    common = common_classes(totals, rho)
    made = {
        "kind": "scene_names",
        "rho": float(rho),
        "common_classes": common.tolist(),
        "class_counts": totals.tolist(),
    }
    return Hierarchy(
        dataset,
        tuple(classes),
        void_of(len(classes)),
        scene_subclasses(classes, scene_names, counts, common),
        made,
    )


def scene_subclasses(
    classes: Sequence[str], scene_names: Sequence[str], counts: np.ndarray, common: np.ndarray
) -> tuple[Subclass, ...]:
    """A subclass for each scene that a common class has samples in, one for each rare class.

    Parameters
    ----------
    classes, scene_names, counts
        As of `from_scene_names`; also used with clusters of images instead of scenes.
    common
        (C,) ids of the common classes.
    """
    subclasses = []
    for label, name in enumerate(classes):
        if label not in common:
            subclasses.append(Subclass(name, label, int(counts[:, label].sum())))
            continue
        for row in np.flatnonzero(counts[:, label]).tolist():
            scene = scene_names[row]
            subclasses.append(
                Subclass(f"{scene}+{name}", label, int(counts[row, label]), scene=scene)
            )
    return tuple(subclasses)
