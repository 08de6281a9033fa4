"""Example patches of a class's subclasses, for the report (the paper's Fig. 4)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lhs.config import Config
from lhs.context.extraction import histogram_rows
from lhs.data.patches import cut_patch
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.samples import row_tables
from lhs.engine.storage import Storage
from lhs.hierarchy import Hierarchy

PER_SUBCLASS = 8
IMAGES = 400
"""Training images to search: enough for a figure, for any size of dataset."""


def subclass_patches(
    storage: Storage,
    config: Config,
    scenes: CheckedScenes,
    hierarchy: Hierarchy,
    samples: StageResult,
) -> tuple[str, dict[str, list[np.ndarray]]]:
    """Patches of the class with the most subclasses, each from a different unaugmented image.

    Returns
    -------
    str
        The class.
    dict
        Subclass name to up to eight (S, S, 3) uint8 patches; S is R, at most 227.
    """
    label = int(np.bincount(hierarchy.parents).argmax())
    settings = config.hierarchy
    given = settings.kind == "file" and hierarchy.kind == "label_clusters"
    region = hierarchy.region if given else settings.region
    size = int(min(region, 227))
    rng = np.random.default_rng(config.hierarchy.seed)
    train = {scene.id: scene for scene in scenes.split("train")}
    chosen = rng.choice(sorted(train), size=min(IMAGES, len(train)), replace=False)
    keep = (pc.field("variant") == 0) & (pc.field("label") == label)
    keep &= pc.field("image").isin(chosen.tolist())
    columns = ["image", "variant", "y", "x", "label"]
    tables = row_tables(storage, samples.path, columns)
    rows = pa.concat_tables(table.filter(keep) for table in tables)
    rows = rows.sort_by([("image", "ascending"), ("y", "ascending"), ("x", "ascending")])
    names = [hierarchy.subclasses[i].name for i in np.flatnonzero(hierarchy.parents == label)]
    patches: dict[str, list[np.ndarray]] = {name: [] for name in names}
    groups = rows.to_pandas().groupby("image")
    places = {image: group[["y", "x"]].to_numpy() for image, group in groups}
    for image_id in chosen.tolist():
        if all(len(found) >= PER_SUBCLASS for found in patches.values()):
            break
        if image_id not in places:
            continue
        scene, centres = train[image_id], places[image_id]
        histograms = histogram_rows(scenes.dataset, scene, 0, centres, region=region, seed=0)
        classes = np.full(len(centres), label)
        names = [hierarchy.scene_of(scene) or ""] * len(classes)
        if hierarchy.of_whole_images:
            subclass_map = hierarchy.relabel(scene.label_map(), image_id=scene.id)
            subclasses = subclass_map[centres[:, 0], centres[:, 1]]
        else:
            subclasses = hierarchy.subclass_of(classes, histograms, names)
        # One patch per image and subclass, so that a row shows different places.
        image = scene.image()
        for subclass in np.unique(subclasses):
            row_of = patches[hierarchy.subclasses[subclass].name]
            if len(row_of) < PER_SUBCLASS:
                y, x = centres[rng.choice(np.flatnonzero(subclasses == subclass))]
                row_of.append(cut_patch(image, (int(y), int(x)), size))
    return hierarchy.classes[label], patches
