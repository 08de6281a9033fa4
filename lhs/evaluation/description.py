"""`model.json`: what a model folder says beside its weights, read with care."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lhs.config import STRATEGIES, NetworkConfig
from lhs.errors import UserError
from lhs.untrusted import parse_json, shortened

SCHEMA = 1
DESCRIPTION = "model.json"
LARGEST_DESCRIPTION = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The content of `model.json`.

    Attributes
    ----------
    network
        Architecture.
    strategy
        How it was trained.
    dataset
        Name of the dataset.
    classes, colours
        Names and (L, 3) colours of the ids it predicts.
    outputs
        Scores of its last layer: L, or the n subclasses below W (`has_w`).
    hierarchy_digest
        Digest of the hierarchy it was trained with, if any.
    subclass_head
        `train.subclass_head`.
    image_range
        `data.folder.range` of its training: what is black and white in images of 16 bits a channel
        and of floats.
    long_side
        `data.long_side` of its training: images whose longer side has more pixels are resized
        before the network sees them.
    """

    network: NetworkConfig
    strategy: str
    dataset: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    outputs: int
    hierarchy_digest: str | None
    subclass_head: str = "joint"
    image_range: tuple[float, float] | None = None
    long_side: int | None = None

    @property
    def has_w(self) -> bool:
        """Whether it scores subclasses and has W on top."""
        return self.strategy == "hierarchical" and self.subclass_head == "joint"

    def as_json(self) -> str:
        """The JSON text of `model.json`."""
        tree = {"schema": SCHEMA, **vars(self), "network": self.network.model_dump(mode="json")}
        border = "mean colour of the image"
        tree["preprocessing"] = {"channels": "RGB", "range": [0, 255], "border": border}
        return json.dumps(tree, indent=2)


def read_description(folder: Path) -> ModelDescription:
    """The description in a model folder.

    Raises
    ------
    UserError
        If it is missing or malformed.
    """
    path = folder / DESCRIPTION
    if not os.path.isdir(folder):
        found = "found a file" if os.path.exists(folder) else "no such folder"
        raise UserError(f"{folder}: {found}; needed is a model folder or runs:/RUN_ID")
    if not os.path.isfile(path):
        raise UserError(f"{folder}: not a model, it has no {DESCRIPTION}")
    try:
        size = path.stat().st_size
        if size > LARGEST_DESCRIPTION:
            raise ValueError(f"{size} bytes; allowed are {LARGEST_DESCRIPTION}")
        return _parse(path.read_bytes())
    except (ValueError, TypeError, KeyError, OverflowError, OSError, ValidationError) as error:
        raise UserError(
            f"{path}: not a valid model description: {shortened(repr(error), 1000)}"
        ) from None


def _parse(content: bytes) -> ModelDescription:
    tree = parse_json(content)
    if tree["schema"] != SCHEMA:
        raise ValueError(f"schema {tree['schema']!r}, allowed is {SCHEMA}")
    classes, colours = tuple(map(str, tree["classes"])), np.array(tree["colours"])
    "".join(classes).encode()  # JSON may hold halves of characters, which can't be printed
    if not 1 <= len(classes) <= 65535 or colours.shape != (len(classes), 3):
        raise ValueError(f"{len(classes)} classes with colours of shape {colours.shape}")
    if colours.dtype.kind != "i" or colours.min() < 0 or colours.max() > 255:
        raise ValueError("colours must be whole numbers from 0 to 255")
    strategy, outputs = tree["strategy"], tree["outputs"]
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r}, allowed are {', '.join(STRATEGIES)}")
    # Models of earlier versions do not say it.
    subclass_head = tree.get("subclass_head", "joint")
    if subclass_head not in ("joint", "auxiliary"):
        raise ValueError(f"subclass_head {subclass_head!r}, allowed are joint and auxiliary")
    image_range = tree.get("image_range")
    if image_range is not None:
        low, high = map(float, image_range)
        if not -math.inf < low < high < math.inf:
            raise ValueError(
                f"image_range {image_range!r}, allowed are two numbers, black below white"
            )
        image_range = low, high
    long_side = tree.get("long_side")
    if long_side is not None and (type(long_side) is not int or long_side < 1):
        raise ValueError(f"long_side {long_side!r}, allowed are whole numbers above 0")
    description = ModelDescription(
        # Those of earlier versions do not name their head.
        network=NetworkConfig.model_validate({"head": "pyramid", **tree["network"]}),
        strategy=strategy,
        dataset=str(tree["dataset"]),
        classes=classes,
        colours=tuple((int(r), int(g), int(b)) for r, g, b in colours),
        outputs=outputs,
        hierarchy_digest=tree["hierarchy_digest"],
        subclass_head=subclass_head,
        image_range=image_range,
        long_side=long_side,
    )
    # Only with W there are more scores than classes.
    most = 65535 if description.has_w else len(classes)
    if not isinstance(outputs, int) or not len(classes) <= outputs <= most:
        raise ValueError(f"outputs {outputs!r}, allowed is {len(classes)} to {most}")
    return description
