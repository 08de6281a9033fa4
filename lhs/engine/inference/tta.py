"""How a model looks at an image that it labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhs.context.superpixels import segment
from lhs.errors import UserError
from lhs.evaluation.model import Model, load_model
from lhs.evaluation.prediction import Prediction, mean_of_looks, vote
from lhs.networks.patch import PatchNetwork


@dataclass(frozen=True)
class Looks:
    """How a model looks at an image, and what is kept.

    Attributes
    ----------
    every
        Patch networks: pixels between two scores; those between are interpolated.
    flip
        Also look at the mirrored image.
    scales
        Look at the image at these scales.
    superpixels
        Mean size, in pixels, of the superpixels that vote on their label; 0 for no vote.
    centres
        Patch networks: mean size, in pixels, of the superpixels of which only the centres are
        scored; 0 for every pixel.
    probabilities
        Whether they are written too.
    """

    every: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    superpixels: int = 0
    centres: int = 0
    probabilities: bool = False


PLAIN = Looks()
"""At every pixel, once."""


def opened_for(folder: Path, looks: Looks) -> Model:
    """Open a model folder to look at images in this way.

    Raises
    ------
    UserError
        If the model can't.
    """
    model = load_model(folder, every=looks.every)
    if looks.centres:
        name = model.description.network.name
        if not isinstance(model.network, PatchNetwork):
            raise UserError(
                f"--centres: the model is {name}, which scores whole images; "
                "allowed for patch networks alone"
            )
        used = {
            "--every": looks.every != 1,
            "--flip": looks.flip,
            "--scales": looks.scales != (1.0,),
            "--superpixels": bool(looks.superpixels),
        }
        if any(used.values()):
            others = ", ".join(name for name, given in used.items() if given)
            raise UserError(f"--centres: found together with {others}, allowed alone")
    return model


def look(model: Model, images: Sequence[np.ndarray], looks: Looks) -> list[Prediction]:
    """Label images (H, W, 3) uint8 of one size as asked."""
    if looks.centres:
        return [model.predict(image, segment(image, looks.centres)) for image in images]
    if looks.flip or looks.scales != (1.0,):
        found = [
            mean_of_looks(model.predict, image, flip=looks.flip, scales=looks.scales)
            for image in images
        ]
    else:
        found = model.predict_batch(images)
    if looks.superpixels:
        found = [vote(each, segment(each.image, looks.superpixels)) for each in found]
    return found
