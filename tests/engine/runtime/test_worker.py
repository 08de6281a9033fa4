"""What a training worker makes of its job: settings reach loop, data and validation. No Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lhs.config import Config
from lhs.engine.runtime import worker
from lhs.engine.runtime.worker import TrainingJob
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.model import load_model
from lhs.loading import build_config
from lhs.networks.build import build_network
from lhs.training.crops import CropSource
from lhs.training.patches import PatchSource
from lhs.training.phases import phases
from lhs.training.variants import VariantSource


class Reached(Exception):
    """Where a test's training ends."""


def job_of(config: Config, **more: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "config": config, "precision": "bfloat16", "scenes": (), "classes": ("sky", "sea"),
        "colours": ((0, 0, 0), (1, 1, 1)), "class_pixels": (4, 1), "void": 255, "dataset": "d",
        "hierarchy": None, "sample_index": None, "start": None, "held_out": (), "target": "t",
        "resume": "r", "tracker": None,
    }  # fmt: skip
    return TrainingJob(**settings | more)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `train` and `Validation` are called with; nothing is trained."""
    calls: dict[str, Any] = {}
    alone = {"get_world_rank": 0, "get_world_size": 1, "get_local_world_size": 1}
    context = SimpleNamespace(**{name: lambda value=value: value for name, value in alone.items()})
    ray_train = SimpleNamespace(get_context=lambda: context, report=calls.setdefault)
    monkeypatch.setattr(worker, "ray_train", ray_train)
    monkeypatch.setattr(worker.gc, "freeze", lambda: None)
    monkeypatch.setattr(worker.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(worker, "_load_initial_weights", lambda *_: ("", None))

    def train(network: Any, config: Any, **named: Any) -> None:
        calls.update(named, network=network, config=config)
        raise Reached

    def validation(*given: Any) -> Any:
        calls["validation"] = given
        return lambda model, subclasses: {"per_pixel": 1.0}

    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "Validation", validation)
    return calls


def run(tmp_path: Path, job: TrainingJob) -> None:
    progress: Any = SimpleNamespace(log=lambda text: None)
    with pytest.raises(Reached):
        worker._train(job, Storage(str(tmp_path)), progress)


def config_of(network: str = "lite", **train: Any) -> Config:
    tree = {"weights": "none"} if network != "lite" else {"channels": 8, "weights": "imagenet"}
    return build_config(
        {
            "network": {"name": network, **tree},
            "train": {"gpu": False, **train},
            "evaluation": {"stride": 4} if network == "squeezenet" else {},
            "data": {"held_out": 3} if "validate_every" in train else {},
        }
    )


@pytest.mark.thorough
def test_the_job_s_precision_and_the_classes_weights(asked: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(class_weights=[1.0, 3.0], alpha=0.5, seed=4)
    run(tmp_path, job_of(config))
    assert asked["precision"] == "bfloat16"
    assert asked["class_weights"].tolist() == [1.0, 3.0]
    assert (asked["classes"], asked["void"], asked["matrix"]) == (2, 255, None)
    assert asked["config"] is config.train
    assert (asked["pretrained"], asked["trained"]) == (True, False)


@pytest.mark.thorough
def test_a_network_that_starts_from_a_coarser_one_is_trained_already(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    """Its last layer is kept, and all of its layers count as pretrained."""
    run(tmp_path, job_of(config_of("squeezenet"), start="coarser"))
    assert (asked["pretrained"], asked["trained"]) == (True, True)
    assert not phases(asked["config"], trained=asked["trained"])[0].fresh_last_layer
    run(tmp_path, job_of(config_of("squeezenet")))
    assert (asked["pretrained"], asked["trained"]) == (False, False)


@pytest.mark.thorough
def test_what_a_network_trains_on(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (CropSource, PatchSource, VariantSource):
        monkeypatch.setattr(
            worker, kind.__name__,
            lambda *given, kind=kind, **named: SimpleNamespace(kind=kind, given=given, **named),
        )  # fmt: skip
    monkeypatch.setattr(worker, "SampleIndexReader", lambda storage, path: path)
    for network, settings, kind in (
        ("lite", {}, CropSource),
        ("lite", {"examples": "variants"}, VariantSource),
        ("squeezenet", {"sampling": "balanced"}, PatchSource),
    ):
        config = config_of(network, **settings)
        index = "index" if network == "squeezenet" else None
        run(tmp_path, job_of(config, sample_index=index))
        assert asked["data"].kind is kind
        assert asked["data"].train is config.train
        assert (asked["data"].rank, asked["data"].world_size) == (0, 1)
        if kind is VariantSource:
            assert asked["data"].given[1] is config.context
        if kind is PatchSource:
            assert asked["data"].given[1:3] == ("index/rows", config.context.seed)


@pytest.mark.thorough
def test_validation_scores_as_the_evaluation_will(asked: dict[str, Any], tmp_path: Path) -> None:
    held_out: Any = ("one", "two", "three")
    run(tmp_path, job_of(config_of("squeezenet", validate_every=2), held_out=held_out))
    assert asked["validation"] == (held_out, 2, 255, None, 4, "w", "float32")
    run(tmp_path, job_of(config_of("squeezenet")))
    assert asked["on_epoch"](2, None, None) is None


@pytest.mark.thorough
def test_a_validation_that_is_out_of_memory_says_what_to_change(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would try the whole training again for any other error."""

    def validation(*given: Any) -> Any:
        def fail(model: Any, subclasses: bool) -> None:
            raise worker.torch.OutOfMemoryError("CUDA out of memory.")

        return fail

    monkeypatch.setattr(worker, "Validation", validation)
    run(tmp_path, job_of(config_of("squeezenet", validate_every=1)))
    phase = SimpleNamespace(target="class")
    with pytest.raises(UserError, match=r"out of memory after epoch 1.*data\.long_side.*CUDA out"):
        asked["on_epoch"](1, phase, None)


@pytest.mark.thorough
@pytest.mark.parametrize(("dataset", "kept"), [("folder", (0.0, 4095.0)), ("synthetic", None)])
def test_the_range_of_a_folder_s_images_travels_in_the_model(
    tmp_path: Path, dataset: str, kept: tuple[float, float] | None
) -> None:
    config = build_config(
        {
            "data": {"dataset": dataset, "folder": {"range": [0, 4095]}},
            "network": {"channels": 8, "weights": "none"},
            "train": {"strategy": "baseline"},
        }
    )
    network = build_network(config.network, 2)
    history = [{"loss": 1.0, "waited": 0.0, "seconds": 1.0}]
    job = job_of(config, target=str(tmp_path / "made"))
    worker._save_model(Storage(str(tmp_path)), job, network, network, history, None, None)
    assert load_model(tmp_path / "made" / "model").description.image_range == kept
