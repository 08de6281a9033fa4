"""Stages that trials share, where some of them fail; nothing is really made."""

from __future__ import annotations

from pathlib import Path

import pytest

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import HIERARCHY, SAMPLES
from lhs.engine.stage import Stage, StageResult
from lhs.engine.tuning.plan import make_shared, plan_text
from lhs.errors import UserError
from tests.engine.conftest import pretend, tiny

HERE = {"train__gpu": False, "hierarchy__backend": "sklearn"}
"""Settings that no cluster is asked about."""


def test_what_stops_one_trial_leaves_the_others(
    checked_stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(stages: Stages, stage: Stage, config: Config) -> StageResult:
        asked.append(stage.name)
        if stage is SAMPLES and config.context.variants == 2:
            raise UserError("no samples")
        if stage is HIERARCHY and config.hierarchy.n_star == 21:
            raise UserError("no hierarchy")
        pretend(stages, stage, config, digest="d")
        found = stages.find(stage, config)
        assert found is not None
        return found

    monkeypatch.setattr(Stages, "make", make)
    configs = [
        tiny(tmp_path, **HERE),
        tiny(tmp_path, **HERE, context__variants=2),
        tiny(tmp_path, **HERE, hierarchy__n_star=21),
        tiny(tmp_path, **HERE, context__variants=2, hierarchy__n_star=22),
        tiny(tmp_path, **HERE, train__strategy="baseline"),
    ]
    results, errors = make_shared(checked_stages, configs)
    assert errors == {1: "no samples", 2: "no hierarchy", 3: "no samples"}
    # Also the one that trials 2 and 4 share is tried once.
    assert sorted(asked) == ["hierarchy", "hierarchy", "histograms", "samples", "samples"]
    made = [[result.name for result in done] for done in results]
    assert made[0] == ["scenes", "samples", "histograms", "hierarchy"]
    assert made[1] == ["scenes"]
    assert made[2] == ["scenes", "samples", "histograms"]
    assert made[4] == ["scenes"]


def test_where_nothing_is_trained_a_baseline_is_its_hierarchy(
    checked_stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `lhs hierarchy`."""

    def make(stages: Stages, stage: Stage, config: Config) -> StageResult:
        pretend(stages, stage, config, digest="d")
        found = stages.find(stage, config)
        assert found is not None
        return found

    monkeypatch.setattr(Stages, "make", make)
    config = tiny(tmp_path, **HERE, train__strategy="baseline")
    line = "1 trials: 1 x samples, 1 x histograms, 1 x hierarchy"
    assert plan_text(checked_stages, [config], trained=False) == line
    [done], errors = make_shared(checked_stages, [config], trained=False)
    assert [result.name for result in done] == ["scenes", "samples", "histograms", "hierarchy"]
    assert errors == {}
