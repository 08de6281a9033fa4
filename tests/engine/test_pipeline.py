"""The whole experiment: what it leaves, what it makes again, what hangs on a seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from lhs.config import Config
from lhs.engine import pipeline
from lhs.engine.cache import Stages
from lhs.engine.pipeline import Outcome
from lhs.engine.stages.evaluation import evaluate_folder, read_predictions
from lhs.engine.tracking.comparison import compare_runs
from lhs.errors import UserError
from tests.data.builders import plain
from tests.engine.conftest import NAME, stage, tiny, training_here
from tests.engine.stages.test_scenes import BAD, broken

pytestmark = pytest.mark.ray


def again(config: Config, name: str = NAME) -> Outcome:
    """Run a configuration alone, the baseline only looked up."""
    report = config.report.model_copy(update={"baseline": "reuse"})
    return pipeline.run(config.model_copy(update={"report": report}), name)[-1]


@pytest.fixture(scope="module")
def inf(finished: list[Outcome], folder: Path) -> Outcome:
    """The tiny experiment with R = inf."""
    with training_here():
        return again(tiny(folder, hierarchy__region="inf"), "inf")


@pytest.fixture(scope="module")
def seeded(finished: list[Outcome], folder: Path) -> Outcome:
    """The tiny experiment with another seed of the training."""
    with training_here():
        return again(tiny(folder, train__seed=1), "seeded")


@pytest.fixture(scope="module")
def elsewhere(prepared: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The tiny experiment in another storage, without a baseline, tracked in a store of its own."""
    place = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(prepared.config.storage, place / "storage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'own.db'}")
        with training_here():
            return again(tiny(place / "storage"), "elsewhere")


def made_again(outcome: Outcome) -> list[str]:
    return [result.name for result in outcome.stages.done if not result.reused]


def weights(outcome: Outcome) -> dict[str, np.ndarray]:
    return load_file(f"{outcome.model.path}/model/weights.safetensors")


def counts_of(outcome: Outcome) -> np.ndarray:
    """The confusion matrix again, pixel by pixel, from the stored label maps."""
    dataset = outcome.scenes.dataset
    predictions = read_predictions(outcome.stages.storage, stage(outcome.stages, "evaluation"))
    counts = np.zeros((len(dataset.classes), len(dataset.classes)), np.int64)
    assert sorted(predictions) == [scene.id for scene in outcome.scenes.split("test")]
    for scene in outcome.scenes.split("test"):
        truth, predicted = scene.label_map(), predictions[scene.id]
        assert truth.shape == predicted.shape
        seen = truth != dataset.void
        np.add.at(counts, (truth[seen], predicted[seen]), 1)
    return counts


def test_baseline_and_experiment(finished: list[Outcome]) -> None:
    before, after = finished
    assert (before.name, after.name) == (f"{NAME}-baseline", NAME)
    assert (before.config.train.strategy, before.hierarchy) == ("baseline", None)
    assert [r.name for r in before.stages.done] == ["scenes", "model", "evaluation"]
    assert made_again(before) == ["scenes", "model", "evaluation"]
    assert [r.name for r in after.stages.done] == [
        "scenes", "samples", "histograms", "hierarchy", "model", "evaluation",
    ]  # fmt: skip
    assert made_again(after) == [r.name for r in after.stages.done][1:]
    assert after.baseline is not None
    assert after.baseline.scores.headline() == before.evaluation.scores.headline()
    assert before.baseline is None


def test_report_files_agree_with_the_stored_predictions(finished: list[Outcome]) -> None:
    for outcome in finished:
        counts = counts_of(outcome)
        np.testing.assert_array_equal(outcome.evaluation.counts, counts)
        folder = Path(outcome.report).parent
        np.testing.assert_array_equal(np.load(folder / "confusion.npy"), counts)
        facts = json.loads((folder / "run.json").read_text())
        present = counts.sum(axis=1) > 0
        per_class = np.diag(counts)[present] / counts.sum(axis=1)[present]
        expected = {
            "per_pixel": np.trace(counts) / counts.sum(),
            "per_class": per_class.mean(),
            "per_class_over_L": per_class.sum() / len(counts),
        }
        found = outcome.evaluation.scores
        for name, value in expected.items():
            assert facts["scores"][name] == pytest.approx(value)
            assert getattr(found, name) == pytest.approx(value)
        assert facts["scores"]["mean_iou"] == pytest.approx(found.mean_iou)
        assert facts["run_id"] == outcome.tracker.run_id
        page = Path(outcome.report).read_text()
        assert f"{expected['per_pixel']:.3f}" in page
        assert outcome.tracker.run_id in page
        assert list((folder / "figures").glob("*.png"))
        assert list((folder / "tables").glob("*.csv"))


def test_the_report_says_what_changed(outcome: Outcome) -> None:
    folder = Path(outcome.report).parent
    facts = json.loads((folder / "run.json").read_text())
    assert outcome.baseline is not None
    for name, (low, high) in facts["change_intervals"].items():
        change = getattr(outcome.evaluation.scores, name) - getattr(outcome.baseline.scores, name)
        assert low - 1e-9 <= change <= high + 1e-9
    tables = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"hierarchy", "images", "extremes", "confusion_change", "w", "features"} <= tables
    page = Path(outcome.report).read_text()
    assert "Repeat this run" in page
    assert "digest of hierarchy" in page
    # The encoder's, from a package.
    assert len(outcome.model.facts["weights"]) == 64
    assert outcome.model.facts["weights"] in page
    assert "nearest to the centre" in page


def test_model_folder(outcome: Outcome) -> None:
    folder = Path(outcome.model.path) / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml", "hierarchy.json", "model.json", "weights.safetensors",
    ]  # fmt: skip
    history = pq.read_table(f"{outcome.model.path}/history.parquet").to_pandas()
    assert history["step"].tolist() == list(range(1, 25))
    assert history["phase"].unique().tolist() == ["fixed_w", "learned_w"]
    assert outcome.model.facts["steps"] == 24
    assert not (Path(outcome.model.path) / "ray-train").exists()


def test_second_run_reuses_every_stage(
    finished: list[Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> None:
        raise AssertionError("a stage was built again")

    monkeypatch.setattr(Stages, "_build", build)
    for old, new in zip(finished, pipeline.run(tiny(folder), NAME), strict=True):
        assert made_again(new) == []
        # The same run, not its twin.
        assert (new.tracker, new.report) == (old.tracker, old.report)
        np.testing.assert_array_equal(new.evaluation.counts, old.evaluation.counts)
        assert new.evaluation.scores.headline() == old.evaluation.scores.headline()


def test_region_makes_only_what_depends_on_it(inf: Outcome) -> None:
    assert made_again(inf) == ["histograms", "hierarchy", "model", "evaluation"]
    assert inf.baseline is not None


def test_training_seed_trains_only(seeded: Outcome, outcome: Outcome) -> None:
    assert made_again(seeded) == ["model", "evaluation"]
    assert seeded.hierarchy is not None
    assert outcome.hierarchy is not None
    assert seeded.hierarchy.key == outcome.hierarchy.key
    # No baseline of this seed was trained: nothing to compare with, and the page says so.
    assert seeded.baseline is None
    assert "No baseline of this network" in Path(seeded.report).read_text()


def test_weights_hang_on_the_seed_only(
    outcome: Outcome, elsewhere: Outcome, seeded: Outcome
) -> None:
    one, same, other = weights(outcome), weights(elsewhere), weights(seeded)
    assert elsewhere.model.path != outcome.model.path
    assert elsewhere.model.key == outcome.model.key
    assert one.keys() == same.keys() == other.keys()
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor, same[name], err_msg=name)
    assert any(not np.array_equal(tensor, other[name]) for name, tensor in one.items())
    np.testing.assert_array_equal(outcome.evaluation.counts, elsewhere.evaluation.counts)


def test_another_tracking_store_is_respected(elsewhere: Outcome) -> None:
    storage = elsewhere.stages.storage
    assert elsewhere.tracker.uri == f"sqlite:///{Path(storage.root).parent / 'own.db'}"
    run = mlflow.MlflowClient(elsewhere.tracker.uri).get_run(elsewhere.tracker.run_id)
    assert run.info.status == "FINISHED"
    assert not storage.exists(storage.path("mlflow.db"))


def test_sequential_on_scene_names_without_the_bad_images(
    cluster: None, trained_here: None, folder: Path, tmp_path: Path
) -> None:
    root = broken(tmp_path / "mixed")
    config = tiny(
        folder,
        data={
            "dataset": "folder",
            "on_bad_image": "skip",
            "folder": {"path": str(root), "scenes": "prefix"},
        },
        context__superpixel_size=16,
        hierarchy__kind="scene_names",
        train__strategy="sequential",
        train__max_steps=1,
        report__baseline="none",
    )
    (outcome,) = pipeline.run(config, "names")
    assert "histograms" not in made_again(outcome)
    assert set(outcome.scenes.skipped) == set(BAD)
    np.testing.assert_array_equal(outcome.evaluation.counts, counts_of(outcome))
    assert outcome.evaluation.counts.sum() == 2 * 12 * 16
    assert outcome.hierarchy is not None
    assert set(outcome.hierarchy.facts["subclasses_per_class"].values()) == {2}
    page = Path(outcome.report).read_text()
    assert "4 unreadable images were left out" in page
    assert all(name in page for name in BAD)
    history = pq.read_table(f"{outcome.model.path}/history.parquet").to_pandas()
    assert history["phase"].tolist() == [
        "subclass_new_layers", "subclass_all_layers", "class_last_layer", "class_all_layers",
    ]  # fmt: skip


def test_evaluate_folder_counts_the_same(outcome: Outcome, tmp_path: Path) -> None:
    folder = Path(outcome.model.path) / "model"
    evaluation = evaluate_folder(folder, outcome.config.data, gpu=False)
    np.testing.assert_array_equal(evaluation.counts, outcome.evaluation.counts)
    config = tiny(
        tmp_path,
        data__dataset="folder",
        data__folder={"path": str(plain(tmp_path / "other"))},
    )
    with pytest.raises(UserError, match=r"the model predicts .* of synthetic .*other has 3 .sky"):
        evaluate_folder(folder, config.data, gpu=False)


def test_compare_runs(finished: list[Outcome], inf: Outcome) -> None:
    before, after = finished
    storage = after.stages.storage
    page = Path(compare_runs(storage, [before.tracker.run_id, "inf"]))
    text = page.read_text()
    assert before.name in text
    assert "inf" in text
    for outcome in (before, inf):
        assert f"{Path(outcome.report).parent.name}/report.html" in text
    for _ in range(2):
        # The page itself is not taken for a run.
        with pytest.raises(UserError) as caught:
            compare_runs(storage, ["nosuch"])
        assert "'nosuch'" in str(caught.value)
        assert Path(inf.report).parent.name in str(caught.value)
        assert "comparison" not in str(caught.value)
    # The very same configuration would be shown again, without a second run.
    twice = again(inf.config.model_copy(update={"description": "a twin"}), "inf")
    with pytest.raises(UserError, match="may be any of inf-"):
        compare_runs(storage, ["inf"])
    assert Path(compare_runs(storage, [twice.tracker.run_id[:8]])).is_file()
