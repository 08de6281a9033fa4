"""Settings of the data: dataset, images, unlabelled pixels."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator

from lhs.config.section import Section
from lhs.names import DatasetName

LabelId = Annotated[int, Field(ge=0, le=65535, strict=True)]


class StanfordConfig(Section):
    fold: int = Field(1, ge=1, le=5)
    """The test fold; the other four train."""
    split: Literal["folds", "random"] = "folds"
    """`random` draws 572 / 143 images with `data.seed`."""


class FolderConfig(Section):
    path: str = ""
    """Folder or URI with `images/`, `labels/` and `classes.txt`."""
    void: tuple[LabelId, ...] = Field((255,), min_length=1)
    """The id or ids that stand for "not labelled" in the label PNGs."""
    ids_from: LabelId = 0
    """The id of the first line of `classes.txt` in the label PNGs."""
    scenes: str = "none"
    """Where scene names come from: `none`, `folder`, `prefix` or the path of a CSV."""
    labels_follow_exif: bool | None = None
    """Whether label maps lie like images turned by their EXIF orientation (or like the stored
    pixels), where the size of a label map fits both: squares, and images turned by 180 degrees."""
    range: tuple[float, float] | None = None
    """The values that are black and white in images of 16 bits a channel and of floats; 8 bits are
    kept. A model keeps it for prediction."""

    @field_validator("void", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("void")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))

    @field_serializer("void")
    def _one_as_number(self, value: tuple[int, ...]) -> int | list[int]:
        # As stored by earlier versions, which knew one.
        return value[0] if len(value) == 1 else list(value)

    @field_validator("range")
    @classmethod
    def _from_low_to_high(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"found {value[0]:g} to {value[1]:g}, needed: black below white")
        return value


class SyntheticConfig(Section):
    train: int = Field(160, ge=1)
    test: int = Field(40, ge=1)
    height: int = Field(128, ge=32)
    width: int = Field(160, ge=32)
    unlabelled: float = Field(0.05, ge=0.0, le=0.9)
    """Share of pixels that carry no label."""
    seed: int = Field(0, ge=0)


class DataConfig(Section):
    dataset: DatasetName = "synthetic"
    root: str = Field(default_factory=lambda: os.environ.get("LHS_DATA_ROOT", "~/lhs-data"))
    """The folder or URI (s3://, gs://) that `lhs data get` unpacks into."""
    cache_gb: float = Field(50.0, gt=0.0)
    """Bound on the copies of files from URIs that each node keeps below `LHS_CACHE`."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    allow_empty_classes: bool = False
    """Train on a folder of your own also if its training images lack a class of `classes.txt`."""
    max_train: int | None = Field(None, ge=1)
    """Train on a seeded random part of this many images."""
    max_test: int | None = Field(None, ge=1)
    """Test on a seeded random part of this many images."""
    held_out: Annotated[int, Field(ge=1)] | Literal["val"] | None = None
    """Test on this many of the training images, which are then not trained on, instead of the test
    images: to choose settings without using the test images. `val`: on those of a folder's
    `splits/val.txt`."""
    long_side: int | None = Field(None, ge=32)
    """Resize images whose longer side has more pixels than this, before anything else."""
    seed: int = Field(0, ge=0)
    """For the random parts and Stanford's random split."""
    stanford: StanfordConfig = StanfordConfig()
    folder: FolderConfig = FolderConfig()
    synthetic: SyntheticConfig = SyntheticConfig()


class UnlabelledConfig(Section):
    mode: Literal["naive", "pseudo_labels"] = "naive"
    """`pseudo_labels`: the baseline, trained first, labels what people left unlabelled in training
    images, and the hierarchy is made from both. `naive`: unlabelled pixels are left out."""
    below: float = Field(0.9, gt=0.0, le=1.0)
    """Images get pseudo-labels if less than this share of their pixels is labelled."""
    train_on_pseudo_labels: bool = True
    """Train on the pseudo-labels too (the paper), or only on what people annotated."""
    stride: Literal[1, 2, 4, 8] = 1
    """As `evaluation.stride`, for the pseudo-labels."""
