"""What a folder of predictions says of how they were made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lhs.engine.inference.prediction import SETTINGS, _same_settings
from lhs.engine.inference.tta import PredictOptions, load_model_for
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.pooling import SubclassPool
from tests.evaluation.test_pooling import saved


def test_how_classes_are_scored_is_part_of_the_results_description(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    usual, best = PredictOptions(), PredictOptions(class_scores="best_subclass")
    _same_settings(storage, {}, usual, "float32")
    # As earlier versions wrote it.
    assert "class_scores" not in json.loads((tmp_path / SETTINGS).read_text())
    _same_settings(storage, {}, usual, "float32")
    with pytest.raises(UserError, match="holds results with another class_scores"):
        _same_settings(storage, {}, best, "float32")
    (tmp_path / SETTINGS).unlink()
    _same_settings(storage, {}, best, "float32")
    assert json.loads((tmp_path / SETTINGS).read_text())["class_scores"] == "best_subclass"
    with pytest.raises(UserError, match="holds results with another class_scores"):
        _same_settings(storage, {}, usual, "float32")


def test_the_options_reach_the_model(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    model = load_model_for(folder, PredictOptions(class_scores="summed_probabilities"))
    assert isinstance(model.scores.pool, SubclassPool)
    assert load_model_for(folder, PredictOptions()).scores.pool is None
