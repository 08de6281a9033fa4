"""Importance of a search's settings: what matters comes first, and few trials say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lhs.engine.tuning.importance import LEAST, importance

SPACE = {
    "train.weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    "train.optimizer": ["sgd", "adamw"],
    "train.batch_size": {"low": 2, "high": 16, "log": False},
}


def test_what_the_score_depends_on_matters_most() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(24):
        changes = {
            "train.weight_decay": float(10 ** rng.uniform(-6, -3)),
            "train.optimizer": ["sgd", "adamw"][rng.integers(2)],
            "train.batch_size": int(rng.integers(2, 17)),
        }
        trials.append((changes, 0.5 + 0.1 * (changes["train.optimizer"] == "sgd")))
    found = importance(SPACE, trials)
    assert found is not None
    assert next(iter(found)) == "train.optimizer"
    assert found["train.optimizer"] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    assert importance(SPACE, trials[: LEAST - 1]) is None
    assert importance(SPACE, [(changes, 0.5) for changes, _ in trials]) is None
