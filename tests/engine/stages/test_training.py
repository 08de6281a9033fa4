"""Ray Train: the result does not depend on the number of workers."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lhs.engine import pipeline
from lhs.engine.cache import Stages
from lhs.engine.graph import MODEL, annotated_scenes
from lhs.engine.stages.training import baseline_of, network_weights, training_settings
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.model import load_model
from tests.data.builders import plain
from tests.engine.conftest import pretend, tiny, training_here


def losses(storage: Path, workers: int) -> list[float]:
    """The loss of every step, by SGD: AdamW amplifies rounding errors in its first steps."""
    phase = {"steps": 3, "learning_rate": 0.0001}
    config = tiny(
        storage,
        data__synthetic={"train": 6, "test": 1, "height": 64, "width": 80},
        network={"name": "squeezenet", "weights": "none"},
        evaluation__stride=8,
        train__strategy="baseline",
        train__baseline={"new_layers": phase, "all_layers": phase},
        train__workers=workers,
        train__optimizer="sgd",
        train__schedule="steps",
        report__baseline="none",
        report__scenes=0,
    )
    (outcome,) = pipeline.run(config, f"{workers} workers")
    return pd.read_parquet(f"{outcome.model.path}/history.parquet")["loss"].tolist()


@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_give_the_losses_of_one(cluster: None, tmp_path: Path) -> None:
    """Of a network without batch norm, with its dropout."""
    with training_here():
        alone = losses(tmp_path, 1)
    together = losses(tmp_path, 2)
    assert len(alone) == 6
    assert together == pytest.approx(alone, rel=0, abs=1e-5)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["sequential", "hierarchical"])
def test_a_network_of_smp_trains_and_is_scored(
    prepared: SimpleNamespace, trained_here: None, strategy: str
) -> None:
    config = tiny(
        prepared.config.storage,
        network={"name": "smp:unet"},
        train__strategy=strategy,
        train__max_steps=2,
        report__baseline="none",
    )
    (outcome,) = pipeline.run(config, strategy)
    history = pd.read_parquet(f"{outcome.model.path}/history.parquet")
    assert np.isfinite(history["loss"]).all()
    assert len(history) == 2 * history["phase"].nunique()
    model = load_model(Path(outcome.model.path) / "model")
    assert model.description.network.label == "smp:unet on tf_efficientnet_lite0"
    assert model.predict(np.zeros((50, 70, 3), np.uint8)).label_map.shape == (50, 70)


def test_the_key_holds_the_precision_that_was_settled(tmp_path: Path) -> None:
    def settings(**more: object) -> dict[str, object]:
        return training_settings(tiny(tmp_path, train__gpu=False, **more))

    auto = settings()
    assert auto["precision"] == "float32"
    assert auto == settings(train__precision="float32") == settings(train__gpu_share=0.5)
    for other in (
        {"train__precision": "bfloat16"}, {"train__compile": True}, {"train__workers": 2},
    ):  # fmt: skip
        assert settings(**other) != auto
    config = tiny(tmp_path, train__gpu=False, train__precision="bfloat16")
    assert training_settings(baseline_of(config))["precision"] == "bfloat16"
    with pytest.raises(UserError, match=r"train\.precision = tf32"):
        settings(train__precision="tf32")


@pytest.mark.ray
@pytest.mark.faults
def test_an_image_that_one_of_two_workers_can_not_read_is_reported(
    cluster: None, tmp_path: Path
) -> None:
    """Whichever it is: the other waits for gradients, fails, and would be tried again."""
    root = plain(tmp_path / "spoiled", [f"a_{n}" for n in range(9)], splits={"test": ["a_8"]})
    config = tiny(
        tmp_path / "storage",
        data={"dataset": "folder", "folder": {"path": str(root)}},
        train__strategy="baseline",
        train__workers=2,
        report__baseline="none",
    )
    annotated_scenes(Stages(Storage(config.storage)), config)
    image = root / "images" / "a_3.png"
    content = image.read_bytes()
    image.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(UserError, match=r"a_3\.png"):
        pipeline.run(config, "spoiled")


def test_a_model_depends_on_what_the_weights_file_holds(tmp_path: Path) -> None:
    def slices(name: str) -> tuple[object, object]:
        network = {"weights": "file", "weights_file": str(tmp_path / name)}
        config = tiny(tmp_path, network=network, train__gpu=False)
        return training_settings(config), network_weights(config)

    with pytest.raises(UserError, match=r"weights_file = .*one: no such file"):
        slices("one")
    for name, content in (("one", b"a"), ("same", b"a"), ("two", b"b")):
        (tmp_path / name).write_bytes(content)
    before = slices("one")
    assert before == slices("same")
    assert before != slices("two")
    (tmp_path / "one").write_bytes(b"b")
    assert before != slices("one")


def test_a_model_that_an_earlier_version_ended_with_nan_is_made_again(
    checked_stages: Stages, tmp_path: Path
) -> None:
    config = tiny(tmp_path, train__strategy="baseline", train__gpu=False)
    pretend(checked_stages, MODEL, config, final_loss=math.nan)
    assert checked_stages.find(MODEL, config) is None
    other = tiny(tmp_path, train__strategy="baseline", train__gpu=False, train__seed=1)
    pretend(checked_stages, MODEL, other, final_loss=0.5)
    assert checked_stages.find(MODEL, other) is not None


@pytest.mark.ray
def test_a_diverged_training_leaves_no_model(cluster: None, tmp_path: Path) -> None:
    phase = {"steps": 6, "learning_rate": 1e12}
    config = tiny(
        tmp_path,
        train__strategy="baseline",
        train__baseline={"new_layers": {"steps": 2}, "all_layers": phase},
        train__optimizer="sgd",
        train__schedule="steps",
        train__checkpoint_steps=1,
        report__baseline="none",
        report__scenes=0,
    )
    with pytest.raises(UserError, match=r"lower train\.baseline\.all_layers\.learning_rate"):
        pipeline.run(config, "diverged")
    # Nor where it goes on from its last checkpoint.
    with (
        training_here(),
        pytest.raises(UserError, match=r"lower train\.baseline\.all_layers\.learning_rate"),
    ):
        pipeline.run(config, "diverged")
    models = tmp_path / "stages" / "model"
    assert [path.name[:12] for path in models.iterdir()] == [".unfinished-"]
    [state] = models.glob(".unfinished-*/state.pt")
    kept = torch.load(state, weights_only=True)["model"]
    assert all(tensor.isfinite().all() for tensor in kept.values())
