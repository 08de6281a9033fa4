"""The counts that an evaluation stores of each image, and test splits that can't be scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene
from lhs.engine.stage import StageResult
from lhs.engine.stages import evaluation
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import (
    COUNTS,
    IMAGE_COUNTS,
    build_evaluation,
    counts_in,
    evaluate_folder,
    predictions_in,
    read_image_counts,
    sparse_counts,
    total_counts,
)
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.metrics import confusion_counts
from lhs.loading import build_config
from tests.data.builders import CLASSES, noise_image, plain, save_image, save_labels, stripes


def stored(folder: Path) -> np.ndarray:
    """Three images' counts of four classes in a stage's folder; the second has no label."""
    counts = np.random.default_rng(0).integers(0, 3, (3, 4, 4))
    counts[1] = 0
    table = pa.table({"image": ["a", "b", "c"], "counts": counts.reshape(3, -1).tolist()})
    # In pieces, as blocks of Ray Data come.
    table = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    np.testing.assert_array_equal(total_counts(table, 4), counts.sum(axis=0))
    pq.write_table(sparse_counts(table, 4), folder / IMAGE_COUNTS)
    pq.write_table(table.select(["image"]), folder / "predictions.parquet")
    return counts


def test_counts_of_each_image_come_back(tmp_path: Path) -> None:
    counts = stored(tmp_path)
    rows = pq.read_table(tmp_path / IMAGE_COUNTS)
    assert rows.column_names == ["image", "truth", "predicted", "pixels"]
    assert rows.num_rows == np.count_nonzero(counts)
    images, found = read_image_counts(Storage(str(tmp_path)), str(tmp_path), 4)
    assert images == ["a", "b", "c"]
    np.testing.assert_array_equal(found, counts)


def test_an_evaluation_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made by an earlier version, without counts of each image"):
        read_image_counts(Storage(str(tmp_path)), str(tmp_path), 4)


def test_damaged_files_of_an_evaluation_are_named(tmp_path: Path) -> None:
    stored(tmp_path)
    np.save(tmp_path / COUNTS, np.eye(4))
    storage, folder = Storage(str(tmp_path)), str(tmp_path)
    calls = {
        COUNTS: lambda: counts_in(storage, folder),
        IMAGE_COUNTS: lambda: read_image_counts(storage, folder, 4),
        "predictions.parquet": lambda: predictions_in(storage, folder),
    }
    for name, call in calls.items():
        for size in (50, 0):
            os.truncate(tmp_path / name, size)
            with pytest.raises(UserError, match=rf"{name}: damaged \(.*folder {folder}: "):
                call()


def predicts_the_first_class(
    model: object, dataset: Dataset, scenes: Sequence[Scene], gpu: bool, **more: Any
) -> pa.Table:
    """The steps of `predict_scenes` in this process, with a model that says class 0 everywhere."""
    job, rows = evaluation._ScoreJob(None, dataset.void, **more), []  # type: ignore[arg-type]
    for scene in scenes:
        try:
            truth = job.read(scene)["truth"]
        except UserError as error:
            if not job.accepts(error):
                raise
            rows.append(job.write_failed(scene, str(error)))
            continue
        labels = np.zeros_like(truth)
        counts = confusion_counts(labels, truth, len(dataset.classes), dataset.void)
        rows.append(job.write(scene, {"labels": labels, "counts": counts}))
    return pa.Table.from_pylist(rows, schema=job.schema)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for a model's."""
    described = SimpleNamespace(dataset="plain", image_range=None, long_side=None)
    opened = SimpleNamespace(classes=CLASSES, description=described)
    monkeypatch.setattr("lhs.evaluation.model.load_model", lambda *_, **__: opened)
    monkeypatch.setattr(evaluation, "stored_model", lambda *_: None)
    monkeypatch.setattr(evaluation, "predict_scenes", predicts_the_first_class)
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def data(root: Path, **more: object) -> DataConfig:
    return build_config({"data": {"dataset": "folder", "folder": {"path": str(root)}, **more}}).data


def test_a_test_split_without_labels_is_an_error(tmp_path: Path, model: Path) -> None:
    root = plain(tmp_path / "void", splits={"test": ["town_1", "town_2"]})
    for name in ("town_1", "town_2"):
        save_labels(root, name, np.full((12, 16), 255))
    with pytest.raises(UserError, match="no pixel of the 2 test images carries a label"):
        evaluate_folder(model, data(root), gpu=False)


def test_bad_test_images_are_left_out_where_the_setting_says_so(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = plain(tmp_path / "bad", splits={"test": ["beach_1", "town_1", "town_2"]})
    (root / "images" / "town_1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"town_1\.png: unreadable image"):
        evaluate_folder(model, data(root), gpu=False)
    found = evaluate_folder(model, data(root, on_bad_image="skip"), gpu=False)
    # Two images of 4 rows of 16 pixels a class.
    assert found.counts.tolist() == [[128, 0, 0]] * 3
    assert "bad: 1 bad images:" in caplog.text
    assert "town_1.png" in caplog.text
    for name in ("beach_1", "town_2"):
        (root / "images" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="the test split holds no readable image"):
        evaluate_folder(model, data(root, on_bad_image="skip"), gpu=False)


def test_images_are_read_in_the_range_that_the_model_was_trained_with(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plain(tmp_path / "deep", splits={"test": ["town_1", "town_2"]})
    values = np.random.default_rng(0).integers(0, 4096, (12, 16), dtype=np.uint16)
    Image.fromarray(values).save(root / "images" / "town_1.png")
    with pytest.raises(UserError, match=r"data\.folder\.range"):
        evaluate_folder(model, data(root), gpu=False)
    described = SimpleNamespace(dataset="plain", image_range=(0.0, 4095.0), long_side=None)
    opened = SimpleNamespace(classes=CLASSES, description=described)
    monkeypatch.setattr("lhs.evaluation.model.load_model", lambda *_, **__: opened)
    assert evaluate_folder(model, data(root), gpu=False).counts.sum() == 2 * 12 * 16
    other = {"path": str(root), "range": [0, 9]}
    with pytest.raises(UserError, match=r"outside data\.folder\.range = 0 to 9"):
        evaluate_folder(model, data(root, folder=other), gpu=False)


def test_images_are_resized_as_the_model_was_trained_and_scored_at_full_size(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "cache"))
    root = plain(tmp_path / "large", splits={"test": ["town_1", "town_2"]})
    save_image(root / "images/town_1.png", noise_image(0, 48, 64))
    save_labels(root, "town_1", stripes(3, 48, 64))
    described = SimpleNamespace(dataset="plain", image_range=None, long_side=32)
    opened = SimpleNamespace(classes=CLASSES, description=described)
    monkeypatch.setattr("lhs.evaluation.model.load_model", lambda *_, **__: opened)
    for more in ({}, {"long_side": 32}):
        found = evaluate_folder(model, data(root, **more), gpu=False)
        assert found.counts.tolist() == [[16 * 64 + 64, 0, 0]] * 3
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1
    with pytest.raises(UserError, match=r"data\.long_side = 64: .* trained with 32, which holds"):
        evaluate_folder(model, data(root, long_side=64), gpu=False)


def test_a_job_counts_enlarged_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "cache"))
    root = plain(tmp_path / "large", splits={"test": ["town_1"]})
    save_image(root / "images/town_1.png", noise_image(0, 48, 64))
    save_labels(root, "town_1", stripes(3, 48, 64))
    (scene,) = open_dataset(data(root, long_side=32)).split("test")
    job = evaluation._ScoreJob(None, 255, False)  # type: ignore[arg-type]
    arrays = job.read(scene)
    assert arrays["image"].shape == (24, 32, 3)
    predicted = torch.from_numpy((np.arange(24 * 32) % 3).reshape(24, 32).astype(np.uint8))
    fake = SimpleNamespace(
        device="cpu", classes=CLASSES, label_batch=lambda images: [predicted for _ in images]
    )
    (found,) = job.compute(fake, [arrays])  # type: ignore[arg-type]
    labels = np.repeat(np.repeat(predicted.numpy(), 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(found["labels"], labels)
    expected = confusion_counts(labels, stripes(3, 48, 64), 3, 255)
    np.testing.assert_array_equal(found["counts"], expected)


def test_labels_that_do_not_fit_the_classes_are_never_left_out(tmp_path: Path, model: Path) -> None:
    root = plain(tmp_path / "wrong", splits={"test": ["town_1", "town_2"]})
    save_labels(root, "town_1", stripes() + 5)
    with pytest.raises(UserError, match=r"town_1\.png: label id 5, 6, 7 out of range"):
        evaluate_folder(model, data(root, on_bad_image="skip"), gpu=False)


@pytest.mark.parametrize(
    ("network", "stride", "expected"), [("squeezenet", 4, 4), ("squeezenet", 1, 1), ("lite", 1, 1)]
)
def test_a_model_is_scored_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, stride: int, expected: int
) -> None:
    root = plain(tmp_path / "set", splits={"test": ["town_1", "town_2"]})
    config = build_config(
        {
            "data": {"dataset": "folder", "folder": {"path": str(root)}},
            "network": {"name": network, "weights": "none"},
            "train": {"gpu": False, "strategy": "hierarchical"},
            "evaluation": {
                "stride": stride, "precision": "bfloat16", "class_scores": "best_subclass",
            },
        }
    )  # fmt: skip
    asked: list[Any] = []

    def score(model: Any, dataset: Dataset, scenes: Sequence[Scene], *more: Any) -> pa.Table:
        asked.extend([model, more])
        return predicts_the_first_class(None, dataset, scenes, False, skip=False)

    monkeypatch.setattr(evaluation, "stored_model", lambda *given: given)
    monkeypatch.setattr(evaluation, "model_files", lambda storage, path: path)
    monkeypatch.setattr(evaluation, "predict_scenes", score)
    dataset = open_dataset(config.data)
    scenes = CheckedScenes(dataset, "", np.ones(3), {})
    made = StageResult("model", "key", str(tmp_path / "made"), {}, 1.0, True)
    work: Any = SimpleNamespace(
        config=config, storage=Storage(str(tmp_path)), inputs={"model": made}
    )
    (tmp_path / "out").mkdir()
    facts = build_evaluation(work, scenes, str(tmp_path / "out"))
    assert asked == [
        (f"{made.path}/model", expected, "bfloat16", "best_subclass", made.path), (False, 1.0),
    ]  # fmt: skip
    assert facts["images"] == 2
    # A third of the pixels of stripes of three classes is of the first.
    assert facts["per_pixel"] == pytest.approx(1 / 3)
