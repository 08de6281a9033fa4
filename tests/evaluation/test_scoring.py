"""Scores of whole images: in tiles, at single pixels, and what a large photo needs of memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lhs.evaluation.scoring import PixelScores, SummedNetwork
from lhs.networks.base import SceneNetwork
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.fcn import FCN
from lhs.networks.squeezenet import squeezenet
from tests.data.builders import noise_image


def tensor_of(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


# Tiles


class Blurred(SceneNetwork):
    """Scores every pixel from 4 pixels around it."""

    multiple, reach = 4, 8

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 2, 9, padding=4)

    def forward_features(self, image):
        return (image,)

    def forward_head(self, features):
        return self.last(features[0])

    def last_layers(self):
        return [self.last]


@pytest.mark.parametrize("sides", [(12, 60), (60, 12), (44, 60)])
def test_tiles_have_no_seams_across_and_down(monkeypatch, sides):
    torch.manual_seed(0)
    scores, image = PixelScores(Blurred().eval()), tensor_of(noise_image(1, *sides))
    with torch.inference_mode():
        whole = scores.grid(image).rows(0, sides[0])
        monkeypatch.setattr("lhs.evaluation.scoring.TILE", 16)
        tiled = scores.grid(image).rows(0, sides[0])
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-2)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [pytest.param("fcn32s", marks=pytest.mark.slow), "fcn8s"])
def test_tiles_of_an_fcn_have_no_seams(monkeypatch, name):
    """Narrower than the tiles, far longer than what a score depends on."""
    torch.manual_seed(0)
    network = FCN(name, 5).eval()
    for layer in network.score_pool:
        nn.init.normal_(layer.weight, std=0.05)
    nn.init.normal_(network.score.weight, std=0.05)
    image = tensor_of(noise_image(1, 50, 800))
    scores = PixelScores(network)
    with torch.inference_mode():
        whole = scores.grid(image).rows(0, 50)
        monkeypatch.setattr("lhs.evaluation.scoring.TILE", 96)
        sizes = []
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[3]))
        tiled = scores.grid(image).rows(0, 50)
    assert len(sizes) == 9
    assert max(sizes) <= 96 + 2 * FCN.reach
    assert float(whole.std()) > 0.01
    torch.testing.assert_close(tiled, whole, atol=2e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.thorough
def test_what_an_fcn_depends_on_ends_within_its_reach():
    """By the gradient of a score in the middle: nothing beyond, something nearly as far away."""
    network = FCN("fcn8s", 1).eval()
    for layer in (network.score, *network.score_pool):
        nn.init.ones_(layer.weight)
    image = torch.rand(1, 3, 32, 1024).requires_grad_()
    network(image)[0, 0, 16, 500].backward()
    seen = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()[:, 0]
    assert seen.min() >= 500 - FCN.reach
    assert seen.max() <= 500 + FCN.reach
    assert seen.max() - seen.min() > FCN.reach


# Single pixels


@pytest.mark.parametrize("summed", [False, True])
def test_single_pixels_are_scored_by_the_patches_around_them(summed):
    """Cut out by numpy, from an image with its rounded mean colour around it."""
    torch.manual_seed(0)
    network = squeezenet(4).eval()
    nn.init.normal_(network.last.weight)
    w = torch.rand(2, 4)
    whole = SummedNetwork(network, w) if summed else network
    image = noise_image(2, 40, 61)
    places = np.array([[0, 0], [39, 60], [17, 3], [0, 60], [20, 20]])
    large = np.empty((40 + 226, 61 + 226, 3), np.float32)
    large[:] = image.mean(axis=(0, 1)).round()
    large[113:153, 113:174] = image
    patches = np.stack([large[y : y + 227, x : x + 227] for y, x in places])
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches).permute(0, 3, 1, 2))[:, :, 0, 0]
        found = PixelScores(whole).at(tensor_of(image), torch.from_numpy(places))
    expected = expected @ w.T if summed else expected
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# Memory

PHOTO = """
import re, sys, numpy as np
from pathlib import Path
from lhs.config import NetworkConfig
from lhs.context.superpixels import segment
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import Model
from lhs.networks.build import build_network

name, stride, centres = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
classes = tuple(map(str, range(33)))
config = NetworkConfig(name=name, weights="none")
description = ModelDescription(
    network=config, strategy="baseline", dataset="", classes=classes,
    colours=((0, 0, 0),) * 33, outputs=33, hierarchy_digest=None,
)
model = Model(build_network(config, 33), description, stride=stride)
photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
found = model.predict(photo)
found.overlay
if centres:
    found = model.predict(photo, segment(photo, centres))
assert found.label_map.shape == (3000, 4000)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize(
    ("name", "stride", "centres"),
    [("lite", 1, 0), ("squeezenet", 8, 30_000)],
)
def test_a_photo_of_twelve_megapixels_fits_four_gibibytes(name, stride, centres):
    """All of the process: programs, weights, photo, labels, overlay."""
    command = [sys.executable, "-c", PHOTO, name, str(stride), str(centres)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4 * 2**20


@pytest.mark.thorough
def test_the_networks_that_have_a_reach_score_every_pixel():
    image = torch.rand(1, 3, 64, 96) * 255
    for network in (FCN("fcn16s", 3), EncoderNetwork(3, 8)):
        with torch.inference_mode():
            scores = network.eval()(image)
        assert (network.reach is not None) == (scores.shape[2:] == image.shape[2:])
