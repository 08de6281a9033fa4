"""The strategies as METHOD section 4 lists them, and what is left when a step is skipped."""

import itertools

import pytest

from lhs.errors import UserError
from lhs.loading import build_config
from lhs.training.phases import phases

STEPS = {
    "baseline": ("new_layers", "all_layers"),
    "sequential": (
        "subclass_new_layers",
        "subclass_all_layers",
        "class_last_layer",
        "class_all_layers",
    ),
    "hierarchical": ("new_layers", "fixed_w", "learned_w"),
}
TARGETS = {
    "all_layers": "class",
    "subclass_new_layers": "subclass",
    "subclass_all_layers": "subclass",
    "class_last_layer": "class",
    "class_all_layers": "class",
    "fixed_w": "both",
    "learned_w": "both",
}


def plan(strategy, epochs):
    steps = {
        name: {"epochs": count, "learning_rate": 0.001 * (number + 1)}
        for number, (name, count) in enumerate(zip(STEPS[strategy], epochs, strict=True))
    }
    return phases(build_config({"train": {"strategy": strategy, strategy: steps}}).train)


def listed(strategy, *epochs):
    return [(p.name, p.target, p.trains, p.fresh_last_layer) for p in plan(strategy, epochs)]


def test_baseline():
    assert listed("baseline", 1, 10) == [
        ("new_layers", "class", "new", True),
        ("all_layers", "class", "all", False),
    ]


def test_sequential():
    assert listed("sequential", 1, 6, 1, 6) == [
        ("subclass_new_layers", "subclass", "new", True),
        ("subclass_all_layers", "subclass", "all", False),
        ("class_last_layer", "class", "last", True),
        ("class_all_layers", "class", "all", False),
    ]


def test_hierarchical():
    assert listed("hierarchical", 0, 8, 4) == [
        ("fixed_w", "both", "all", True),
        ("learned_w", "both", "all", False),
    ]
    assert [phase.learns_w for phase in plan("hierarchical", (0, 8, 4))] == [False, True]


def test_hierarchical_may_train_its_new_layers_first():
    assert listed("hierarchical", 1, 8, 4) == [
        ("new_layers", "both", "new", True),
        ("fixed_w", "both", "all", False),
        ("learned_w", "both", "all", False),
    ]


def test_only_the_second_step_of_h_learns_w():
    assert [phase.learns_w for phase in plan("hierarchical", (0, 0, 4))] == [True]
    assert not any(phase.learns_w for phase in plan("sequential", (1, 1, 1, 1)))
    assert not any(phase.learns_w for phase in plan("baseline", (1, 1)))


def test_without_step_1_the_subclasses_still_get_their_new_layer():
    assert listed("sequential", 0, 6, 1, 6)[0] == ("subclass_all_layers", "subclass", "all", True)


def test_without_step_3_the_classes_still_get_their_new_layer():
    assert listed("sequential", 1, 6, 0, 6)[-1] == ("class_all_layers", "class", "all", True)


@pytest.mark.parametrize("strategy", STEPS)
def test_any_step_may_be_skipped(strategy):
    for epochs in itertools.product((0, 2), repeat=len(STEPS[strategy])):
        if not any(epochs[2:] if strategy == "sequential" else epochs):
            continue  # refused: the classes would never be trained
        kept = plan(strategy, epochs)
        targets = TARGETS | {"new_layers": "both" if strategy == "hierarchical" else "class"}
        wanted = [name for name, count in zip(STEPS[strategy], epochs, strict=True) if count]
        assert [phase.name for phase in kept] == wanted
        # A new last layer is needed just where the target's ids are not those of the step before.
        for number, phase in enumerate(kept):
            before = targets[kept[number - 1].name] if number else None
            assert phase.target == targets[phase.name]
            assert phase.fresh_last_layer == (phase.target != before)
        for phase in kept:
            assert phase.epochs == 2
            place = STEPS[strategy].index(phase.name)
            assert phase.learning_rate == pytest.approx(0.001 * (place + 1))


@pytest.mark.parametrize(
    "tree",
    [
        {"strategy": "baseline", "baseline": {name: {"epochs": 0} for name in STEPS["baseline"]}},
        {
            "strategy": "sequential",
            "sequential": {
                "class_last_layer": {"epochs": 0},
                "class_all_layers": {"epochs": 0},
            },
        },
    ],
)
def test_a_plan_without_a_class_step_is_refused(tree):
    with pytest.raises(UserError, match="epochs"):
        phases(build_config({"train": tree}).train)
