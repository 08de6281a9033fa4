"""A run on resized images: every stage sees them; scores and predictions have the full size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lhs.data import open_dataset
from lhs.data.folder import open_folder
from lhs.engine import pipeline
from lhs.engine.inference.prediction import predict_files
from lhs.engine.stages.evaluation import evaluate_folder, read_predictions
from lhs.engine.storage import Storage
from lhs.evaluation.metrics import confusion_counts
from lhs.evaluation.model import load_model
from tests.data.builders import CLASSES, noise_image, plain, save_image, save_labels, stripes
from tests.engine.conftest import stage, tiny

pytestmark = pytest.mark.ray

NAMES = ["a", "b", "c", "d", "e", "f"]
SIZE = (96, 160)


def large(folder: Path) -> Path:
    """Images of 160 x 96 with labels from 1, half of each row unlabelled, and one of 16 x 12."""
    lists = {"train": NAMES[:4], "val": NAMES[4:5], "test": NAMES[5:]}
    root = plain(folder, NAMES, splits=lists)
    for number, name in enumerate(NAMES[1:]):
        save_image(root / f"images/{name}.png", noise_image(number, *SIZE))
        ids = stripes(3, *SIZE) + 1
        ids[:, 80:] = 0
        save_labels(root, name, ids)
    save_labels(root, "a", stripes() + 1)
    return root


def test_a_run_on_resized_images(cluster: None, trained_here: None, tmp_path: Path) -> None:
    root = large(tmp_path / "large")
    config = tiny(
        tmp_path / "storage",
        data={
            "dataset": "folder",
            "long_side": 64,
            "held_out": "val",
            "folder": {"path": str(root), "void": [0, 255], "ids_from": 1},
        },
        context__superpixel_size=30,
        hierarchy__n_star=2,
        train__max_steps=2,
        train__validate_every=1,
        unlabelled__mode="pseudo_labels",
        report__baseline="none",
    )
    (outcome,) = pipeline.run(config, "large")
    stages = outcome.stages
    rows = pq.read_table(f"{stage(stages, 'scenes').path}/scenes.parquet").to_pandas()
    sides = dict(zip(rows["id"], zip(rows["height"], rows["width"], strict=True), strict=True))
    assert sides == {"a": (12, 16), **dict.fromkeys("bcde", (38, 64))}
    samples = pq.read_table(f"{stage(stages, 'samples').path}/rows").to_pandas()
    assert samples["y"].max() < 38
    assert samples["x"].max() < 64
    model = Path(outcome.model.path) / "model"
    assert json.loads((model / "model.json").read_text())["long_side"] == 64
    # The test image is that of the validation list; its labels were never resized.
    whole = open_folder(root, void=(0, 255), ids_from=1, held_out="val").scene("e")
    predictions = read_predictions(stages.storage, stage(stages, "evaluation"))
    assert set(predictions) == {"e"}
    found = load_model(model).predict(whole.image())
    assert found.label_map.shape == SIZE
    np.testing.assert_array_equal(predictions["e"], found.label_map)
    expected = confusion_counts(found.label_map, whole.label_map(), len(CLASSES), 255)
    np.testing.assert_array_equal(outcome.evaluation.counts, expected)
    assert expected.sum() == 96 * 80
    plainly = config.data.model_copy(update={"long_side": None})
    again = evaluate_folder(model, plainly, gpu=False)
    np.testing.assert_array_equal(again.counts, expected)
    predict_files(model, [str(root / "images/e.png")], str(tmp_path / "out"))
    written = Storage(str(tmp_path / "out"))
    assert written.exists(written.path("e.png"))
    assert Path(outcome.report).is_file()
    # Another size is another experiment.
    other = config.data.model_copy(update={"long_side": 48})
    assert open_dataset(other).fingerprint() != open_dataset(config.data).fingerprint()
