"""What MLflow knows of a run from its start: the settings it uses, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lhs.config import IMAGE_KINDS, Config
from lhs.config.unused import unused
from lhs.engine.tracking.provenance import commit, started_as
from lhs.report.groups import used

_CLUSTERED = ("rho", "backend", "seed")
OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "classes": (),
    "scene_names": ("rho",),
    "label_clusters": (*_CLUSTERED, "region", "k_scale", "n_star", "max_fit_samples"),
    **dict.fromkeys(IMAGE_KINDS, (*_CLUSTERED, "image_clusters")),
    "file": ("file", "subclass_maps"),
}
"""Settings of `hierarchy` that each of its kinds uses, besides `kind`."""


def parameters(config: Config) -> dict[str, Any]:
    """The settings, by dotted name, that a run uses and that have a value."""
    without = (*unused(config), *_of_other_parts(config))
    return {
        key: value
        for key, value in used(config.dotted()).items()
        if value is not None and not any(f"{key}.".startswith(f"{name}.") for name in without)
    }


def _of_other_parts(config: Config) -> list[str]:
    """Settings, and sections of them, of other datasets, kinds of hierarchies and examples."""
    data, hierarchy = config.data, config.hierarchy
    names = [f"data.{name}" for name in ("synthetic", "stanford", "folder") if name != data.dataset]
    if data.dataset != "folder":
        names.append("data.allow_empty_classes")
    own = {"kind", *OF_KINDS[hierarchy.source]}
    if hierarchy.kind == "random":
        own |= {"like", "seed"}
    names += [f"hierarchy.{name}" for name in type(hierarchy).model_fields if name not in own]
    if config.unlabelled.mode != "pseudo_labels":
        names += [f"unlabelled.{name}" for name in ("below", "stride", "train_on_pseudo_labels")]
    if config.train.strategy == "baseline" and config.examples == "crops":
        names.append("context")
    if config.train.strategy == "baseline" and config.examples == "variants":
        names.append("context.superpixel_size")
    return names


def origin_tags(description: str = "") -> dict[str, str]:
    """Tags that say where a run comes from: description, command, commit; none that is empty."""
    found = commit()
    tags = {
        # MLflow shows these two itself.
        "mlflow.note.content": description,
        "mlflow.source.git.commit": found.partition(",")[0],
        "lhs.commit": found,
        "lhs.command": started_as(),
    }
    return {key: value for key, value in tags.items() if value}
