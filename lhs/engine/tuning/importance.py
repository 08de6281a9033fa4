"""How much the settings of a search matter, by Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from lhs.engine.tuning.search import distribution
from lhs.sweeps import Between

LEAST = 4
"""Trials with fewer say nothing."""


def importance(
    space: Mapping[str, Any], trials: Sequence[tuple[Mapping[str, Any], float]]
) -> dict[str, float] | None:
    """The share of each setting in the variation of a score, the largest first (Hutter, Hoos and
    Leyton-Brown 2014).

    Parameters
    ----------
    space
        By dotted name: the values of a setting, or a mapping with the fields of `Between`.
    trials
        What each changes, and its score.

    Returns
    -------
    dict of str to float or None
        Shares that sum to 1; None of fewer than `LEAST` trials, or where all score the same.
    """
    if len(trials) < LEAST or len({score for _, score in trials}) < 2:
        return None
    distributions = {
        key: distribution(Between(**values) if isinstance(values, Mapping) else values)
        for key, values in space.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(changes), distributions=distributions, value=score
            )
            for changes, score in trials
        ]
    )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(value) for key, value in found.items()}
