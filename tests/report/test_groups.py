"""Which runs are repetitions of one another."""

from __future__ import annotations

from typing import Any

import pytest

from lhs.errors import UserError
from lhs.loading import load_config
from lhs.report.groups import grouped, labels, used


def places(*settings: dict[str, Any]) -> list[list[int]]:
    names = [f"run{n}" for n in range(len(settings))]
    return [list(group.members.values()) for group in grouped(names, settings)]


def seeds(training: int, hierarchy: int, **more: Any) -> dict[str, Any]:
    return {"train.seed": training, "hierarchy.seed": hierarchy, **more}


def test_the_hierarchy_s_seed_is_a_repetition_where_it_follows_the_training_s() -> None:
    assert places(seeds(0, 0), seeds(1, 1), seeds(2, 2)) == [[0, 1, 2]]
    assert places(seeds(0, 0), seeds(1, 0), seeds(2, 0)) == [[0, 1, 2]]
    assert places(seeds(0, 0), seeds(0, 1), seeds(0, 2)) == [[0], [1], [2]]
    # Two studies with one run in common: the follower is set apart by its hierarchy.
    assert places(seeds(0, 0), seeds(1, 0), seeds(1, 1)) == [[0, 1], [2]]


def test_folds_are_repetitions_and_all_else_is_not() -> None:
    folds = [{"train.seed": 0, "data.stanford.fold": fold} for fold in (1, 2, 3)]
    assert places(*folds, folds[0] | {"context.seed": 1}) == [[0, 1, 2], [3]]
    group = grouped(["a", "b", "c"], folds)[0]
    assert group.settings == {}
    assert group.members == {(0, 1): 0, (0, 2): 1, (0, 3): 2}


def test_twins() -> None:
    twins = [seeds(0, 0), seeds(1, 1), seeds(0, 0)]
    with pytest.raises(UserError, match="runs one and three have the same settings, seed and fold"):
        grouped(["one", "two", "three"], twins)
    [group] = grouped(["one", "two", "three"], twins, twins=True)
    assert group.members == {(0, None): 0, (1, None): 1, (0, None, 2): 2}


@pytest.mark.parametrize(
    ("recipe", "setting", "matters"),
    [
        ("siftflow-lite-baseline", "hierarchy.rho=0.9", False),
        ("siftflow-lite-baseline", "train.sequential.class_all_layers.epochs=3", False),
        ("siftflow-lite-baseline", "train.alpha=3", False),
        ("siftflow-lite-baseline", "storage=/other", False),
        ("siftflow-lite-baseline", "report.scenes=0", False),
        ("siftflow-lite-baseline", "train.gpu_share=0.5", False),
        ("siftflow-lite-baseline", "train.weight_decay=0.1", True),
        ("siftflow-lite-s-lc", "hierarchy.rho=0.9", True),
        ("siftflow-lite-s-lc", "train.sequential.class_all_layers.epochs=3", True),
        ("siftflow-lite-s-lc", "train.baseline.all_layers.epochs=3", False),
        ("siftflow-lite-s-lc", "train.alpha=3", False),
        ("siftflow-lite-h-lc", "train.alpha=3", True),
        ("siftflow-lite-h-lc", "train.learn_w=masked", True),
    ],
)
def test_settings_that_a_result_does_not_depend_on(
    recipe: str, setting: str, matters: bool
) -> None:
    one, other = load_config(recipe).dotted(), load_config(recipe, [setting]).dotted()
    assert one != other
    assert (used(one) != used(other)) == matters


def test_labels_say_what_differs() -> None:
    some = [{"train.alpha": 1, "a.b": 2}, {"train.alpha": 3, "a.b": 2}, {"a.b": 2, "a.c": "x"}]
    assert labels(some) == ["alpha=1", "alpha=3", "c=x"]
    assert labels(some[:1]) == [""]
