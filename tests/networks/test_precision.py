"""Class ids of trained networks at the precision of a GPU."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from lhs.config import NetworkConfig
from lhs.data import open_dataset
from lhs.errors import UserError
from lhs.evaluation.scoring import PixelScores
from lhs.networks import pixelwise
from lhs.networks.build import build_network
from lhs.networks.patch import PatchNetwork
from lhs.networks.precision import Precision, arithmetic, resolve_precision
from lhs.networks.weights import load_weights

STEPS = 60
"""Of training a network whose class ids are compared."""


def trained_scores(name: str, device: torch.device) -> PixelScores:
    """A network with its package's weights, and its own layers trained on embedded scenes.

    Random ones would not tell: whether precision matters depends on how far the best score is above
    the second.
    """
    torch.manual_seed(0)
    dataset = open_dataset("synthetic")
    network = build_network(NetworkConfig(name=name), len(dataset.classes))
    load_weights(network, NetworkConfig(name=name))
    network.to(device, memory_format=torch.channels_last)
    scenes = [scene.load() for scene in dataset.split("train")[:16]]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in scenes])
    images = images.float().to(device)
    labels = torch.from_numpy(np.stack([labels for _, labels in scenes])).long().to(device)
    if isinstance(network, PatchNetwork):
        # Its last layer alone, on single patches.
        network.eval()
        places = [(y, x) for y in range(8, 128, 16) for x in range(8, 160, 16)]
        bordered = pixelwise.cut(images, (-113, -113), (128 + 226, 160 + 226))
        seen = []
        with torch.no_grad():
            for y, x in places:
                patches = bordered[:, :, y : y + 227, x : x + 227]
                seen.append(network.features(network.normalise(patches)))
        images, model = torch.cat(seen), network.last
        labels = torch.cat([labels[:, y, x, None, None] for y, x in places])
    else:
        model = network.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        scores = functional.interpolate(model(images), labels.shape[1:], mode="bilinear")
        optimizer.zero_grad()
        functional.cross_entropy(scores, labels, ignore_index=dataset.void).backward()
        optimizer.step()
    return PixelScores(network.eval())


def unseen_scenes() -> list[torch.Tensor]:
    """Images that no network was trained on."""
    scenes = open_dataset("synthetic").split("test")[:4]
    return [torch.from_numpy(scene.image()).permute(2, 0, 1)[None].float() for scene in scenes]


def share_of_equal_ids(name: str, precision: Precision, device: torch.device) -> float:
    """Pixels whose class is float32's."""
    scores = trained_scores(name, device)
    equal = []
    for scene in unseen_scenes():
        ids = []
        for kind in ("float32", precision):
            with torch.inference_mode(), arithmetic(kind, device):
                ids.append(scores(scene.to(device)).argmax(dim=1))
        equal.append((ids[0] == ids[1]).float().mean())
    return float(torch.stack(equal).mean())


@pytest.mark.parametrize(
    ("capability", "bfloat16", "allowed", "auto"),
    [
        ((7, 5), False, ["float32"], "float32"),
        ((8, 0), True, ["float32", "tf32", "bfloat16"], "tf32"),
    ],
)
def test_a_gpu_s_precision_is_what_it_multiplies(monkeypatch, capability, bfloat16, allowed, auto):
    """A T4 and an A100, played."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    card = torch.device("cuda")
    assert resolve_precision("auto", card, "train.precision") == auto
    for setting in ("float32", "tf32", "bfloat16"):
        if setting in allowed:
            assert resolve_precision(setting, card, "train.precision") == setting
        else:
            with pytest.raises(UserError, match=rf"train\.precision = {setting}: found a card"):
                resolve_precision(setting, card, "train.precision")


def test_arithmetic_is_that_of_the_precision_and_of_before_after_it():
    """The switches of CUDA's libraries are set on a machine without a card too."""

    def switches():
        both = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return (*both, torch.is_autocast_enabled("cpu"))

    before, cpu = switches(), torch.device("cpu")
    for precision, expected in (
        ("float32", (False, False, False)), ("tf32", (True, True, False)),
        ("bfloat16", (True, True, True)),
    ):  # fmt: skip
        with arithmetic(precision, cpu):
            assert switches() == expected
        assert switches() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", ["squeezenet", "lite"])
def test_class_ids_are_float32s_at_the_precision_of_a_gpu(name):
    device = torch.device("cuda")
    precision = resolve_precision("auto", device, "evaluation.precision")
    assert share_of_equal_ids(name, precision, device) >= 0.999
