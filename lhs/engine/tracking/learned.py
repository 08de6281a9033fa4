"""What a trained network made of its hierarchy, for the report: W, and variation of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.subclass_samples import SubclassSamples
from lhs.engine.storage import Storage
from lhs.report.assemble import LearnedW

if TYPE_CHECKING:
    from lhs.evaluation.model import Model

IMAGES, PATCHES = 40, 400
"""Training images whose features are measured; samples, where each needs a pass of its own."""


def learned(
    storage: Storage, path: str, found: SubclassSamples, scenes: CheckedScenes
) -> tuple[LearnedW | None, pd.DataFrame]:
    """W of the model in a folder, and the variation of its features at some samples."""
    from lhs.evaluation.model import load_model

    with storage.as_local(path) as folder:
        model = load_model(folder)
    hierarchy = found.hierarchy
    w = getattr(model.scores.whole, "w", None)
    names = [subclass.name for subclass in hierarchy.subclasses]
    matrix = None if w is None else LearnedW(w.cpu().numpy(), hierarchy.parents, names)
    return matrix, _variation(model, found, scenes)


def _variation(model: Model, found: SubclassSamples, scenes: CheckedScenes) -> pd.DataFrame:
    from lhs.evaluation.variation import features_at, variation
    from lhs.networks.patch import PatchNetwork

    train = {scene.id: scene for scene in scenes.split("train")}
    samples = np.arange(len(found.images))
    if isinstance(model.network, PatchNetwork) and len(samples) > PATCHES:
        samples = np.sort(np.random.default_rng(0).choice(samples, PATCHES, replace=False))
    else:
        chosen = np.random.default_rng(0).permutation(np.unique(found.images))[:IMAGES]
        samples = np.flatnonzero(np.isin(found.images, chosen))
    features = [
        features_at(
            model, train[image].image(), found.centres[samples[found.images[samples] == image]]
        )
        for image in np.unique(found.images[samples])
    ]
    hierarchy = found.hierarchy
    return variation(
        np.concatenate(features), found.subclasses[samples], hierarchy.parents, hierarchy.classes
    )
