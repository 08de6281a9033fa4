"""The report of a run and the patches in it, from stored results that a test wrote, without Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhs.config import Config
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION, MODEL
from lhs.engine.stage import Stage, StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.subclass_samples import subclass_samples
from lhs.engine.stages.training import baseline_of
from lhs.engine.storage import Storage
from lhs.engine.tracking import reporting
from lhs.engine.tracking.examples import SIDE, hierarchy_arrays
from lhs.engine.tracking.reporting import write_report
from lhs.engine.tracking.run_files import find_baseline
from lhs.evaluation.metrics import scores
from tests.data.builders import noise_image
from tests.engine.conftest import pretend, tiny
from tests.hierarchy.test_hierarchy import cluster_hierarchy

CLASSES = ("sky", "sea", "tree")
OWN = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 4]])
BEFORE = np.array([[5, 3, 0], [2, 2, 0], [1, 2, 1]])


def test_the_baseline_is_the_baseline_s_evaluation(checked_stages: Stages, tmp_path: Path) -> None:
    config = tiny(tmp_path, train__gpu=False, hierarchy__backend="sklearn")
    baseline = baseline_of(config)
    assert find_baseline(checked_stages, config)[0] is None
    assert "No baseline of this network" in find_baseline(checked_stages, config)[1]
    pretend(checked_stages, MODEL, baseline)
    assert find_baseline(checked_stages, config)[0] is None
    assert "not scored with these settings" in find_baseline(checked_stages, config)[1]
    folder = pretend(checked_stages, EVALUATION, baseline)
    found, note = find_baseline(checked_stages, config)
    assert found is not None
    assert (Path(found.path), note) == (folder, "")
    alone = tiny(tmp_path, train__gpu=False, hierarchy__backend="sklearn", report__baseline="none")
    assert find_baseline(checked_stages, alone) == (None, "")


def test_a_damaged_repetition_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "runs" / "other-1").mkdir(parents=True)
    (tmp_path / "runs" / "other-1" / reporting.FACTS).write_text("{")
    own, before = scores(OWN), scores(BEFORE)
    assert reporting._repetitions(Storage(str(tmp_path)), tiny(tmp_path), own, before) == {}
    assert f"{tmp_path}/runs/other-1/{reporting.FACTS}: damaged" in caplog.text


class Given:
    """Results that are there: by stage and strategy."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.done = storage, []

    def make(self, stage: Stage, config: Config) -> StageResult:
        name = f"{stage.name}-{config.train.strategy}"
        return StageResult(stage.name, name, self.storage.path(name), {}, 1.0, True)

    find = make

    def table(self) -> list[dict[str, Any]]:
        return []


@pytest.mark.thorough
def test_the_run_and_its_baseline_are_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for strategy, counts in (("hierarchical", OWN), ("baseline", BEFORE)):
        (tmp_path / f"evaluation-{strategy}").mkdir()
        np.save(tmp_path / f"evaluation-{strategy}" / "counts.npy", counts)
        (tmp_path / f"model-{strategy}").mkdir()
        history = {
            "step": [1, 2], "phase": ["fixed_w"] * 2, "epoch": [1, 1], "loss": [2.0, 1.0],
            "learning_rate": [0.1, 0.1], "waited": [0.0, 0.0], "seconds": [1.0, 1.0],
        }  # fmt: skip
        pd.DataFrame(history).to_parquet(tmp_path / f"model-{strategy}" / "history.parquet")
    scenes = CheckedScenes(Dataset("toy", CLASSES, []), "", np.ones(3), {})
    monkeypatch.setattr(reporting, "annotated_scenes", lambda *_: scenes)
    monkeypatch.setattr(reporting, "samples_of", lambda *_: (scenes, None))
    monkeypatch.setattr(reporting, "hierarchy_arrays", lambda *_: None)
    monkeypatch.setattr(reporting, "learned", lambda *_: (None, None))
    monkeypatch.setattr(reporting, "repeat_facts", lambda *_: {})
    logged: list[Path] = []
    changes: list[dict[str, float]] = []
    tracker: Any = SimpleNamespace(
        run_id="0123456789", uri="sqlite:///x", folder=lambda path, *_: logged.append(path),
        metrics=changes.append,
    )  # fmt: skip
    stages: Any = Given(Storage(str(tmp_path)))
    baseline, page = write_report(stages, tiny(tmp_path, report__scenes=0), "mine", tracker)
    assert baseline is not None
    # No counts of single images, so no intervals.
    assert changes == [{}]
    np.testing.assert_array_equal(baseline.counts, BEFORE)
    folder = Path(page).parent
    np.testing.assert_array_equal(np.load(folder / "confusion.npy"), OWN)
    tables = {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}
    [summary] = [t for t in tables.values() if {"baseline", "hierarchical"} <= set(t.columns)]
    for column, counts in (("hierarchical", OWN), ("baseline", BEFORE)):
        expected = scores(counts)
        found = [float(str(value).split()[0]) for value in summary[column]]
        assert found[:2] == pytest.approx([expected.per_pixel, expected.per_class], abs=1e-3)
    by_class = [table for table in tables.values() if "baseline accuracy" in table.columns]
    assert by_class
    for table in by_class:
        accuracy = dict(zip(table.iloc[:, 0], table["baseline accuracy"], strict=True))
        expected = dict(zip(CLASSES, [5 / 8, 1 / 2, 1 / 4], strict=True))
        assert accuracy == pytest.approx(expected, abs=1e-3)


class Plain(Scene):
    """A scene of noise, of class `sky` but for a corner."""

    def image(self) -> np.ndarray:
        return noise_image(3, 48, 60)

    def label_map(self) -> np.ndarray:
        label_map = np.zeros((48, 60), np.uint8)
        label_map[:13, :39] = 1
        return label_map


def test_patches_are_cut_around_the_samples(tmp_path: Path) -> None:
    """Away from the diagonal and from the border: what is cut elsewhere is not the same."""
    centre, side = (12, 40), 9
    rows = {"image": ["a"], "variant": [0], "y": [centre[0]], "x": [centre[1]], "label": [0]}
    (tmp_path / "samples" / "rows").mkdir(parents=True)
    pq.write_table(pa.table(rows), tmp_path / "samples" / "rows" / "part.parquet")
    hierarchy = cluster_hierarchy(region=side)
    scene = Plain(id="a", split="train", num_classes=5)
    scenes = CheckedScenes(Dataset("toy", hierarchy.classes, [scene]), "", np.ones(5), {})
    found = subclass_samples(Storage(str(tmp_path)), scenes, hierarchy, str(tmp_path / "samples"))
    arrays = hierarchy_arrays(tiny(tmp_path), scenes, found)
    [(subclass, pairs)] = [
        (n, both) for n, (nearest, random) in arrays.patches.items()
        if (both := [*nearest.pairs, *random.pairs])
    ]  # fmt: skip
    assert arrays.classes[arrays.parents[subclass]] == "sky"
    [(patch, labels)] = pairs
    reach = side // 2
    square = tuple(slice(place - reach, place + reach + 1) for place in centre)
    expected = cv2.resize(scene.image()[square], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(patch, expected)
    expected = cv2.resize(scene.label_map()[square], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(labels, expected)
