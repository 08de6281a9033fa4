"""Exported files label as the model does; onnxruntime and torch run them."""

import dataclasses
import json
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lhs.config import DECODERS, NetworkConfig
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.export import CLASSES, LONG_SIDE, SUFFIXES, export_model, share_alike
from lhs.evaluation.model import Model
from lhs.evaluation.pooling import SubclassPool
from lhs.evaluation.scoring import SummedNetwork
from lhs.networks.build import build_network
from tests.data.builders import noise_image

NAMES = ("sky", "sea", "sand")
KINDS = sorted(SUFFIXES)


def model_of(name: str, strategy: str = "baseline", pool: SubclassPool | None = None) -> Model:
    torch.manual_seed(0)
    outputs = 5 if strategy == "hierarchical" else 3
    config = NetworkConfig(name=name, channels=8, weights="none")
    network = build_network(config, outputs)
    for layer in network.last_layers():
        torch.nn.init.normal_(layer.weight, std=3)
    with torch.inference_mode():
        # Scores around 0: images get several classes.
        side = 227 if name == "squeezenet" else 64
        scores = network.eval()(torch.rand(1, 3, side, side) * 255)
        network.last.bias -= scores.mean(dim=(0, 2, 3))
    if strategy == "hierarchical":
        network = SummedNetwork(network, torch.rand(3, 5))
    description = ModelDescription(
        network=config, strategy=strategy, dataset="beach", classes=NAMES,
        colours=((0, 0, 0),) * 3, outputs=outputs, hierarchy_digest=None,
    )  # fmt: skip
    return Model(network, description, pool=pool)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "kind", "strategy"),
    [
        ("lite", "onnx", "hierarchical"),
        ("lite", "torch-export", "hierarchical"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("smp:unet", "onnx", "baseline"),
                ("lite", "torch-export", "baseline"),
                *(
                    (f"smp:{decoder}", "onnx", "baseline")
                    for decoder in DECODERS
                    if decoder != "unet"
                ),
                ("smp:unet", "torch-export", "hierarchical"),
                ("smp:segformer", "torch-export", "hierarchical"),
            )
        ),
    ],
)
def test_a_file_for_any_size_labels_images_of_all_sizes_as_the_model(
    name, kind, strategy, tmp_path
):
    model, path = model_of(name, strategy), tmp_path / f"file{SUFFIXES[kind]}"
    export_model(model, path, kind)
    images = [noise_image(n, *size) for n, size in enumerate([(64, 96), (33, 40), (200, 35)])]
    same, total = share_alike(model, path, kind, images)
    assert total == 64 * 96 + 33 * 40 + 200 * 35
    assert same >= 0.9999 * total
    assert len(np.unique(model.predict(images[0]).label_map)) > 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "rule", "size"),
    [
        pytest.param("onnx", "best_subclass", None, marks=pytest.mark.slow),
        pytest.param("onnx", "summed_probabilities", (48, 64), marks=pytest.mark.slow),
        ("torch-export", "summed_probabilities", None),
    ],
)
def test_a_file_has_the_rule_for_class_scores_in_it(kind, rule, size, tmp_path):
    path, pool = tmp_path / f"file{SUFFIXES[kind]}", SubclassPool(rule, [0, 0, 1, 2, 2])
    export_model(model_of("lite", "hierarchical", pool), path, kind, size)
    image, model = noise_image(0, 48, 64), model_of("lite", "hierarchical", pool)
    same, total = share_alike(model, path, kind, [image], size)
    assert same >= 0.9999 * total
    by_w = model_of("lite", "hierarchical").predict(image).label_map
    assert (model.predict(image).label_map != by_w).any()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "size"),
    [("lite", (50, 70)), pytest.param("squeezenet", (16, 24), marks=pytest.mark.slow)],
)
def test_a_file_for_one_size_labels_such_images_as_the_model(kind, name, size, tmp_path):
    path = tmp_path / f"file{SUFFIXES[kind]}"
    export_model(model_of(name), path, kind, size)
    images = [noise_image(seed, *size) for seed in range(3)]
    model = model_of(name)
    same, total = share_alike(model, path, kind, images, size)
    assert total == 3 * size[0] * size[1]
    assert same >= 0.9999 * total


@pytest.mark.thorough
def test_another_model_is_seen_to_be_another(tmp_path):
    model, path = model_of("lite"), tmp_path / "file.pt2"
    export_model(model, path, "torch-export")
    with torch.no_grad():
        model.network.last.weight.neg_()
    same, total = share_alike(model, path, "torch-export", [noise_image(0, 64, 64)])
    assert same < 0.9 * total


@pytest.mark.thorough
def test_onnx_is_valid_and_says_what_goes_in_and_comes_out_and_nothing_is_printed(tmp_path, capfd):
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_model(model_of("lite"), path, "onnx")
    assert capfd.readouterr() == ("", "")
    onnx.checker.check_model(str(path), full_check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(path))
    (image,), (scores,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape[:2], image.type) == ("image", [1, 3], "tensor(float)")
    assert (scores.name, scores.shape[:2]) == ("scores", [1, 3])
    assert json.loads(session.get_modelmeta().custom_metadata_map[CLASSES]) == list(NAMES)


@pytest.mark.thorough
def test_a_program_of_torch_brings_the_classes(tmp_path):
    export_model(model_of("lite"), tmp_path / "model.pt2", "torch-export")
    found = {CLASSES: ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=found)
    assert json.loads(found[CLASSES]) == list(NAMES)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_says_to_what_size_images_are_to_be_resized(kind, tmp_path):
    model, path = model_of("lite"), tmp_path / f"model{SUFFIXES[kind]}"
    model.description = dataclasses.replace(model.description, long_side=96)
    export_model(model, path, kind, (64, 96))
    if kind == "onnx":
        found = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    else:
        found = {CLASSES: "", LONG_SIDE: ""}
        torch.export.load(path, extra_files=found)
    assert json.loads(found[CLASSES]) == list(NAMES)
    assert int(found[LONG_SIDE]) == 96


def test_a_patch_network_needs_a_size(tmp_path):
    with pytest.raises(ValueError, match="one size"):
        export_model(model_of("squeezenet"), tmp_path / "file.onnx", "onnx")
    assert not list(tmp_path.iterdir())
