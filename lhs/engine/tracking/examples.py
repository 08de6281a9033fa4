"""What the report shows of a hierarchy: subclasses, what surrounds them, patches of each."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lhs.config import IMAGE_KINDS, Config
from lhs.data.patches import cut_patch
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.subclass_samples import SubclassSamples
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.titles import titled
from lhs.report.hierarchy import HierarchyArrays, Patches

PER_ROW = 4
"""Patches nearest to the centre, and as many random ones."""
SIDE = 84
"""Pixels of a patch on the page."""
MOST_PATCHES = 400
"""Subclasses with patches, the largest ones: a page of more would be too large to send."""


def hierarchy_arrays(
    config: Config, scenes: CheckedScenes, found: SubclassSamples
) -> HierarchyArrays:
    """A hierarchy with patches of its subclasses, for the report."""
    hierarchy = found.hierarchy
    if not all(subclass.title for subclass in hierarchy.subclasses):
        # Made by an earlier version, or a control.
        hierarchy = titled(hierarchy, found.shares)
    counts = np.array([subclass.count for subclass in hierarchy.subclasses])
    shown = np.argsort(-counts, kind="stable")[:MOST_PATCHES].tolist()
    patches = _patches(scenes, found, shown, _window(hierarchy, config))
    return HierarchyArrays(
        classes=hierarchy.classes,
        colours=scenes.dataset.colours,
        class_counts=np.array(hierarchy.made["class_counts"]),
        common=hierarchy.common,
        names=[subclass.name for subclass in hierarchy.subclasses],
        titles=[subclass.title for subclass in hierarchy.subclasses],
        counts=counts,
        parents=hierarchy.parents,
        shares=found.shares,
        patches=patches,
        description=_description(hierarchy, config),
    )


def _window(hierarchy: Hierarchy, config: Config) -> int:
    """Side of the patches: R, and at most that of the paper's largest networks."""
    region = hierarchy.made.get("region", config.hierarchy.region)
    return int(min(math.inf if region == "inf" else region, 227))


def _patches(
    scenes: CheckedScenes, found: SubclassSamples, shown: list[int], size: int
) -> dict[int, tuple[Patches, Patches]]:
    dataset, by_image = scenes.dataset, dict[str, list[int]]()
    rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for subclass in shown:
        nearest = found.nearest(subclass, PER_ROW)
        rows[subclass] = nearest, found.random(subclass, PER_ROW, nearest)
        for sample in np.concatenate(rows[subclass]).tolist():
            by_image.setdefault(str(found.images[sample]), []).append(sample)
    cut: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    train = {scene.id: scene for scene in scenes.split("train")}
    for image_id, samples in by_image.items():
        image, label_map = train[image_id].load()
        for sample in samples:
            centre = (int(found.centres[sample, 0]), int(found.centres[sample, 1]))
            small = cv2.resize(
                cut_patch(image, centre, size), (SIDE, SIDE), interpolation=cv2.INTER_AREA
            )
            cut[sample] = small, _cut_labels(label_map, centre, size, dataset.void)
    return {
        subclass: (
            Patches([cut[i] for i in nearest.tolist()]), Patches([cut[i] for i in random.tolist()])
        )
        for subclass, (nearest, random) in rows.items()
    }  # fmt: skip


def _cut_labels(label_map: np.ndarray, centre: tuple[int, int], size: int, void: int) -> np.ndarray:
    """(SIDE, SIDE) class ids of the square around a pixel, void beyond the border."""
    reach = size // 2
    padded = np.pad(label_map, reach, constant_values=void)
    square = padded[centre[0] : centre[0] + size, centre[1] : centre[1] + size]
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def _description(hierarchy: Hierarchy, config: Config) -> str:
    """How it was made, in short."""
    settings = config.hierarchy
    if settings.kind == "classes":
        return ""
    how = "scene names"
    if settings.source == "label_clusters":
        how = f"label-map clusters, R = {settings.region:g}"
    elif settings.source in IMAGE_KINDS:
        described_by = hierarchy.made.get("described_by", "gist")
        how = f"{settings.image_clusters} image clusters ({described_by})"
    if settings.kind == "file":
        return f"{hierarchy.kind.replace('_', ' ')} of {settings.file}"
    if settings.kind == "random":
        how = f"random, with the numbers and shares of {how}"
    return f"{how}, rho = {settings.rho:g}"
