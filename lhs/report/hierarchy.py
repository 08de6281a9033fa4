"""The label hierarchy on a page: every class opens into its subclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lhs.report import figures
from lhs.report.content import ClassPart, Picture, ReportHierarchy, Section, SubclassPart
from lhs.report.drawing import css, draw, painted
from lhs.report.wording import plural

GAP = 4
LEAST_SHARE = 0.01
"""Of the classes in a bar."""


@dataclass(frozen=True)
class Patches:
    """Square patches: photographs (S, S, 3) uint8 with class ids (S, S) each."""

    pairs: Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class HierarchyArrays:
    """A label hierarchy in numbers.

    Attributes
    ----------
    classes, colours
        L names and (L, 3) uint8.
    class_counts
        (L,) samples per class.
    common
        (C,) ids of the common classes, most frequent first.
    names, titles, counts, parents
        Of the n subclasses: ids, titles for people, samples (n,), class ids (n,).
    shares
        (n, L) mean histogram of the labels around each subclass's samples.
    patches
        By subclass: those nearest to its centre, and random ones.
    description
        How it was made, such as "label-map clusters, R = 129, rho = 0.93".
    """

    classes: Sequence[str]
    colours: np.ndarray
    class_counts: np.ndarray
    common: np.ndarray
    names: Sequence[str]
    titles: Sequence[str]
    counts: np.ndarray
    parents: np.ndarray
    shares: np.ndarray
    patches: Mapping[int, tuple[Patches, Patches]] = field(default_factory=dict)
    description: str = ""


def hierarchy_section(arrays: HierarchyArrays) -> Section:
    """Samples before and after, and the subclasses of each class."""
    number, total = len(arrays.classes), len(arrays.names)
    made = f" ({arrays.description})" if arrays.description else ""
    intro = f"Each of the {plural(number, 'class', 'classes')} is its own only subclass{made}."
    if len(arrays.common):
        common = plural(len(arrays.common), "common class", "common classes")
        intro = f"{common} of {number} were split, which gives {total} subclasses{made}."
    tree = ReportHierarchy(
        key="hierarchy", title="Subclasses of each class",
        caption="Open a class to see its subclasses, the most frequent class first. A title says "
        "what surrounds the samples: the bar is their mean label histogram in the hierarchy's "
        "window, of the whole image where it has none, over some unaugmented training images. "
        "Below are patches around samples, with their label maps: four nearest to the centre, then "
        "four random ones. The cross marks the sample. Sizes count the augmented training set.",
        classes=tuple(_class_part(arrays, label) for label in _by_size(arrays.class_counts)),
        data=subclass_table(arrays),
    )  # fmt: skip
    frequencies = draw(
        figures.class_frequencies,
        arrays.classes, arrays.class_counts, arrays.names, arrays.counts, arrays.parents,
        arrays.common,
        key="class_frequencies", title="Samples before and after",
        caption="Above, how many samples each class has; below, how many each subclass has, "
        "both in descending order and on one logarithmic scale. Common classes are coloured, "
        "the number above a bar is that of its subclasses. A good split flattens the left end "
        "of the lower row.",
        alt=f"Two bar charts of sample counts: {number} classes and {total} subclasses.",
        data=pd.DataFrame({"class": list(arrays.classes), "samples": arrays.class_counts}),
    )  # fmt: skip
    return Section(
        key="hierarchy-section", title="The label hierarchy", intro=intro, items=(tree, frequencies)
    )


def subclass_table(arrays: HierarchyArrays) -> pd.DataFrame:
    """A row a subclass: `class`, `subclass`, `title`, `samples`, and the mean histogram."""
    frame = pd.DataFrame(
        {
            "class": [arrays.classes[label] for label in arrays.parents],
            "subclass": list(arrays.names),
            "title": list(arrays.titles),
            "samples": arrays.counts,
        }
    )
    around = [f"share of {name}" for name in arrays.classes]
    return pd.concat([frame, pd.DataFrame(np.round(arrays.shares, 4), columns=around)], axis=1)


def _by_size(counts: np.ndarray) -> list[int]:
    order: list[int] = np.argsort(-np.asarray(counts), kind="stable").tolist()
    return order


def _class_part(arrays: HierarchyArrays, label: int) -> ClassPart:
    members = np.flatnonzero(arrays.parents == label)
    members = members[_by_size(arrays.counts[members])]
    total = max(int(arrays.counts[members].sum()), 1)
    return ClassPart(
        name=arrays.classes[label],
        colour=css(arrays.colours[label]),
        samples=int(arrays.class_counts[label]),
        share=float(arrays.class_counts[label] / max(arrays.class_counts.sum(), 1)),
        common=bool(label in arrays.common),
        subclasses=tuple(
            SubclassPart(
                id=arrays.names[i],
                title=arrays.titles[i],
                samples=int(arrays.counts[i]),
                share=float(arrays.counts[i] / total),
                around=tuple(
                    (arrays.classes[j], css(arrays.colours[j]), float(arrays.shares[i, j]))
                    for j in _by_size(arrays.shares[i])
                    if arrays.shares[i, j] >= LEAST_SHARE
                ),
                rows=_rows(arrays, i),
            )
            for i in members.tolist()
        ),
    )


def _rows(arrays: HierarchyArrays, subclass: int) -> tuple[tuple[str, Picture, Picture], ...]:
    found = []
    kinds = ("nearest to the centre", "random")
    for kind, patches in zip(kinds, arrays.patches.get(subclass, ()), strict=False):
        if patches.pairs:
            photographs = [_crossed(photograph) for photograph, _ in patches.pairs]
            maps = [painted(labels, arrays.colours) for _, labels in patches.pairs]
            what = f"of {arrays.names[subclass]}, {kind}"
            count = plural(len(maps), "patch", "patches")
            found.append(
                (
                    kind,
                    Picture(_strip(photographs), f"{count} {what}", photograph=True),
                    Picture(_strip(maps), f"Label maps of the {count} {what}"),
                )
            )
    return tuple(found)


def _crossed(patch: np.ndarray) -> np.ndarray:
    """A patch with a small cross at its centre."""
    out, middle = patch.copy(), len(patch) // 2
    for colour, thick in ((0, 1), (255, 0)):
        out[middle - thick : middle + thick + 1, middle - 4 : middle + 5] = colour
        out[middle - 4 : middle + 5, middle - thick : middle + thick + 1] = colour
    return out


def _strip(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, always as wide as four, with gaps: RGBA."""
    side = len(pictures[0])
    out = np.zeros((side, 4 * side + 3 * GAP, 4), np.uint8)
    for place, picture in enumerate(pictures):
        left = place * (side + GAP)
        out[:, left : left + side, :3] = picture[..., :3]
        out[:, left : left + side, 3] = picture[..., 3] if picture.shape[2] == 4 else 255
    return out
