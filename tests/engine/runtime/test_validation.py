"""Scores while a network trains, against those of the finished evaluation's own way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lhs.config import NetworkConfig
from lhs.data import open_dataset
from lhs.data.resizing import resized_image
from lhs.engine.runtime.validation import Validation
from lhs.evaluation.metrics import confusion_counts, scores
from lhs.evaluation.scoring import PixelScores
from lhs.loading import load_config
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.hierarchical import AuxiliaryNetwork, HierarchicalNetwork

PARENTS = np.array([0, 1, 1, 2, 3, *range(4, 14), 0])


@pytest.fixture(scope="module")
def scenes():
    settings = ["data.synthetic.height=40", "data.synthetic.width=56", "data.held_out=3"]
    return open_dataset(load_config("demo", settings).data).split("test")


@pytest.mark.thorough
def test_resized_images_are_scored_at_their_full_size() -> None:
    settings = ["data.synthetic.height=80", "data.synthetic.width=112", "data.held_out=3"]
    small, whole = (
        open_dataset(load_config("demo", [*settings, *more]).data).split("test")
        for more in (["data.long_side=56"], [])
    )
    model = network(14)
    found = Validation(small, 14, 255, None)(model, subclasses=False)
    scored = PixelScores(model.eval())

    def enlarged(pixels: torch.Tensor) -> torch.Tensor:
        resized = resized_image(pixels[0].permute(1, 2, 0).numpy().astype(np.uint8), 56)
        scores = scored(torch.from_numpy(resized).permute(2, 0, 1)[None].float())
        return torch.nn.functional.interpolate(scores, pixels.shape[2:], mode="nearest-exact")

    assert found == by_hand(whole, enlarged)


def network(outputs: int) -> EncoderNetwork:
    torch.manual_seed(0)
    made = EncoderNetwork(outputs, 8)
    made.train()
    return made


def by_hand(scenes, class_scores) -> dict[str, float]:
    counts = np.zeros((14, 14), np.int64)
    for scene in scenes:
        pixels = torch.from_numpy(scene.image()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            found = class_scores(pixels)[0].argmax(dim=0).numpy()
        counts += confusion_counts(found, scene.label_map(), 14, 255)
    return scores(counts).headline()


def test_a_network_of_classes(scenes) -> None:
    model = network(14)
    found = Validation(scenes, 14, 255, None)(model, subclasses=False)
    scored = PixelScores(model.eval())
    assert found == by_hand(scenes, scored)
    assert 0 < found["per_pixel"] < 1


def test_a_subclass_network_says_the_class_of_its_best_subclass(scenes) -> None:
    model = network(len(PARENTS))
    found = Validation(scenes, 14, 255, PARENTS)(model, subclasses=True)
    scored = PixelScores(model.eval())

    def best(pixels):
        whole = scored(pixels)
        return torch.stack([whole[:, label == PARENTS].amax(dim=1) for label in range(14)], dim=1)

    assert found == by_hand(scenes, best)


def test_h_is_scored_through_its_own_w(scenes) -> None:
    matrix = torch.zeros(14, len(PARENTS))
    matrix[PARENTS, range(len(PARENTS))] = 1
    model = HierarchicalNetwork(network(len(PARENTS)), matrix, masked=False)
    with torch.no_grad():
        model.w += 0.3 * torch.rand_like(model.w)
    found = Validation(scenes, 14, 255, PARENTS)(model, subclasses=False)
    scored = PixelScores(model.network.eval())
    w = model.w.detach()
    assert found == by_hand(scenes, lambda p: torch.einsum("ln,bnyx->blyx", w, scored(p)))


@pytest.mark.parametrize("rule", ["best_subclass", "summed_probabilities"])
def test_h_is_scored_as_the_evaluation_will_score_it(scenes, rule) -> None:
    matrix = torch.zeros(14, len(PARENTS))
    matrix[PARENTS, range(len(PARENTS))] = 1
    model = HierarchicalNetwork(network(len(PARENTS)), matrix, masked=False)
    with torch.no_grad():
        model.w += 0.3 * torch.rand_like(model.w)
    found = Validation(scenes, 14, 255, PARENTS, class_scores=rule)(model, subclasses=False)
    scored = PixelScores(model.network.eval())

    def by_class(pixels):
        values = scored(pixels)
        if rule == "summed_probabilities":
            values = values.softmax(dim=1)
        whole = [values[:, label == PARENTS] for label in range(14)]
        return torch.stack(
            [w.amax(dim=1) if rule == "best_subclass" else w.sum(dim=1) for w in whole], dim=1
        )

    assert found == by_hand(scenes, by_class)


def test_an_auxiliary_head_is_not_scored(scenes) -> None:
    model = AuxiliaryNetwork(network(14 + len(PARENTS)), 14, len(PARENTS))
    found = Validation(scenes, 14, 255, PARENTS)(model, subclasses=False)
    scored = PixelScores(model.network.eval())
    assert found == by_hand(scenes, lambda pixels: scored(pixels)[:, :14])


@pytest.mark.thorough
@pytest.mark.parametrize("stride", [4, 8])
def test_a_patch_network_is_scored_at_the_stride_that_is_asked_for(scenes, stride):
    """A random network, whose label map hangs on the stride."""
    torch.manual_seed(0)
    model = build_network(NetworkConfig(name="squeezenet", weights="none"), 14)
    pixels = torch.from_numpy(scenes[0].image()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        # Else one class is the best everywhere.
        model.last.bias -= PixelScores(model.eval(), stride)(pixels).mean(dim=(0, 2, 3))
    found = Validation(scenes[:1], 14, 255, None, stride)(model, subclasses=False)
    assert found == by_hand(scenes[:1], PixelScores(model, stride))
    assert found != by_hand(scenes[:1], PixelScores(model, 12 - stride))


def test_it_computes_at_its_precision(scenes):
    seen = []

    class Noting(EncoderNetwork):
        def forward(self, image):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return super().forward(image)

    Validation(scenes[:1], 14, 255, None)(Noting(14, 8), subclasses=False)
    assert set(seen) == {(False, False)}
    del seen[:]
    Validation(scenes[:1], 14, 255, None, precision="tf32")(Noting(14, 8), subclasses=False)
    # Folding compares scores, in float32.
    assert set(seen[:-1]) == {(False, False)}
    assert seen[-1] == (True, True)
