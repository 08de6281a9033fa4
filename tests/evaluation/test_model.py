"""The model folder: what is written is what is read, and what does not fit is refused."""

import contextlib
import dataclasses
import errno
import json
import pickle
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lhs
from lhs.config import NetworkConfig
from lhs.context.samples import centre_pixels
from lhs.errors import UserError
from lhs.evaluation import model as model_module
from lhs.evaluation.description import LARGEST_DESCRIPTION, ModelDescription
from lhs.evaluation.model import Model, load_model, save_model
from lhs.evaluation.prediction import enlarged
from lhs.evaluation.scoring import PixelScores, SummedNetwork, inference_network
from lhs.networks.build import build_network
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.networks.squeezenet import squeezenet

CLASSES = ("sky", "sea", "sand")
PARENTS = np.array([0, 0, 1, 2, 2])
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


def matrix() -> torch.Tensor:
    return torch.tensor(PARENTS[None, :] == np.arange(3)[:, None]).float()


def described(strategy: str, outputs: int, classes=CLASSES) -> ModelDescription:
    return ModelDescription(
        network=NetworkConfig(channels=8, weights="none"),
        strategy=strategy,
        dataset="beach",
        classes=classes,
        colours=tuple((n % 256, 100, 255 - n % 256) for n in range(len(classes))),
        outputs=outputs,
        hierarchy_digest="ab12" if strategy != "baseline" else None,
    )


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(small, np.ones((8, 8, 1))).astype(np.uint8)[:height, :width]


def decided(network: EncoderNetwork) -> EncoderNetwork:
    """Batch statistics of real batches and scores around 0: every image gets several classes."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    images = np.stack([picture(64, 96, seed) for seed in range(4)])
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.last.weight.normal_(0, 3)
        network.train()(tensor)
        network.last.bias -= network.eval()(tensor).mean(dim=(0, 2, 3))
    return network


@pytest.fixture(scope="module")
def models():
    """Strategy to (trained network, description)."""
    torch.manual_seed(0)
    plain = decided(EncoderNetwork(3, 8))
    summed = {}
    for learn_w, masked in (("dense", False), ("masked", True)):
        top = HierarchicalNetwork(decided(EncoderNetwork(5, 8)), matrix(), masked=masked)
        with torch.no_grad():
            top.w.add_(torch.randn(3, 5) * 0.3)
        summed[learn_w] = (top, described("hierarchical", 5))
    return {
        "baseline": (plain, described("baseline", 3)),
        "sequential": (plain, described("sequential", 3)),
        **summed,
    }


@pytest.fixture
def folder(models, tmp_path):
    save_model(tmp_path, *models["baseline"])
    return tmp_path


@pytest.fixture
def pyramid_folder(tmp_path):
    """Of a network whose scores rounding moves little: `mlp` normalises the maps of an encoder with
    random weights, which hardly vary, and so enlarges it."""
    torch.manual_seed(0)
    description = described("baseline", 3)
    pyramid = description.network.model_copy(update={"head": "pyramid"})
    network = decided(EncoderNetwork(3, 8, head="pyramid"))
    save_model(tmp_path, network, dataclasses.replace(description, network=pyramid))
    return tmp_path


@pytest.fixture
def summed_folder(models, tmp_path):
    save_model(tmp_path, *models["dense"])
    return tmp_path


# Round trip


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["baseline", "sequential", "dense", "masked"])
def test_what_is_read_predicts_what_was_written(models, tmp_path, kind):
    network, description = models[kind]
    save_model(tmp_path, network, description)
    written = Model(inference_network(network), description)
    read = load_model(tmp_path)
    assert read.description == description
    assert read.classes == CLASSES
    np.testing.assert_array_equal(read.colours, description.colours)
    image = picture(64, 96)
    one, other = written.predict(image), read.predict(image)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.label_map, other.label_map)
    assert len(np.unique(other.label_map)) > 1
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, DESCRIPTION}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_after_h_classes_are_scored_by_the_w_it_ended_with(models, tmp_path, kind):
    """Class probabilities written out: softmax(W p) with the learned W, masked where asked."""
    network, description = models[kind]
    save_model(tmp_path, network, description)
    image = picture(64, 64)
    got = load_model(tmp_path).predict(image).probabilities
    w = network.w.detach() * (matrix() if kind == "masked" else 1)
    assert ((w[matrix() == 0] == 0).all()) == (kind == "masked")
    with torch.inference_mode():
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        p = network.network.eval()(tensor)
        scores = torch.einsum("ln,bnyx->blyx", w, p)
        scores = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear")
    np.testing.assert_allclose(got, scores[0].softmax(0).numpy(), atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (32, 32), (64, 31), (2, 100), (97, 1)])
def test_any_size_keeps_its_size(folder, size):
    got = load_model(folder).predict(picture(*size))
    assert got.label_map.shape == size
    assert got.label_map.dtype == np.uint8
    assert got.probabilities.shape == (3, *size)
    assert got.probabilities.dtype == np.float32
    np.testing.assert_allclose(got.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(got.label_map, got.probabilities.argmax(axis=0))
    assert got.classes == CLASSES
    assert got.colours.shape == (3, 3)


def test_below_and_right_of_an_image_stands_its_mean_colour(folder):
    model = load_model(folder)
    image = picture(40, 50)
    whole = np.empty((64, 64, 3))
    whole[:] = image.mean(axis=(0, 1))
    whole[:40, :50] = image
    with torch.inference_mode():
        scores = model.network(torch.from_numpy(whole).permute(2, 0, 1)[None].float())
        scores = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear")
    expected = scores[0, :, :40, :50].softmax(dim=0).numpy()
    np.testing.assert_allclose(model.predict(image).probabilities, expected, atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "encoder"), [("unet", None), ("segformer", None), ("deeplabv3plus", "resnet18")]
)
def test_a_network_of_smp_is_read_as_it_was_written(tmp_path, name, encoder):
    torch.manual_seed(0)
    config = NetworkConfig(name=f"smp:{name}", encoder=encoder, weights="none")
    network = decided(build_network(config, 3))
    description = dataclasses.replace(described("baseline", 3), network=config)
    save_model(tmp_path, network, description)
    read = load_model(tmp_path)
    assert read.description == description
    for size in ((64, 96), (33, 50), (1, 1)):
        expected = Model(network, description).predict(picture(*size))
        got = read.predict(picture(*size))
        assert got.label_map.shape == size
        np.testing.assert_array_equal(got.probabilities, expected.probabilities)
    tree = json.loads((tmp_path / DESCRIPTION).read_text())
    tree["network"]["encoder"] = "mobilenetv3_small_050"
    (tmp_path / DESCRIPTION).write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"does not fit model\.json"):
        load_model(tmp_path)


def test_weights_that_are_missing_or_may_not_be_read(tmp_path, monkeypatch):
    save_model(tmp_path, decided(EncoderNetwork(3, 8)), described("baseline", 3))
    weights = tmp_path / WEIGHTS
    opened = Path.open

    def closed(path, *arguments, **named):
        if path == weights:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", closed)
        with pytest.raises(UserError) as caught:
            load_model(tmp_path)
    assert str(caught.value) == f"{weights}: Permission denied"
    weights.unlink()
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == f"{weights}: No such file or directory"


def test_a_model_that_is_no_folder(tmp_path):
    place = tmp_path / "none"
    for told in ("no such folder", "found a file"):
        with pytest.raises(UserError, match=f"^{place}: {told}; needed is a model folder or runs:"):
            load_model(place)
        place.touch()


@pytest.mark.thorough
def test_above_255_classes_ids_have_two_bytes(tmp_path):
    classes = tuple(f"c{n}" for n in range(300))
    torch.manual_seed(0)
    save_model(tmp_path, decided(EncoderNetwork(300, 8)), described("baseline", 300, classes))
    got = load_model(tmp_path).predict(picture(40, 40))
    assert got.label_map.dtype == np.uint16
    np.testing.assert_array_equal(got.label_map, got.probabilities.argmax(axis=0))


def test_an_image_may_be_a_file(folder, tmp_path):
    image = picture(40, 56)
    Image.fromarray(image).save(tmp_path / "scene.png")
    model = load_model(folder)
    expected = model.predict(image).probabilities
    for path in (tmp_path / "scene.png", str(tmp_path / "scene.png")):
        np.testing.assert_array_equal(model.predict(path).probabilities, expected)


def test_an_image_may_be_a_view(folder):
    image = picture(64, 80)
    model = load_model(folder)
    expected = model.predict(np.ascontiguousarray(image[::-1, ::2])).probabilities
    np.testing.assert_array_equal(model.predict(image[::-1, ::2]).probabilities, expected)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_refused(folder, image):
    with pytest.raises(UserError, match=r"allowed is \(H, W, 3\) uint8"):
        load_model(folder).predict(image)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_an_image_without_pixels_is_refused(folder, shape):
    with pytest.raises(UserError):
        load_model(folder).predict(np.zeros(shape, np.uint8))


@pytest.mark.thorough
def test_lhs_load_opens_a_folder(folder):
    image = picture(40, 40)
    expected = load_model(folder).predict(image)
    np.testing.assert_array_equal(
        lhs.load(str(folder)).predict(image).label_map, expected.label_map
    )


# Folders that do not fit


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder)
    return str(caught.value)


def change(folder: Path, **changes) -> None:
    tree = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    (folder / DESCRIPTION).write_text(json.dumps(tree | changes), encoding="utf-8")


def test_a_folder_that_is_no_model(tmp_path):
    message = refused(tmp_path)
    assert str(tmp_path) in message
    assert DESCRIPTION in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\x00", b'{"schema": 1}', b'"text"']
)
def test_a_corrupted_description_is_named(folder, content):
    (folder / DESCRIPTION).write_bytes(content)
    assert str(folder / DESCRIPTION) in refused(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": None},
        {"schema": "1"},
        {"classes": []},
        {"classes": ["sky"]},
        {"classes": None},
        {"colours": [[1, 2], [3, 4], [5, 6]]},
        {"colours": [[1, 2, 3]] * 4},
        {"colours": [[1, 2, 300]] * 3},
        {"colours": [[1, 2, -1]] * 3},
        {"colours": [[1, 2, 0.5]] * 3},
        {"colours": [[1, 2, 3], [1, 2], [1]]},
        {"colours": [["a", "b", "c"]] * 3},
        {"colours": [[10**30, 2, 3]] * 3},
        {"outputs": 2},
        {"outputs": 10**9},
        {"outputs": 3.0},
        {"outputs": "3"},
        {"outputs": None},
        {"network": None},
        {"network": {"name": "vgg"}},
        {"network": {"channels": 10**9}},
        {"network": {"name": "lite", "depth": 3}},
    ],
    ids=str,
)
def test_a_description_that_says_what_cannot_be_is_named(folder, changes):
    change(folder, **changes)
    assert str(folder / DESCRIPTION) in refused(folder)


@pytest.mark.thorough
def test_a_model_that_names_no_head_has_a_pyramid(tmp_path):
    network = decided(EncoderNetwork(3, 8, head="pyramid"))
    description = dataclasses.replace(
        described("baseline", 3),
        network=NetworkConfig(channels=8, weights="none", head="pyramid"),
    )
    save_model(tmp_path, network, description)
    tree = json.loads((tmp_path / DESCRIPTION).read_text())
    del tree["network"]["head"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(tree))
    read = load_model(tmp_path)
    assert read.description == description
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(read.scores.whole.state_dict().get(name, tensor), tensor)


@pytest.mark.parametrize("changes", [{"strategy": "magic"}, {"strategy": None}], ids=str)
def test_an_unknown_strategy_is_named(folder, changes):
    change(folder, **changes)
    assert str(folder / DESCRIPTION) in refused(folder)


def test_subclass_scores_without_w_are_no_model(models, tmp_path):
    """Five scores for three classes and nothing that sums them: ids 3 and 4 have no name."""
    network = models["dense"][0].network
    save_model(tmp_path, network, described("sequential", 5))
    assert str(tmp_path / DESCRIPTION) in refused(tmp_path)


@pytest.mark.parametrize("key", ["schema", "network", "strategy", "classes", "colours", "outputs"])
def test_a_missing_key_is_named(folder, key):
    tree = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    del tree[key]
    (folder / DESCRIPTION).write_text(json.dumps(tree), encoding="utf-8")
    message = refused(folder)
    assert str(folder / DESCRIPTION) in message
    assert key in message


def test_missing_weights_are_named(folder):
    (folder / WEIGHTS).unlink()
    assert str(folder / WEIGHTS) in refused(folder)


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.5, 0.999])
def test_truncated_weights_are_named(folder, share):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(len(content) * share)])
    assert str(folder / WEIGHTS) in refused(folder)


def test_weights_of_another_network_are_named(folder, models):
    change(folder, outputs=5, strategy="hierarchical")
    assert str(folder / WEIGHTS) in refused(folder)


def test_weights_of_another_width_are_named(folder):
    change(folder, network={"name": "lite", "weights": "none", "head": "mlp", "channels": 16})
    message = refused(folder)
    assert str(folder / WEIGHTS) in message
    assert "has shape" in message


def test_what_a_description_asks_for_is_compared_before_it_is_made(folder):
    """15,000 classes of OverFeat would be 900 MB; the file holds `lite` for three."""
    many = 15_000
    for network, strategy, outputs in (
        ({"name": "overfeat", "weights": "none"}, "baseline", many),
        ({"name": "fcn32s", "weights": "none"}, "hierarchical", 65_535),
    ):
        change(
            folder, network=network, strategy=strategy, outputs=outputs,
            classes=[f"c{n}" for n in range(many)], colours=[[1, 2, 3]] * many,
        )  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert "is missing" in refused(folder)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_empty_weights_are_refused(folder):
    save_file({}, folder / WEIGHTS)
    assert "is missing" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b" " * (LARGEST_DESCRIPTION + 1), b"9" * 5000],
    ids=["lists", "mappings", "size", "digits"],
)
def test_a_description_is_read_within_bounds(folder, content):
    (folder / DESCRIPTION).write_bytes(content)
    message = refused(folder)
    assert str(folder / DESCRIPTION) in message
    assert len(message) < 2000


def test_class_names_are_whole_characters(folder):
    change(folder, classes=["\ud800", "b", "c"])
    assert "not a valid model description" in refused(folder)


@pytest.mark.parametrize("what", ["missing", "surplus", "shape"])
def test_tensors_that_do_not_fit_are_named(summed_folder, what):
    state = load_file(summed_folder / WEIGHTS)
    if what == "missing":
        del state["w"]
    elif what == "surplus":
        state["more"] = torch.zeros(2)
    else:
        state["w"] = torch.zeros(3, 4)
    save_file(state, summed_folder / WEIGHTS)
    message = refused(summed_folder)
    assert str(summed_folder / WEIGHTS) in message
    assert {"missing": '"w"', "surplus": '"more"', "shape": "w"}[what] in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(summed_folder, value):
    """The end of a training that diverged."""
    state = load_file(summed_folder / WEIGHTS)
    state["w"][1, 2] = value
    save_file(state, summed_folder / WEIGHTS)
    message = refused(summed_folder)
    assert f"{summed_folder / WEIGHTS}: w holds infinity or nan" in message
    assert "lower learning rate" in message


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("how", ["pickle", "torch"])
@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_pickle_is_refused_and_not_run(folder, how, name):
    trace = folder / "was-run"
    if how == "pickle":
        (folder / name).write_bytes(pickle.dumps(Trap(trace)))
    else:
        torch.save({"last.weight": Trap(trace)}, folder / name)
    assert str(folder / name) in refused(folder)
    assert not trace.exists()


@pytest.mark.thorough
def test_nothing_that_unpickles_is_called_on_the_way(folder, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    load_model(folder).predict(picture(32, 32))


# Several images


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 2, 8])
def test_images_of_one_size_are_labelled_as_each_alone(pyramid_folder, monkeypatch, size):
    """Also in batches, as on CUDA; with sides that have to be padded."""
    model = load_model(pyramid_folder)
    images = [picture(33, 65), picture(33, 65)[::-1].copy(), picture(33, 65)[:, ::-1].copy()]
    alone = [model.predict(image) for image in images]
    if size > 1:
        monkeypatch.setattr(model_module, "MOST_PIXELS", size * 33 * 65)
        monkeypatch.setattr(model, "device", SimpleNamespace(type="cuda"))
        monkeypatch.setattr(model_module, "arithmetic", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(
            model, "_tensor",
            lambda some: torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float(),
        )  # fmt: skip
    found, labels = model.predict_batch(images), model.label_batch(images)
    for one, other, ids in zip(alone, found, labels, strict=True):
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
        np.testing.assert_array_equal(ids.numpy(), other.label_map)
        assert other.image is one.image
        assert (other.label_map == one.label_map).mean() > 0.99


def test_images_of_several_sizes_are_refused(folder):
    with pytest.raises(UserError, match=r"found sizes .*\(32, 32, 3\), \(32, 40, 3\).*allowed"):
        load_model(folder).predict_batch([picture(32, 32), picture(32, 40)])


@pytest.mark.thorough
def test_bfloat16_labels_alike(pyramid_folder):
    image = picture(64, 96)
    exact = load_model(pyramid_folder)
    rough = load_model(pyramid_folder, precision="bfloat16")
    one, other = exact.predict(image), rough.predict(image)
    assert other.scores.dtype == np.float32
    assert not np.array_equal(other.scores, one.scores)
    assert (other.label_map == one.label_map).mean() > 0.9


@pytest.mark.thorough
def test_a_model_keeps_the_range_of_its_training_images(models, tmp_path):
    network, description = models["baseline"]
    values = np.random.default_rng(0).integers(0, 4096, (64, 96), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    grey = np.rint(values / 4095 * 255).astype(np.uint8)
    upright = np.rot90(np.repeat(grey[:, :, None], 3, axis=2), -1).copy()
    described_too = dataclasses.replace(description, image_range=(0.0, 4095.0))
    save_model(tmp_path, network, described_too)
    model = load_model(tmp_path)
    assert model.description == described_too
    found = model.predict(tmp_path / "a.png")
    np.testing.assert_array_equal(found.label_map, model.predict(upright).label_map)
    save_model(tmp_path, network, description)
    with pytest.raises(UserError, match=r"data\.folder\.range"):
        load_model(tmp_path).predict(tmp_path / "a.png")


@pytest.mark.parametrize("image_range", [[1, 1], [0], "text", [0, "x"], [0, 1, 2], 7])
def test_a_range_that_is_none_is_refused(models, tmp_path, image_range):
    save_model(tmp_path, *models["baseline"])
    tree = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(tree | {"image_range": image_range}))
    with pytest.raises(UserError, match="not a valid model description"):
        load_model(tmp_path)
    del tree["image_range"]  # as models of earlier versions
    (tmp_path / DESCRIPTION).write_text(json.dumps(tree))
    assert load_model(tmp_path).description.image_range is None


@pytest.fixture
def resizing(models, tmp_path):
    """A model that resizes images to 96 pixels, and the same one that does not."""
    network, description = models["baseline"]
    folders = [tmp_path / name for name in ("resizing", "plain")]
    for folder, long_side in zip(folders, (96, None), strict=True):
        folder.mkdir()
        save_model(folder, network, dataclasses.replace(description, long_side=long_side))
    return [load_model(folder) for folder in folders]


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) or (L, H, W), by torch."""
    tensor = torch.from_numpy(array).float().reshape(1, -1, *array.shape[-2:])
    found = torch.nn.functional.interpolate(tensor, size, mode="nearest-exact")
    return found.reshape(*array.shape[:-2], *size).numpy()


@pytest.mark.thorough
def test_a_large_image_is_resized_and_labelled_at_its_full_size(resizing):
    model, without = resizing
    assert (model.description.long_side, without.description.long_side) == (96, None)
    image = picture(129, 193, seed=2)
    small = np.array(Image.fromarray(image).resize((96, 64), Image.Resampling.BILINEAR))
    found, expected = model.predict(image), without.predict(small)
    assert found.label_map.dtype == np.uint8
    assert len(np.unique(found.label_map)) > 1
    np.testing.assert_array_equal(found.label_map, nearest(expected.label_map, (129, 193)))
    np.testing.assert_array_equal(found.scores, nearest(expected.scores, (129, 193)), strict=True)
    np.testing.assert_array_equal(found.scores.argmax(axis=0), found.label_map)
    assert found.probabilities.shape == (3, 129, 193)
    np.testing.assert_allclose(
        found.probabilities, nearest(expected.probabilities, (129, 193)), rtol=1e-5
    )
    assert (found.image == image).all()
    assert found.overlay.shape == image.shape
    (labels,) = model.label_batch([image])
    np.testing.assert_array_equal(labels.numpy(), found.label_map)


@pytest.mark.thorough
def test_an_image_that_is_small_enough_is_labelled_as_it_is(resizing):
    model, without = resizing
    image = picture(64, 96)
    np.testing.assert_array_equal(model.predict(image).scores, without.predict(image).scores)


def test_labels_of_two_bytes_are_enlarged():
    labels = torch.tensor([[0, 300], [40000, 65535]]).to(torch.uint16)
    found = enlarged(labels, (3, 4))
    assert found.dtype == torch.uint16
    expected = [[0, 0, 300, 300], [40000, 40000, 65535, 65535], [40000, 40000, 65535, 65535]]
    assert found.numpy().tolist() == expected


@pytest.mark.thorough
def test_patches_of_superpixels_are_cut_from_the_resized_image(resizing, monkeypatch):
    model, _ = resizing
    image = picture(128, 192)
    superpixels = np.repeat(np.repeat(np.arange(6).reshape(2, 3), 64, axis=0), 64, axis=1)
    seen = {}

    def at(pixels, places):
        seen["sides"], seen["places"] = pixels.shape[2:], places.tolist()
        return torch.eye(3)[torch.arange(6) % 3]

    monkeypatch.setattr(model.scores, "dense", object())
    monkeypatch.setattr(model.scores, "at", at)
    found = model.predict(image, superpixels)
    assert seen["sides"] == (64, 96)
    whole = np.stack(np.divmod(centre_pixels(superpixels), 192), 1)
    assert seen["places"] == ((whole + 0.5) / 2).astype(int).tolist()
    np.testing.assert_array_equal(found.label_map, superpixels % 3)
    assert found.scores.shape == (3, 128, 192)


@pytest.mark.parametrize("long_side", [0, -3, 1.5, True, "96", [96]])
def test_a_long_side_that_is_none_is_refused(folder, long_side):
    tree = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(tree | {"long_side": long_side}))
    with pytest.raises(UserError, match="not a valid model description"):
        load_model(folder)
    del tree["long_side"]  # as models of earlier versions
    (folder / DESCRIPTION).write_text(json.dumps(tree))
    assert load_model(folder).description.long_side is None


@pytest.mark.thorough
@pytest.mark.parametrize("patches", [False, True])
def test_class_scores_of_w_are_float32_at_bfloat16(patches):
    torch.manual_seed(0)
    network = squeezenet(len(PARENTS)) if patches else EncoderNetwork(len(PARENTS), 8)
    whole = SummedNetwork(network, matrix())
    description = described("hierarchical", len(PARENTS))
    model = Model(whole, description, stride=8 if patches else 1, precision="bfloat16")
    [prediction] = model.predict_batch([picture(40, 48)])
    found = prediction.known.scores
    assert found.dtype == torch.float32
    assert prediction.scores.shape == (3, 40, 48)
    assert not torch.equal(found, found.bfloat16().float())


@pytest.mark.thorough
def test_a_gpu_that_is_out_of_memory_gets_fewer_images_at_a_time(monkeypatch):
    model = Model(EncoderNetwork(3, 8), described("baseline", 3))
    images = [picture(32, 32, seed) for seed in range(5)]
    expected = model.label_batch(images)
    # There is no card here: on its side are the size of a batch and the error alone.
    model.device = torch.device("cuda")
    monkeypatch.setattr(model_module, "arithmetic", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        Model, "_tensor",
        lambda self, some: torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float(),
    )  # fmt: skip
    whole, tried, most = PixelScores.grids, [], 2

    def grids(self, tensor):
        tried.append(len(tensor))
        if len(tensor) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, tensor)

    monkeypatch.setattr(PixelScores, "grids", grids)
    found = model.label_batch(images)
    assert tried == [5, 3, 2, 2, 1]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        model.label_batch(images[:1])
