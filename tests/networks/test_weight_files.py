"""Weights from the user's files: loaded is what they have, in the right order and colour."""

import gc
import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file
from torch import nn

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.clarifai import clarifai, clarifai512
from lhs.networks.fcn import FCN
from lhs.networks.overfeat import overfeat
from lhs.networks.patch import BatchDropout, PatchNetwork
from lhs.networks.weight_files import overfeat_release, state_file, zfnet_onnx
from lhs.networks.weights import load_weights
from tests.networks.geometry import CAFFE_BGR, UNFILLED, sums, unfilled


def untaken(network: nn.Module) -> set[str]:
    return {name for name, t in network.state_dict().items() if (t == UNFILLED).all()}


def small(*extra: nn.Module) -> PatchNetwork:
    """Patches of 12 pixels."""
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(5, 6, 2), nn.ReLU(),
        nn.Conv2d(6, 8, 4), nn.ReLU(), BatchDropout(0.5), nn.Conv2d(8, 8, 1), nn.ReLU(), *extra,
    )  # fmt: skip
    return PatchNetwork(features, 8, 4, stride=2).eval()


# ZFNet, an ONNX file


def onnx_file(path: Path, nodes, tensors, shape=(1, 3, 12, 12)) -> Path:
    """Tensors in the order of their names, as Caffe2 exports them: biases before weights."""
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(tensors[name], name) for name in sorted(tensors)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return path


def small_onnx(path: Path, turned: bool = False) -> Path:
    """`small` as ONNX; turned: its first matrix lies as (in, out)."""
    rng = np.random.default_rng(5)
    shapes = {"conv1": (5, 3, 3, 3), "conv2": (6, 5, 2, 2), "fc3": (8, 96), "fc4": (8, 8),
              "fc5": (4, 8)}  # fmt: skip
    tensors = {"shape": np.array([0, -1], np.int64)}
    for name, shape in shapes.items():
        tensors[f"{name}_w"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        tensors[f"{name}_b"] = rng.normal(0, 1, shape[0])
    if turned:
        tensors["fc3_w"], tensors["fc4_w"] = tensors["fc3_w"].T, tensors["fc4_w"].T
    floats = {name: array.astype(np.float32) for name, array in tensors.items() if name != "shape"}
    node = helper.make_node
    nodes = [
        node("Conv", ["data", "conv1_w", "conv1_b"], ["a"], kernel_shape=[3, 3]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["c", "conv2_w", "conv2_b"], ["d"], kernel_shape=[2, 2]),
        node("Relu", ["d"], ["e"]),
        node("Reshape", ["e", "shape"], ["f"]),
        node("Gemm", ["f", "fc3_w", "fc3_b"], ["g"], transB=int(not turned)),
        node("Relu", ["g"], ["h"]),
        node("Gemm", ["h", "fc4_w", "fc4_b"], ["i"], transB=int(not turned)),
        node("Relu", ["i"], ["features"]),
        node("Gemm", ["features", "fc5_w", "fc5_b"], ["scores"], transB=1),
    ]
    return onnx_file(path, nodes, {**floats, "shape": tensors["shape"]})


@pytest.mark.parametrize("turned", [False, True])
def test_an_onnx_file_computes_the_same_as_onnxs_own_interpreter(tmp_path, turned):
    path, network = small_onnx(tmp_path / "zf.onnx", turned), small()
    taken = zfnet_onnx(network, path)
    assert set(taken) == {n for n in network.state_dict() if n.startswith("features.")}
    image = torch.rand(1, 3, 12, 12) * 255
    bgr = image.numpy()[:, ::-1] - CAFFE_BGR.reshape(1, 3, 1, 1)
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("features", TensorProto.FLOAT, (1, 8))
    )
    (expected,) = ReferenceEvaluator(model).run(None, {"data": bgr.astype(np.float32)})
    with torch.inference_mode():
        (found,) = network.forward_features(image)
    assert expected.any()
    torch.testing.assert_close(found.flatten(1), torch.from_numpy(expected), atol=1e-3, rtol=1e-4)


@pytest.fixture(scope="module")
def zfnet512(tmp_path_factory):
    """The layers and shapes of the public ZFNet-512; 340 MB."""
    widths = {"conv1": (96, 3, 7, 7), "conv2": (256, 96, 5, 5), "conv3": (512, 256, 3, 3),
              "conv4": (1024, 512, 3, 3), "conv5": (512, 1024, 3, 3), "fc6": (4096, 12800),
              "fc7": (4096, 4096), "fc8": (1000, 4096)}  # fmt: skip
    tensors, nodes, before = {}, [], "data"
    for number, (name, shape) in enumerate(widths.items()):
        row = np.linspace(-1, 1, int(np.prod(shape[1:])), dtype=np.float32)
        tensors[f"{name}_w"] = (row + np.arange(shape[0], dtype=np.float32)[:, None]).reshape(shape)
        tensors[f"{name}_b"] = np.full(shape[0], 100 + number, np.float32)
        inputs = [before, f"{name}_w", f"{name}_b"]
        before = name
        if len(shape) == 4:
            nodes.append(helper.make_node("Conv", inputs, [name]))
        else:
            nodes.append(helper.make_node("Gemm", inputs, [name], transB=1))
    path = tmp_path_factory.mktemp("zfnet") / "zfnet512.onnx"
    yield onnx_file(path, nodes, tensors, (1, 3, 224, 224)), tensors
    path.unlink()
    gc.collect()


def release(name: str, path: Path) -> NetworkConfig:
    return NetworkConfig(name=name, weights="release", weights_file=str(path))


@pytest.mark.thorough
def test_clarifai512_takes_every_layer_of_zfnet512(zfnet512):
    path, tensors = zfnet512
    network = unfilled(clarifai512, 2)
    taken = load_weights(network, release("clarifai512", path))
    assert len(taken) == 14
    assert untaken(network) == {"last.weight", "last.bias"}
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    for name, layer in zip(names, convolutions, strict=True):
        weight = torch.from_numpy(tensors[f"{name}_w"]).view_as(layer.weight)
        assert torch.equal(layer.weight, weight.flip(1) if name == "conv1" else weight), name
        assert torch.equal(layer.bias, torch.from_numpy(tensors[f"{name}_b"])), name
    np.testing.assert_allclose(network.normalise.mean.flatten(), CAFFE_BGR[::-1])
    assert (network.normalise.std == 1).all()


@pytest.mark.thorough
def test_clarifai_takes_the_three_layers_that_fit(zfnet512):
    path, tensors = zfnet512
    network = unfilled(clarifai, 2)
    taken = load_weights(network, release("clarifai", path))
    layers = {"features.0": "conv1", "features.4": "conv2", "features.18": "fc7"}
    assert set(taken) == {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    for name, theirs in layers.items():
        bias = network.state_dict()[f"{name}.bias"]
        assert torch.equal(bias, torch.from_numpy(tensors[f"{theirs}_b"]))
    others = {n for n in network.state_dict() if n not in taken and "normalise" not in n}
    assert untaken(network) == others


def test_an_onnx_file_of_another_network_is_refused(tmp_path):
    node = helper.make_node("Conv", ["data", "w"], ["out"])
    path = onnx_file(tmp_path / "other.onnx", [node], {"w": np.zeros((9, 3, 9, 9), np.float32)})
    network = small()
    before = sums(network)
    with pytest.raises(UserError, match=r"other\.onnx: none of its 1 .* shape of a layer"):
        zfnet_onnx(network, path)
    assert sums(network) == before


def test_a_convolution_without_a_bias_leaves_the_networks_own(tmp_path):
    node = helper.make_node("Conv", ["data", "w"], ["out"])
    path = onnx_file(tmp_path / "zf.onnx", [node], {"w": np.ones((5, 3, 3, 3), np.float32)})
    assert zfnet_onnx(small(), path) == ["features.0.weight"]


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff\x00 nothing of the kind")
    with pytest.raises(UserError, match=r"broken\.onnx: not readable as ONNX"):
        zfnet_onnx(small(), path)


# OverFeat, raw numbers


def overfeat_file(path: Path, network: PatchNetwork) -> tuple[Path, list[np.ndarray]]:
    """Weights, then biases, layer by layer, and a last layer of 1000 classes."""
    rng, parts = np.random.default_rng(2), []
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            parts += [rng.normal(size=tuple(layer.weight.shape)), rng.normal(size=len(layer.bias))]
    last = [rng.normal(size=(1000, network.last.in_channels)), rng.normal(size=1000)]
    path.write_bytes(b"".join(array.astype("<f4").tobytes() for array in (*parts, *last)))
    return path, parts


def test_overfeats_release_is_read_layer_by_layer(tmp_path):
    network = small()
    path, parts = overfeat_file(tmp_path / "net_weight_0", network)
    before = network.last.weight.detach().clone()
    taken = load_weights(network, release("overfeat", path))
    assert len(taken) == len(parts) == 8
    found = list(network.features.parameters())
    for tensor, array in zip(found, parts, strict=True):
        np.testing.assert_array_equal(tensor.detach(), array.astype(np.float32))
    assert torch.equal(network.last.weight, before)
    image = torch.full((1, 3, 1, 1), 118.380948 + 61.896913)
    torch.testing.assert_close(network.normalise(image), torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("change", [-4, 4, 2])
def test_a_release_of_another_length_is_refused(tmp_path, change):
    network = small()
    path, _ = overfeat_file(tmp_path / "net_weight_1", network)
    size = path.stat().st_size
    os.truncate(path, size + change)
    with pytest.raises(UserError, match=rf"net_weight_1: found \d+ .* expected {size // 4}:"):
        overfeat_release(network, path)


def test_the_release_has_the_146_million_numbers_of_the_fast_model(tmp_path):
    path = tmp_path / "net_weight_0"
    path.write_bytes(bytes(8))
    with torch.device("meta"):
        network = overfeat(33)
    with pytest.raises(UserError, match="found 2 float32 values, expected 145920872"):
        overfeat_release(network, path)


# The user's own files


def own(path: Path) -> NetworkConfig:
    return NetworkConfig(name="overfeat", weights="file", weights_file=str(path))


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def other_state() -> dict[str, torch.Tensor]:
    network = small()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(0.5)
    return network.state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_of_the_networks_own_names_fills_all_of_it(tmp_path, suffix):
    state, network = other_state(), small()
    assert set(load_weights(network, own(saved(tmp_path / f"w{suffix}", state)))) == set(state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_the_last_layer_may_be_missing_or_of_other_classes(tmp_path):
    state = other_state()
    lower = {name: tensor for name, tensor in state.items() if not name.startswith("last.")}
    many = {**lower, "last.weight": torch.zeros(9, 8, 1, 1), "last.bias": torch.zeros(9)}
    for name, given in (("lower", lower), ("many", many)):
        network = small()
        before = network.last.weight.detach().clone()
        taken = state_file(network, saved(tmp_path / f"{name}.safetensors", given))
        assert set(taken) == set(lower)
        assert torch.equal(network.last.weight, before)
        assert torch.equal(network.features[0].weight, state["features.0.weight"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("features.3.bias"), r"1 .* missing \(features\.3\.bias\), 0 are unknown"),
        (lambda s: s.pop("normalise.mean"), r"1 .* missing \(normalise\.mean\)"),
        (lambda s: s.update({"fc.w": torch.ones(1)}), r"0 .* missing \(\), 1 are unknown \(fc\.w"),
        (
            lambda s: s.update({"features.0.bias": torch.ones(6)}),
            r"features\.0\.bias has shape \(6,\), .* needs \(5,\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, suffix, change, message):
    state, network = dict(other_state()), small()
    change(state)
    before = sums(network)
    path = saved(tmp_path / f"mine{suffix}", state)
    with pytest.raises(UserError, match=rf"mine{suffix}: .*{message}"):
        state_file(network, path)
    assert sums(network) == before


def test_a_file_of_a_diverged_training_is_refused(tmp_path):
    state = other_state()
    state["features.3.bias"][0] = torch.nan
    path = saved(tmp_path / "mine.pt", state)
    with pytest.raises(UserError, match=r"mine\.pt: features\.3\.bias holds infinity or nan"):
        load_weights(small(), own(path))


class Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "evil.pt"
    for write in (torch.save, lambda state, to: to.write_bytes(pickle.dumps(state))):
        write({**other_state(), "extra": Code(ran)}, path)
        with pytest.raises(UserError, match=r"evil\.pt: not readable"):
            state_file(small(), path)
        assert not ran.exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    for state in ([torch.ones(2)], {"epoch": 3}):
        path = tmp_path / "list.pt"
        torch.save(state, path)
        with pytest.raises(UserError, match=r"list\.pt: allowed is a mapping"):
            state_file(small(), path)
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"broken\.safetensors: not readable"):
        state_file(small(), path)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("overfeat", "file"), ("overfeat", "release"), ("clarifai", "release")],
)
def test_a_file_that_is_not_there_is_named(tmp_path, name, weights):
    path = tmp_path / "no" / "such"
    config = NetworkConfig(name=name, weights=weights, weights_file=str(path))
    with pytest.raises(UserError, match=rf"network\.weights_file = {path}: no such file"):
        load_weights(small(), config)


def test_a_path_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "w.safetensors", other_state())
    assert load_weights(small(), own(Path("~/w.safetensors")))


def test_no_weights_are_taken_where_none_are_asked_for():
    network = small()
    before = sums(network)
    assert load_weights(network, NetworkConfig(name="overfeat", weights="none")) == []
    assert sums(network) == before


@pytest.mark.thorough
def test_of_an_fcn_all_but_the_scores_and_their_upsampling_must_be_there(tmp_path):
    with torch.device("meta"):
        network = FCN("fcn8s", 2)
    path = saved(tmp_path / "fcn.safetensors", {"score.weight": torch.zeros(2, 4096, 1, 1)})
    # 13 + 2 convolutions and the normalisation.
    with pytest.raises(UserError, match=r"fcn\.safetensors: 32 of the network's tensors"):
        state_file(network, path)
