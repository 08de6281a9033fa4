"""Settings of the semantic context and of the hierarchy that is made from it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AllowInfNan, BeforeValidator, Field, field_serializer, model_validator

from lhs.config.section import Section

IMAGE_KINDS = ("image_clusters", "image_embedding")
"""Hierarchies of clusters of whole images: of their GIST, or of a pretrained network's features."""


class ContextConfig(Section):
    superpixel_size: int = Field(300, ge=4)
    """Mean number of pixels of a superpixel."""
    variants: int = Field(5, ge=0, le=100)
    """Augmented copies of each training image, besides itself."""
    seed: int = Field(0, ge=0)


def _odd_or_inf(value: Any) -> float:
    # Tune and the command line hand over text; YAML reads `.inf`, people write `inf`.
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isinf(number) and number > 0:
        return number
    if not number.is_integer() or number < 1 or number % 2 == 0:
        raise ValueError("must be an odd number of pixels, 1 or more, or inf")
    return number


class HierarchyConfig(Section):
    kind: Literal[
        "label_clusters", "scene_names", "image_clusters", "image_embedding", "classes", "random",
        "file",
    ] = "label_clusters"  # fmt: skip
    like: Literal["label_clusters", "scene_names", "image_clusters"] = "label_clusters"
    """Kind of the hierarchy, made with the other settings, whose numbers of subclasses and shares
    `random` subclasses have."""
    file: str | None = None
    """`file`: the path of a hierarchy.json for the dataset's classes, which any program made."""
    subclass_maps: str | None = None
    """`file`, where that hierarchy is of kind `subclass_maps`: a folder with IMAGE_ID.png, subclass
    ids, for every training image."""
    rho: float = Field(0.93, gt=0.0, le=1.0)
    """Share of samples at which classes stop being common."""
    region: Annotated[float, AllowInfNan(True), BeforeValidator(_odd_or_inf)] = 129.0
    """R: side of the window whose labels are counted, odd, or inf for the whole label map."""
    k_scale: float = Field(1.0, gt=0.0, le=100.0)
    """Factor on every K_j that Algorithm 1 finds."""
    n_star: Literal["largest_rare"] | Annotated[int, Field(ge=0)] = "largest_rare"
    """Algorithm 1's bound: every cluster must have more samples than this."""
    image_clusters: int = Field(8, ge=2, le=1000)
    """Clusters of images (`image_clusters`, `image_embedding`). The paper gives no number; 8 is as
    many as SIFTFlow has scene names."""
    max_fit_samples: int = Field(200_000, ge=100)
    """Above this many samples of a class, k-means fits a seeded sample and assigns the rest."""
    backend: Literal["auto", "sklearn", "cuml"] = "auto"
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _file_is_given(self) -> Self:
        if (self.kind == "file") != (self.file is not None):
            raise ValueError(
                "hierarchy.kind = file and hierarchy.file = PATH of a hierarchy.json go together; "
                f"found kind {self.kind} and file {self.file}"
            )
        if self.subclass_maps is not None and self.kind != "file":
            raise ValueError(f"hierarchy.subclass_maps needs hierarchy.kind file, not {self.kind}")
        return self

    @property
    def source(self) -> str:
        """The kind that decides the number of subclasses: `like` of random ones, else `kind`."""
        return self.like if self.kind == "random" else self.kind

    @field_serializer("region")
    def _region_text(self, region: float) -> int | str:
        return "inf" if math.isinf(region) else int(region)
