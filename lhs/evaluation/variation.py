"""How much features vary within classes and within subclasses (the paper's claim, section 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lhs.data.patches import cut_patch
from lhs.evaluation.model import Model
from lhs.networks.patch import PATCH, PatchNetwork
from lhs.networks.precision import arithmetic

FEWEST = 20
"""Samples of a class that is measured."""


def features_at(model: Model, image: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Features before the network's last layer at pixels of an image.

    Parameters
    ----------
    model
        Any; a patch network sees the patch around each pixel.
    image
        (H, W, 3) uint8.
    centres
        (N, 2) int, (y, x).

    Returns
    -------
    numpy.ndarray
        (N, D) float32.
    """
    found: list[torch.Tensor] = []
    network = model.network
    by_patch = isinstance(network, PatchNetwork)
    handle = network.last_layers()[0].register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].detach())
    )
    below, right = (-side % network.multiple for side in image.shape[:2])
    inputs = [np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")]
    if by_patch:
        inputs = [cut_patch(image, (int(y), int(x)), PATCH) for y, x in centres]
    try:
        with torch.inference_mode(), arithmetic("float32", torch.device(model.device)):
            for pixels in inputs:
                tensor = torch.from_numpy(pixels).to(model.device)
                network(tensor.permute(2, 0, 1)[None].float())
    finally:
        handle.remove()
    if by_patch:
        return np.stack([one.flatten().float().cpu().numpy() for one in found])
    features = found[0][0].float().cpu().numpy()
    height, width = inputs[0].shape[:2]
    rows = centres[:, 0] * features.shape[1] // height
    columns = centres[:, 1] * features.shape[2] // width
    return np.ascontiguousarray(features[:, rows, columns].T)


def variation(
    features: np.ndarray, subclasses: np.ndarray, parents: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Variation within classes and within their subclasses, beside that of a random split.

    Parameters
    ----------
    features
        (N, D) one row a sample.
    subclasses
        (N,) ids.
    parents
        (n,) class of each subclass.
    classes
        L names.

    Returns
    -------
    pandas.DataFrame
        A row for each class with `FEWEST` samples and several subclasses among them: `class`,
        `samples`, `subclasses`, `within class` and `within subclasses` (mean squared distance from
        the mean), `remains` (the second over the first) and `random split`: the expected share
        that a random split into parts of the same sizes leaves, (N - K) / (N - 1).
    """
    labels, rows = parents[subclasses], []
    for label in np.unique(labels).tolist():
        own = features[labels == label].astype(np.float64)
        parts = subclasses[labels == label]
        ids = np.unique(parts)
        if len(own) < FEWEST or len(ids) < 2:
            continue
        whole = _squares(own)
        within = sum(_squares(own[parts == part]) for part in ids)
        count = len(own)
        rows.append(
            (
                classes[label], count, len(ids), whole / count, within / count,
                within / whole if whole else float("nan"), (count - len(ids)) / (count - 1),
            )
        )  # fmt: skip
    columns = ["class", "samples", "subclasses", "within class", "within subclasses", "remains",
               "random split"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).sort_values("samples", ascending=False)


def _squares(rows: np.ndarray) -> float:
    return float(((rows - rows.mean(axis=0)) ** 2).sum())
