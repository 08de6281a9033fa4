"""Titles of subclasses for people, made from what surrounds their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lhs.hierarchy.model import Hierarchy

NAMED, LISTED, ALONE = 0.1, 0.03, 0.8
"""Least share of a class that is named, of one that is listed, and of one that is alone."""
MOST_NAMED, MOST_LISTED = 2, 4


def subclass_title(label: int, shares: np.ndarray, classes: Sequence[str]) -> str:
    """Name a subclass by its class and what is around it: `sky with water: sky 63 %, water 32 %`.

    Parameters
    ----------
    label
        The class id.
    shares
        (L,) mean label histogram of its samples, which sums to 1, or to 0 if there is no sample.
    classes
        L class names.
    """
    order = np.argsort(-np.asarray(shares), kind="stable").tolist()
    others = [i for i in order if i != label and shares[i] >= LISTED]
    # One that is mostly something else is not alone, however mixed that is.
    around = [i for i in others if shares[i] >= NAMED] or others[: int(shares[label] < ALONE)]
    listed = [f"{classes[i]} {100 * shares[i]:.0f} %" for i in order if shares[i] >= LISTED]
    if not listed:
        return classes[label]
    named = " and ".join(classes[i] for i in around[:MOST_NAMED])
    name = f"{classes[label]} {'with ' + named if named else 'alone'}"
    return f"{name}: {', '.join(listed[:MOST_LISTED])}"


def titled(hierarchy: Hierarchy, shares: np.ndarray) -> Hierarchy:
    """A hierarchy with titles, by the mean histograms (n, L) of its subclasses' samples."""
    subclasses = tuple(
        replace(one, title=subclass_title(one.parent, own, hierarchy.classes))
        for one, own in zip(hierarchy.subclasses, shares, strict=True)
    )
    return replace(hierarchy, subclasses=subclasses)
