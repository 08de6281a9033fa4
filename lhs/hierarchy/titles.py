"""Titles of subclasses for people, made from what surrounds their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lhs.hierarchy.model import Hierarchy

NAMED, LISTED = 0.1, 0.03
"""Least share of a class that is named, and of one that is listed."""
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
    around = [classes[i] for i in order if i != label and shares[i] >= NAMED][:MOST_NAMED]
    listed = [f"{classes[i]} {100 * shares[i]:.0f} %" for i in order if shares[i] >= LISTED]
    if not listed:
        return classes[label]
    name = f"{classes[label]} {'with ' + ' and '.join(around) if around else 'alone'}"
    return f"{name}: {', '.join(listed[:MOST_LISTED])}"


def titled(hierarchy: Hierarchy, shares: np.ndarray) -> Hierarchy:
    """A hierarchy with titles, by the mean histograms (n, L) of its subclasses' samples."""
    subclasses = tuple(
        replace(one, title=subclass_title(one.parent, own, hierarchy.classes))
        for one, own in zip(hierarchy.subclasses, shares, strict=True)
    )
    return replace(hierarchy, subclasses=subclasses)
