"""Hierarchies without semantic context, to compare others with.

The paper has no such controls. What a hierarchy gains over them comes of its subclasses, not of
the training's phases or of finer targets alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lhs.data.scenes import void_of
from lhs.hierarchy.model import Hierarchy, Subclass


def from_classes(*, dataset: str, classes: Sequence[str], counts: np.ndarray) -> Hierarchy:
    """Make every class its own only subclass.

    Parameters
    ----------
    dataset
        The dataset's name.
    classes
        L class names.
    counts
        (L,) samples of each class.

    Returns
    -------
    Hierarchy
        L subclasses with the names of the classes, and no common class. W is the identity.
    """
    totals = np.asarray(counts, np.int64).tolist()
    subclasses = tuple(
        Subclass(name, label, count)
        for label, (name, count) in enumerate(zip(classes, totals, strict=True))
    )
    made = {"kind": "classes", "common_classes": [], "class_counts": totals}
    return Hierarchy(dataset, tuple(classes), void_of(len(classes)), subclasses, made)


def from_random(like: Hierarchy, *, seed: int) -> Hierarchy:
    """Make random subclasses, as many of each class and with the same shares as another hierarchy.

    Each connected region of a common class in a training label map draws one subclass, so that the
    subclasses are as coherent in space as clusters are: see `lhs.hierarchy.regions`.

    Parameters
    ----------
    like
        Gives the common classes, the number of subclasses of each, and their counts: a subclass is
        drawn with probability `count` over the sum of its class.
    seed
        Of the draws.

    Returns
    -------
    Hierarchy
        Subclasses are named `class/random1`, `class/random2`, in the order of those of `like`; a
        rare class is its own single subclass, under its own name.
    """
    common, place = set(like.common.tolist()), Counter[int]()
    subclasses = []
    for subclass in like.subclasses:
        label = subclass.parent
        place[label] += 1
        random_name = f"{like.classes[label]}/random{place[label]}"
        name = random_name if label in common else subclass.name
        subclasses.append(Subclass(name, label, subclass.count))
    made = {
        "kind": "random",
        "rho": like.made["rho"],
        "common_classes": like.made["common_classes"],
        "class_counts": like.made["class_counts"],
        "seed": int(seed),
        "like": like.kind,
        "like_digest": like.digest,
    }
    return Hierarchy(like.dataset, like.classes, like.void, tuple(subclasses), made)
