"""The whole configuration of an experiment: one pydantic model per stage, all in one tree.

The dotted path of a field (`hierarchy.rho`) is its only name: the key in a recipe, in `--set`,
in a sweep's space and in MLflow's parameters.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from lhs.config.data import DataConfig, UnlabelledConfig
from lhs.config.hierarchy import IMAGE_KINDS, ContextConfig, HierarchyConfig
from lhs.config.network import DECODERS, PATCH_NETWORKS, WEIGHTS, NetworkConfig
from lhs.config.section import Section
from lhs.config.training import (
    OF_H,
    OPERATIONAL,
    STRATEGIES,
    BaselinePhases,
    PhaseConfig,
    TrainConfig,
)
from lhs.names import ClassScores

__all__ = [
    "DECODERS", "IMAGE_KINDS", "OF_H", "OPERATIONAL", "PATCH_NETWORKS", "STRATEGIES", "WEIGHTS",
    "BaselinePhases", "Config", "ContextConfig", "DataConfig", "EvaluationConfig",
    "HierarchyConfig", "NetworkConfig", "PhaseConfig", "ReportConfig", "TrackingConfig",
    "TrainConfig", "UnlabelledConfig",
]  # fmt: skip


class EvaluationConfig(Section):
    stride: Literal[1, 2, 4, 8] = 1
    """Patch networks: predict at every n-th pixel of both axes and interpolate between them."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of trained networks that predict, also pseudo-labels; see `train.precision`."""
    class_scores: ClassScores = "w"
    """H: the class of a pixel is the best of W p (the paper), the parent of the best subclass, or
    the class whose subclasses have the largest sum of probabilities."""


class ReportConfig(Section):
    baseline: Literal["train", "reuse", "none"] = "reuse"
    """Compare with the same network trained as `baseline`: train it first, or reuse it if it is
    already trained, or do not compare."""
    scenes: int = Field(6, ge=0, le=50)
    """Test images drawn in the report."""


with warnings.catch_warnings():
    # Every abstract class has a function `register`, which nothing calls here.
    warnings.filterwarnings("ignore", 'Field name "register"')

    class TrackingConfig(Section):
        register: bool = False
        """Also register the model in MLflow, as a version of `lhs-DATASET-NETWORK`."""


class Config(Section):
    description: str = ""
    storage: str = Field(
        default_factory=lambda: os.environ.get("LHS_STORAGE", "~/lhs-results"), min_length=1
    )
    """Folder or URI (s3://, gs://) that stages, models and reports go to."""
    data: DataConfig = Field(default_factory=DataConfig)
    unlabelled: UnlabelledConfig = UnlabelledConfig()
    context: ContextConfig = ContextConfig()
    hierarchy: HierarchyConfig = HierarchyConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _validates_on_training_images(self) -> Self:
        if self.train.validate_every is not None and self.data.held_out is None:
            raise ValueError(
                f"train.validate_every = {self.train.validate_every} needs data.held_out, the "
                "number of training images to validate on, or val: test images are for the end"
            )
        return self

    @model_validator(mode="after")
    def _pseudo_labels_for_a_hierarchy(self) -> Self:
        if self.unlabelled.mode == "pseudo_labels" and self.train.strategy == "baseline":
            raise ValueError(
                "unlabelled.mode = 'pseudo_labels' needs train.strategy sequential or "
                "hierarchical: the baseline is the network that makes the pseudo-labels"
            )
        return self

    @model_validator(mode="after")
    def _subclasses_are_used(self) -> Self:
        train = self.train
        if train.subclass_context == "crop" and (
            train.strategy == "baseline"
            or self.hierarchy.kind != "label_clusters"
            or self.examples != "crops"
        ):
            raise ValueError(
                "train.subclass_context = 'crop' needs train.strategy sequential or hierarchical, "
                "hierarchy.kind label_clusters, and a network that trains on crops "
                f"(train.examples); found {train.strategy}, {self.hierarchy.kind}, {self.examples}"
            )
        if self.evaluation.class_scores != "w" and not train.has_w:
            raise ValueError(
                f"evaluation.class_scores = '{self.evaluation.class_scores}' needs train.strategy "
                "hierarchical with train.subclass_head joint: only such a network scores "
                f"subclasses at test time; found {train.strategy} and {train.subclass_head}"
            )
        return self

    @property
    def examples(self) -> Literal["patches", "variants", "crops"]:
        """What the network trains on: see `train.examples`."""
        if self.network.patches:
            return "patches"
        usual: Literal["variants", "crops"] = (
            "variants" if self.network.name.startswith("fcn") else "crops"
        )
        return self.train.examples or usual

    def dotted(self) -> dict[str, Any]:
        """Every setting under its dotted name."""
        return dict(_flatten(self.model_dump(mode="json")))

    def yaml(self) -> str:
        """The whole tree as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def dotted_names(tree: Mapping[str, Any]) -> list[str]:
    """The dotted name of every setting in nested sections."""
    return [name for name, _ in _flatten(tree)]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
