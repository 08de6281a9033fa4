"""Label hierarchies for scene labeling: networks trained with semantic context, on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhs.evaluation.model import Model
    from lhs.hierarchy import Hierarchy
    from lhs.names import ClassScores
    from lhs.training.hierarchical_loss import HierarchicalLoss

__version__ = "0.1.0"
__all__ = ["HierarchicalLoss", "Hierarchy", "load"]


def __getattr__(name: str) -> Any:
    # Imported when first used: `import lhs` loads nothing heavy.
    if name == "Hierarchy":
        from lhs.hierarchy import Hierarchy

        return Hierarchy
    if name == "HierarchicalLoss":
        from lhs.training.hierarchical_loss import HierarchicalLoss

        return HierarchicalLoss
    raise AttributeError(f"module 'lhs' has no attribute {name!r}")


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
