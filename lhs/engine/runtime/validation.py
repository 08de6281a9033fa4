"""Validation: scores on held-out training images during training, to select settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lhs.data.scenes import Scene
from lhs.evaluation.metrics import confusion_counts, scores
from lhs.evaluation.pooling import SubclassPool
from lhs.evaluation.prediction import enlarged
from lhs.evaluation.scoring import PixelScores, inference_network
from lhs.names import ClassScores
from lhs.networks.precision import Precision, arithmetic


class Validation:
    """Scores a network on held-out images during its training.

    Parameters
    ----------
    scenes
        The held-out images.
    classes
        L.
    void
        Label that is not scored.
    parents
        Class (n,) of each subclass; None for the baseline.
    stride
        Patch networks: pixels between two scores, see `evaluation.stride`.
    class_scores
        Networks with W: see `evaluation.class_scores`.
    precision
        `evaluation.precision`, resolved for the model's device.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        classes: int,
        void: int,
        parents: np.ndarray | None,
        stride: int = 1,
        class_scores: ClassScores = "w",
        precision: Precision = "float32",
    ) -> None:
        self.scenes, self.classes, self.void = scenes, classes, void
        self.parents, self.stride, self.class_scores = parents, stride, class_scores
        self.precision: Precision = precision

    @torch.no_grad()
    def __call__(self, model: nn.Module, *, subclasses: bool) -> dict[str, float]:
        """Scores by name, as in `lhs evaluate`.

        With `subclasses` the network scores subclasses, and a pixel gets the class of the best one.
        The model is left in evaluation mode.
        """
        model.eval()
        rule: ClassScores = "best_subclass" if subclasses else self.class_scores
        pool = None
        if rule != "w":
            assert self.parents is not None
            pool = SubclassPool(rule, self.parents)
        device = next(model.parameters()).device
        # Folding compares scores, as in `lhs.evaluation.model.Model`.
        with arithmetic("float32", device):
            scored = PixelScores(inference_network(model), self.stride, pool)
        counts = np.zeros((self.classes, self.classes), np.int64)
        for scene in self.scenes:
            image, truth = scene.load_scored()
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device, torch.float32)
            with arithmetic(self.precision, device):
                grid = scored.grid(pixels)
            strips = grid.strips()
            best = torch.cat([strip.max(dim=0).indices for strip in strips])
            found = enlarged(best, truth.shape).cpu().numpy()
            counts += confusion_counts(found, truth, self.classes, self.void)
        return scores(counts).headline()
