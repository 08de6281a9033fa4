"""Model folders of every kind and damage are a model, or refused before they take memory."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lhs.config import NetworkConfig
from lhs.evaluation.description import DESCRIPTION, ModelDescription
from lhs.evaluation.model import WEIGHTS, load_model, save_model
from lhs.networks.build import build_network
from tests.fuzz.guard import changed_tree, changes, edited, edits, ends_well, fuzzed

MEGABYTES = 100
names = st.sampled_from(
    ["lite", "squeezenet", "clarifai", "clarifai512", "overfeat", "fcn32s", "fcn8s",
     "timm:resnet18", "timm:no_such", "timm:hf-hub:a/b", "timm:local-dir:/tmp",
     "timm:vit_tiny_patch16_224", "timm:", "vgg", "smp:unet", "smp:segformer", "smp:no_such"]
)  # fmt: skip
counts = st.sampled_from([0, 1, 2, 3, 4, 300, 20_000, 65_535, 65_536])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """model.json and the weights of a small network that has been loaded once."""
    folder = tmp_path_factory.mktemp("model")
    network = NetworkConfig(name="squeezenet", weights="none")
    description = ModelDescription(
        network=network, strategy="baseline", dataset="toy", classes=("a", "b", "c"),
        colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)), outputs=3, hierarchy_digest=None,
    )  # fmt: skip
    save_model(folder, build_network(network, 3), description)
    load_model(folder)
    # What libraries load at their first use is not the input's.
    with torch.device("meta"):
        for name in ("lite", "timm:resnet18", "fcn8s", "smp:unet"):
            build_network(NetworkConfig(name=name, weights="none"), 3)
    return (folder / DESCRIPTION).read_bytes(), (folder / WEIGHTS).read_bytes()


def check(place: Path, description: bytes, weights: bytes) -> None:
    (place / DESCRIPTION).write_bytes(description)
    (place / WEIGHTS).write_bytes(weights)
    model = ends_well(lambda: load_model(place), MEGABYTES)
    if model is not None:
        assert model.colours.shape == (len(model.classes), 3)


@pytest.mark.thorough
@fuzzed(8)
@given(edits)
def test_damaged_descriptions(place: Path, parts: tuple[bytes, bytes], damage: list) -> None:
    check(place, edited(parts[0], damage), parts[1])


@pytest.mark.thorough
@fuzzed(20)
@given(changes, names, st.sampled_from(["baseline", "sequential", "hierarchical"]), counts, counts,
       st.booleans())  # fmt: skip
def test_descriptions(
    place: Path, parts: tuple[bytes, bytes], wanted: list, name: str, strategy: str, classes: int,
    outputs: int, changed: bool,
) -> None:  # fmt: skip
    tree = json.loads(parts[0])
    if not changed or classes <= outputs:
        tree["network"]["name"], tree["strategy"], tree["outputs"] = name, strategy, outputs
        tree["classes"] = [str(number) for number in range(classes)]
        tree["colours"] = [[1, 2, 3]] * classes
    if changed:
        for path, value, action in copy.deepcopy(wanted):
            changed_tree(tree, path, value, action)
    check(place, json.dumps(tree).encode(), parts[1])


@pytest.mark.thorough
@fuzzed(15)
@given(edits, st.booleans())
def test_damaged_weights(
    place: Path, parts: tuple[bytes, bytes], damage: list, fitting: bool
) -> None:
    weights = parts[1]
    size = struct.unpack("<Q", weights[:8])[0]
    header = edited(weights[8 : 8 + size], damage)
    length = struct.pack("<Q", len(header)) if fitting else weights[:8]
    check(place, parts[0], length + header + weights[8 + size :])


@pytest.mark.thorough
@fuzzed(15)
@given(changes)
def test_headers_of_weights(place: Path, parts: tuple[bytes, bytes], wanted: list) -> None:
    weights = parts[1]
    size = struct.unpack("<Q", weights[:8])[0]
    tree = json.loads(weights[8 : 8 + size])
    for path, value, action in copy.deepcopy(wanted):
        changed_tree(tree, path, value, action)
    header = json.dumps(tree).encode()
    check(place, parts[0], struct.pack("<Q", len(header)) + header + weights[8 + size :])


@fuzzed(8)
@given(st.binary())
def test_weights_of_any_bytes(place: Path, parts: tuple[bytes, bytes], data: bytes) -> None:
    check(place, parts[0], data)
