"""How `lhs predict` labels an image: test-time augmentation, superpixels, stride."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhs.context.superpixels import segment
from lhs.errors import UserError
from lhs.evaluation.model import Model, load_model
from lhs.evaluation.prediction import Prediction, at_full_size, average_predictions, vote
from lhs.names import ClassScores
from lhs.networks.patch import PatchNetwork


@dataclass(frozen=True)
class PredictOptions:
    """How to label an image, and what to keep.

    Attributes
    ----------
    stride
        Patch networks: pixels between two scores; others are interpolated.
    flip
        Average with the prediction of the mirrored image.
    scales
        Average over predictions at these scales.
    superpixels
        Mean size, in pixels, of the superpixels that vote on their label; 0 for no vote.
    centres
        Patch networks: mean size, in pixels, of superpixels of which only the centres are scored;
        0 for every pixel.
    probabilities
        Whether to write them too.
    class_scores
        Models of H: see `evaluation.class_scores`.
    """

    stride: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    superpixels: int = 0
    centres: int = 0
    probabilities: bool = False
    class_scores: ClassScores = "w"


def load_model_for(folder: Path, options: PredictOptions) -> Model:
    """Open a model folder to predict with these options.

    Raises
    ------
    UserError
        If the model does not support them.
    """
    model = load_model(folder, stride=options.stride, class_scores=options.class_scores)
    if options.centres:
        name = model.description.network.name
        if not isinstance(model.network, PatchNetwork):
            raise UserError(
                f"--centres: the model is {name}, which scores whole images; "
                "allowed for patch networks alone"
            )
        used = {
            "--stride": options.stride != 1,
            "--flip": options.flip,
            "--scales": options.scales != (1.0,),
            "--superpixels": bool(options.superpixels),
        }
        if any(used.values()):
            others = ", ".join(name for name, given in used.items() if given)
            raise UserError(f"--centres: found together with {others}, allowed alone")
    return model


def predict_with_tta(
    model: Model, images: Sequence[np.ndarray], options: PredictOptions
) -> list[Prediction]:
    """Label images (H, W, 3) uint8 of one size.

    Scales and superpixels are those of the resized image, if the model resizes it.
    """
    seen = model.resized(images)
    if options.centres:
        found = [model.predict(image, segment(image, options.centres)) for image in seen]
    elif options.flip or options.scales != (1.0,):
        found = [
            average_predictions(
                lambda view: model.predict_batch([view], resize=False)[0],
                image, flip=options.flip, scales=options.scales,
            )
            for image in seen
        ]  # fmt: skip
    else:
        found = model.predict_batch(seen)
    if options.superpixels:
        found = [vote(each, segment(each.image, options.superpixels)) for each in found]
    return [at_full_size(one, image) for one, image in zip(found, images, strict=True)]
