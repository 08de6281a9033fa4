"""Tensors with values that are not finite: what a diverged training leaves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def non_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors of a network's state that hold infinity or nan.

    All are on one device, which is waited for once.
    """
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    if not floats:
        return []
    finite = torch.stack([tensor.isfinite().all() for tensor in floats.values()]).tolist()
    return [name for name, good in zip(floats, finite, strict=True) if not good]
