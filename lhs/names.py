"""Names that the command line's help and the configuration share."""

from __future__ import annotations

from typing import Literal, get_args

DatasetName = Literal["siftflow", "stanford", "barcelona", "lmsun", "synthetic", "folder"]
DATASETS: tuple[str, ...] = get_args(DatasetName)
DOWNLOADS = DATASETS[:4]
"""Those that `lhs data get` knows."""
STRIDES = (1, 2, 4, 8)
"""Distances in pixels at which a patch network can predict; between them, it is interpolated."""
ClassScores = Literal["w", "best_subclass", "summed_probabilities"]
CLASS_SCORES: tuple[str, ...] = get_args(ClassScores)
"""How a model of H gets the class of a pixel from its subclass scores."""

ImportFormat = Literal[
    "cityscapes", "ade20k", "camvid", "coco", "coco-stuff", "cvat", "voc", "labelme",
    "hugging-face", "matlab", "pairs",
]  # fmt: skip
IMPORT_FORMATS: tuple[str, ...] = get_args(ImportFormat)
"""Formats of `lhs data import` in the order of recognising: the more specific first."""
