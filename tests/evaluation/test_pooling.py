"""The class of a pixel from its subclass scores, against numpy written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import lhs
from lhs.config import NetworkConfig
from lhs.context.samples import centre_pixels
from lhs.errors import UserError
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import Model, load_model, save_model
from lhs.evaluation.pooling import SubclassPool
from lhs.evaluation.scoring import SummedNetwork
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.networks.build import build_network
from lhs.networks.hierarchical import class_scores
from tests.data.builders import noise_image
from tests.hierarchy.test_hierarchy import CLASSES, cluster_hierarchy, scene_hierarchy

RULES = ("best_subclass", "summed_probabilities")
HIERARCHY = cluster_hierarchy()
PARENTS, SUBCLASSES = HIERARCHY.parents, len(HIERARCHY.parents)


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=0))
    return raised / raised.sum(axis=0)


def written_out(rule: str, scores: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The class of each pixel of (n, ...) subclass scores."""
    if rule == "best_subclass":
        return parents[scores.argmax(axis=0)]
    values = scores if rule == "w" else softmax(scores)
    classes = range(max(parents) + 1)
    return np.stack([values[parents == label].sum(axis=0) for label in classes]).argmax(axis=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    more=st.lists(st.integers(0, 3), max_size=12),
    shape=st.sampled_from([(1,), (5,), (3, 4)]),
)
def test_classes_are_those_written_out(seed, more, shape):
    """Subclasses in any order; and W p by sums."""
    parents = np.array([*more, *range(4)])
    scores = np.random.default_rng(seed).normal(0, 3, (len(parents), *shape))
    tensor = torch.from_numpy(scores)
    for rule in RULES:
        found = SubclassPool(rule, parents)(tensor)
        assert found.shape == (4, *shape)
        np.testing.assert_array_equal(
            found.argmax(dim=0).numpy(), written_out(rule, scores, parents)
        )
    matrix = torch.from_numpy((parents[None] == np.arange(4)[:, None]).astype(np.float64))
    summed = class_scores(tensor[None], matrix)[0].argmax(dim=0).numpy()
    np.testing.assert_array_equal(summed, written_out("w", scores, parents))


def test_the_softmax_of_pooled_scores_is_the_sum_of_probabilities():
    scores = np.random.default_rng(0).normal(0, 200, (SUBCLASSES, 6)).astype(np.float32)
    found = SubclassPool("summed_probabilities", PARENTS)(torch.from_numpy(scores)).softmax(dim=0)
    probabilities = softmax(scores.astype(np.float64))
    sums = [probabilities[label == PARENTS].sum(axis=0) for label in range(len(CLASSES))]
    np.testing.assert_allclose(found.numpy(), np.stack(sums), atol=1e-6)


def test_the_rules_differ():
    """W p sums scores: a class of many good subclasses beats the best one, two of them a single."""
    scores = np.array([[1.0], [1.0], [1.0], [2.0], [1.5], [1.5]])
    parents = np.array([0, 0, 0, 1, 2, 2])
    answers = {rule: int(written_out(rule, scores, parents)[0]) for rule in ("w", *RULES)}
    assert answers == {"w": 0, "best_subclass": 1, "summed_probabilities": 2}
    for rule in RULES:
        pooled = SubclassPool(rule, parents)(torch.from_numpy(scores))
        assert int(pooled.argmax()) == answers[rule]


def test_w_is_not_pooled():
    with pytest.raises(ValueError, match="not pooled"):
        SubclassPool("w", PARENTS)


# Models


def described(name: str, **changes) -> ModelDescription:
    fields = {
        "network": NetworkConfig(name=name, channels=8, weights="none"), "strategy": "hierarchical",
        "dataset": "toy", "classes": CLASSES, "colours": ((0, 0, 0),) * len(CLASSES),
        "outputs": SUBCLASSES, "hierarchy_digest": HIERARCHY.digest,
    }  # fmt: skip
    return ModelDescription(**fields | changes)


def saved(folder: Path, name: str = "lite") -> Path:
    """A model folder; scores around 0, a W that has moved away from the hierarchy."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, channels=8, weights="none"), SUBCLASSES)
    for layer in network.last_layers():
        torch.nn.init.normal_(layer.weight, std=3)
    with torch.inference_mode():
        side = 227 if name == "squeezenet" else 64
        scores = network.eval()(torch.rand(1, 3, side, side) * 255)
        network.last.bias -= scores.mean(dim=(0, 2, 3))
    w = torch.from_numpy(HIERARCHY.matrix()) + 0.3 * torch.randn(len(CLASSES), SUBCLASSES)
    save_model(folder, SummedNetwork(network, w), described(name))
    HIERARCHY.save(folder / HIERARCHY_FILE)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES)
def test_a_model_pools_the_subclass_scores_of_each_pixel(folder, rule):
    """After interpolation, which does not commute with it; whatever W has learned."""
    image = noise_image(3, 64, 96)
    model = load_model(folder, class_scores=rule)
    with torch.inference_mode():
        scores = model.network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
        scores = functional.interpolate(scores, size=(64, 96), mode="bilinear")[0].double().numpy()
    found = model.predict(image)
    expected = written_out(rule, scores, PARENTS)
    # But for rounding at ties.
    assert (found.label_map == expected).mean() > 0.999
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found.label_map, found.scores.argmax(axis=0))
    assert (found.label_map != load_model(folder).predict(image).label_map).any()
    if rule == "summed_probabilities":
        sums = [softmax(scores)[label == PARENTS].sum(axis=0) for label in range(len(CLASSES))]
        np.testing.assert_allclose(found.probabilities, np.stack(sums), atol=1e-4)
    again = lhs.load(str(folder), class_scores=rule).predict(image).label_map
    np.testing.assert_array_equal(again, found.label_map)


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES)
def test_a_patch_network_pools_at_single_pixels_and_at_a_stride(tmp_path, rule):
    folder, image = saved(tmp_path, "squeezenet"), noise_image(5, 9, 17)
    plain = Model(load_model(folder).network, described("squeezenet", classes=("x",) * SUBCLASSES))
    scores = plain.predict(image).scores.astype(np.float64)
    expected = written_out(rule, scores, PARENTS)
    model = load_model(folder, stride=8, class_scores=rule)
    np.testing.assert_array_equal(model.predict(image).label_map[::8, ::8], expected[::8, ::8])
    superpixels = np.arange(9 * 17).reshape(9, 17) // (3 * 17)
    found = model.predict(image, superpixels)
    centres = centre_pixels(superpixels)
    np.testing.assert_array_equal(found.label_map.flat[centres], expected.flat[centres])
    assert found.known.shape == (3, len(CLASSES))


@pytest.mark.thorough
def test_only_a_model_with_w_has_another_rule(folder, tmp_path):
    network = build_network(NetworkConfig(channels=8, weights="none"), len(CLASSES))
    for changes in ({"strategy": "baseline"}, {"subclass_head": "auxiliary"}):
        other = tmp_path / str(changes)
        other.mkdir()
        save_model(other, network, described("lite", outputs=len(CLASSES), **changes))
        assert load_model(other).classes == CLASSES
        with pytest.raises(UserError, match=r"class_scores = best_subclass: .*allowed is w"):
            load_model(other, class_scores="best_subclass")


def test_the_hierarchy_must_be_the_one_it_was_trained_with(folder):
    scene_hierarchy().save(folder / HIERARCHY_FILE)
    with pytest.raises(UserError, match="the model was trained with"):
        load_model(folder, class_scores="best_subclass")
    (folder / HIERARCHY_FILE).unlink()
    with pytest.raises(UserError, match=HIERARCHY_FILE):
        load_model(folder, class_scores="best_subclass")
    load_model(folder)
