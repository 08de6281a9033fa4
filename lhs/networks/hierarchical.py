"""The layer that sums subclass scores into class scores (paper section 3.2.2, Fig. 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhs.networks.base import SceneNetwork


class HierarchicalNetwork(nn.Module):
    """A subclass network with the layer W on top.

    Parameters
    ----------
    network
        Scores n subclasses.
    matrix
        W, (L, n): 1 where a subclass belongs to a class, else 0.
    masked
        Keep the zeros of W at zero while it is learned.
    """

    matrix: Tensor
    ones: Tensor
    zeros: Tensor

    def __init__(self, network: nn.Module, matrix: Tensor, masked: bool) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("matrix", matrix.clone())
        self.w = nn.Parameter(matrix.clone(), requires_grad=False)
        self.masked = masked
        # Indices into the flattened W: a mask would make the host wait for the device.
        for name, value in (("ones", 1), ("zeros", 0)):
            places = (matrix == value).flatten().nonzero().flatten()
            self.register_buffer(name, places, persistent=False)

    def current_w(self) -> Tensor:
        """W, masked where `masked`: (L, n)."""
        return self.w * self.matrix if self.masked else self.w

    @torch.no_grad()
    def drift(self) -> dict[str, Tensor]:
        """Mean distance of W's initial ones and zeros from one and zero: scalars on W's device."""
        apart = (self.current_w() - self.matrix).abs().flatten()
        return {
            "w_from_one": apart[self.ones].mean(),
            "w_from_zero": apart[self.zeros].mean() if len(self.zeros) else apart.new_zeros(()),
        }

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Subclass scores p, (B, n, ...), and W, (L, n).

        W is an output, so that DDP sees its gradient from the loss.
        """
        return self.network(image), self.current_w()


class AuxiliaryNetwork(nn.Module):
    """A class network with a second last layer for subclasses, which only the training uses.

    Both are one last layer of L + n outputs, classes first. Every output has weights of its own, so
    it is the same as two layers side by side.

    Parameters
    ----------
    network
        Its last layers have L + n outputs.
    classes, subclasses
        L and n.
    """

    def __init__(self, network: SceneNetwork, classes: int, subclasses: int) -> None:
        super().__init__()
        self.network, self.classes, self.subclasses = network, classes, subclasses

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (B, L, ...) and subclass scores (B, n, ...)."""
        scores, subclass_scores = self.network(image).split([self.classes, self.subclasses], dim=1)
        return scores, subclass_scores

    def without_auxiliary(self) -> SceneNetwork:
        """The network with the classes' outputs alone; changed in place, on its device."""
        network, device = self.network, next(self.parameters()).device
        trained = [layer.state_dict() for layer in network.last_layers()]
        network.reset_classifier(self.classes)
        for layer, state in zip(network.last_layers(), trained, strict=True):
            # The first dimension of all tensors is the outputs'.
            layer.load_state_dict({name: tensor[: self.classes] for name, tensor in state.items()})
        return network.to(device)


def class_scores(subclass_scores: Tensor, matrix: Tensor) -> Tensor:
    """Class scores (B, L, ...) = W (L, n) times subclass scores (B, n, ...): Eq. 3's `W p`."""
    return torch.einsum("ln,bn...->bl...", matrix, subclass_scores)
