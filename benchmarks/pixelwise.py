"""Dense prediction of one 256 x 256 image: against the arithmetic, and against the two other ways.

For each patch network, at full resolution, on two threads:

(a) multiply-adds of the dense pass, counted at its layers while it runs;
(b) multiply-adds a second, as a share of those of a large float32 matrix product;
(c) time against patch by patch, measured on a sample of patches and scaled, as a share of what the
    two counts of multiply-adds allow;
(d) time against the whole network at every shift, stitched, measured at a sample of shifts.

FCN and `lite`: time of `Model.predict` against the bare network's forward pass of the same image.
Weights are random: they change no count and no time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import torch
from reporting import options, report, with_memory_kept
from torch import Tensor, nn

from lhs.config import NetworkConfig
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import Model
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.patch import PATCH, PatchNetwork
from lhs.networks.pixelwise import DenseNetwork, dense_scores
from lhs.networks.products import SummedConvolution

SIDE, CLASSES = 256, 33
NETWORKS = ["squeezenet", "clarifai", "overfeat", "lite", "fcn16s"]
PRODUCT = 4096
"""Side of the matrices of the product."""


def quickest(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest of some rounds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def counted(module: nn.Module, work: Callable[[], object]) -> int:
    """Multiply-adds of all convolutions below a module while `work` runs."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        total += output.numel() // weight.shape[0] * weight.numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | SummedConvolution)
    ]
    work()
    for hook in hooks:
        hook.remove()
    return total


def matrix_product() -> float:
    """Multiply-adds a second of a large float32 matrix product."""
    left, right = torch.randn(2, PRODUCT, PRODUCT)
    return PRODUCT**3 / quickest(lambda: left @ right, 3)


def network_of(name: str) -> SceneNetwork:
    """A network with random weights, ready to predict."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, weights="none"), CLASSES)
    return network.to(memory_format=torch.channels_last).eval()


@torch.inference_mode()
def patch_network(name: str, patches: int, shifts: int) -> dict[str, float]:
    """Figures (a) to (d)."""
    network = network_of(name)
    assert isinstance(network, PatchNetwork)
    dense = DenseNetwork(network)
    image = torch.randint(0, 256, (1, 3, SIDE, SIDE)).float()
    adds = counted(dense, lambda: dense_scores(dense, image, PATCH))
    seconds = quickest(lambda: dense_scores(dense, image, PATCH), 1 if adds > 2e12 else 5)
    product = matrix_product()

    sample = torch.rand(patches, 3, PATCH, PATCH).to(memory_format=torch.channels_last) * 255
    network(sample)
    one = quickest(lambda: network(sample), 3) / patches
    adds_one = counted(network, lambda: network(sample[:1]))

    margin = dense.start + PATCH // 2
    across = SIDE + 2 * margin - network.stride + 1
    shifted = torch.rand(1, 3, across, across).to(memory_format=torch.channels_last) * 255
    network(shifted)
    shift = quickest(lambda: network(shifted), shifts)
    return {
        "multiply_adds": adds,
        "seconds": seconds,
        "share_of_product": adds / seconds / product,
        "share_of_allowed": (one * SIDE**2 / seconds) / (adds_one * SIDE**2 / adds),
        "times_patch_by_patch": one * SIDE**2 / seconds,
        "times_every_shift": shift * network.stride**2 / seconds,
    }


@torch.inference_mode()
def whole_network(name: str) -> dict[str, float]:
    """Time of `predict` as a multiple of the bare forward pass."""
    network = network_of(name)
    description = ModelDescription(
        network=NetworkConfig(name=name, weights="none"),
        strategy="baseline",
        dataset="",
        classes=tuple(map(str, range(CLASSES))),
        colours=((0, 0, 0),) * CLASSES,
        outputs=CLASSES,
        hierarchy_digest=None,
    )
    model = Model(network, description)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    image = image.to(memory_format=torch.channels_last)
    network(image), model.predict(pixels)
    bare, whole = [], []
    for _ in range(10):
        bare.append(quickest(lambda: network(image), 1))
        whole.append(quickest(lambda: model.predict(pixels), 1))
    return {
        "images_a_second": 1 / min(whole),
        "times_bare_forward": float(np.median(whole) / np.median(bare)),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--networks", nargs="+", metavar="NAME", default=NETWORKS)
    parser.add_argument("--patches", type=int, default=64)
    parser.add_argument("--shifts", type=int, default=3)
    chosen = parser.parse_args()
    with_memory_kept()
    torch.set_num_threads(2)
    figures: dict[str, dict[str, float]] = {}
    bounds: dict[str, tuple[float, str, float]] = {}
    for name in chosen.networks:
        if name in ("squeezenet", "clarifai", "overfeat"):
            found = patch_network(name, chosen.patches, chosen.shifts)
            bounds |= {
                f"{name}: share of a matrix product's speed": (
                    found["share_of_product"],
                    ">=",
                    0.7,
                ),
                f"{name}: share of the allowed gain": (
                    found["share_of_allowed"],
                    ">=",
                    0.8 if name == "overfeat" else 1.0,
                ),
                f"{name}: against every shift": (found["times_every_shift"], ">", 1.0),
            }
        else:
            found = whole_network(name)
            bounds[f"{name}: against the bare pass"] = (found["times_bare_forward"], "<=", 1.1)
        figures[name] = found
        print(json.dumps({"network": name, **found}), flush=True)
    report("pixelwise", figures, bounds)


if __name__ == "__main__":
    main()
