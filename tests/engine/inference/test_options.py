"""What a folder of predictions says of how they were made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lhs.context.superpixels import segment
from lhs.data.resizing import resized_image, resized_nearest
from lhs.engine.inference.prediction import SETTINGS, _same_settings
from lhs.engine.inference.tta import PredictOptions, load_model_for, predict_with_tta
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.evaluation.description import DESCRIPTION
from lhs.evaluation.model import load_model
from lhs.evaluation.pooling import SubclassPool
from lhs.evaluation.prediction import average_predictions, vote
from tests.data.builders import noise_image
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


@pytest.mark.thorough
def test_the_options_reach_the_model(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    model = load_model_for(folder, PredictOptions(class_scores="summed_probabilities"))
    assert isinstance(model.scores.pool, SubclassPool)
    assert load_model_for(folder, PredictOptions()).scores.pool is None


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        PredictOptions(flip=True),
        PredictOptions(scales=(0.5, 2.0)),
        PredictOptions(superpixels=40),
        PredictOptions(flip=True, superpixels=40, probabilities=True),
    ],
)
def test_scales_and_superpixels_are_those_of_the_resized_image(
    tmp_path: Path, options: PredictOptions
) -> None:
    folder = saved(tmp_path)
    without, image = load_model(folder), noise_image(1, 96, 128)
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"long_side": 64}))
    (found,) = predict_with_tta(load_model(folder), [image], options)
    small = resized_image(image, 64)
    expected = average_predictions(without.predict, small, flip=options.flip, scales=options.scales)
    if options.superpixels:
        expected = vote(expected, segment(small, options.superpixels))
    label_map = resized_nearest(expected.label_map, (96, 128))
    np.testing.assert_array_equal(found.label_map, label_map)
    assert found.image is image
    assert found.probabilities.shape[1:] == (96, 128)
