"""Label hierarchies for scene labeling: networks trained with semantic context, on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhs.evaluation.model import Model
    from lhs.names import ClassScores

__version__ = "0.1.0"
__all__ = ["load"]


def load(
    model: str, device: str = "cpu", stride: int = 1, class_scores: ClassScores = "w"
) -> Model:
    """Open a trained model for prediction.

    Parameters
    ----------
    model
        A model directory, or an MLflow address `runs:/RUN_ID`.
    device
        Where it runs, as torch names it.
    stride
        Patch networks: pixels between two scores, down and across; others are interpolated.
    class_scores
        Models of H: the class of a pixel by `w`, `best_subclass` or `summed_probabilities`, as
        `evaluation.class_scores`.

    Returns
    -------
    Model
        Its `predict(image)` takes an (H, W, 3) uint8 array or the path of an image.

    Raises
    ------
    lhs.errors.UserError
        If there is no model at that place or its files do not fit together.
    """
    from lhs.engine.inference.models import open_model

    return open_model(model, device, stride, class_scores)
