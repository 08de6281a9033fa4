"""A large convolution as a sum of matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SummedConvolution(nn.Module):
    """A convolution; on CPUs in float32, a sum of one matrix product per row of the kernel.

    torch's CPU convolution reorders its weights at every call, which costs most of the time of
    layers with large weights; its matrix product does not. On CUDA and under autocast this is the
    plain convolution. The choice is not by timing: two processes could choose differently and give
    scores with different last digits.

    Parameters
    ----------
    layer
        Of stride 1, without padding, dilation and groups. Its weights are shared; they are not
        copied if they are in `torch.channels_last`.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, h, w) to (B, L, h - k + 1, w - k + 1)."""
        device = features.device.type
        if device == "cuda" or torch.is_autocast_enabled(device):
            return functional.conv2d(features, self.weight, self.bias)
        outputs, channels, size, _ = self.weight.shape
        batch, _, *sides = features.shape
        height, width = (side - size + 1 for side in sides)
        count = batch * height * width
        total = features.new_zeros(count, outputs)
        if self.bias is not None:
            total += self.bias
        windows = features.permute(0, 2, 3, 1).unfold(2, size, 1).transpose(3, 4)
        for row, weight in enumerate(self.weight.unbind(2)):
            seen = windows[:, row : row + height].reshape(count, size * channels)
            total.addmm_(seen, weight.transpose(1, 2).flatten(1).t())
        return total.view(batch, height, width, outputs).permute(0, 3, 1, 2)
