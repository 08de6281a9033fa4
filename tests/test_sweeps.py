"""What a sweep is: its files, its trials, and what is wrong with others."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from lhs.errors import UserError
from lhs.loading import load_config
from lhs.sweeps import (
    Between,
    Protocol,
    Search,
    Sweep,
    grid,
    name_of,
    read_sweep,
    search_base,
    text_of,
    trials_of,
)

FILES = sorted((Path(__file__).parents[1] / "tune").glob("*.py"))
SWEEPS = [path for path in FILES if path.stem != "training"]


def sweep(*trials: dict[str, object], recipe: str = "demo") -> Sweep:
    return Sweep(name="mine", recipe=recipe, trials=trials)


def test_grid_is_every_combination_the_last_changing_first() -> None:
    assert grid({"a": [1, 2], "b": ["x", "y"]}) == (
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"},
    )  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_tune_tells_its_command(path: Path) -> None:
    text = path.read_text()
    # A file of several sweeps has one a dataset.
    assert read_sweep(str(path)).name.partition("-")[0] == path.stem
    assert f"lhs sweep tune/{path.name}" in text
    assert f"ray submit cluster.yaml tune/{path.name}" in text


@pytest.mark.thorough
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_makes_trials(path: Path) -> None:
    found = read_sweep(str(path))
    assert isinstance(found, Sweep)
    trials = trials_of(found)
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
    base = load_config(found.recipe, [f"{key}={text_of(v)}" for key, v in found.always.items()])
    for trial in trials:
        changed = {k for k, v in trial.config.dotted().items() if v != base.dotted()[k]}
        assert changed <= set(trial.changes)


def test_the_files_are_the_paper_s_questions() -> None:
    papers = [path for path in SWEEPS if path.stem != "evidence"]
    by_name = {path.stem: trials_of(read_sweep(str(path))) for path in papers}
    settings = [
        (t.config.hierarchy.rho, t.config.hierarchy.k_scale) for t in by_name["sensitivity"]
    ]
    assert settings == [(0.93, 1.0), (0.90, 1.0), (0.95, 1.0), (0.93, 0.8), (0.93, 1.5)]
    assert [t.config.hierarchy.region for t in by_name["region"]] == [129, 227, math.inf]
    assert len(by_name["grid"]) == 27
    assert [t.config.train.seed for t in by_name["seeds"]] == [0, 1, 2]


@pytest.mark.thorough
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_script_that_needs_nothing_beside_it(path: Path, tmp_path: Path) -> None:
    """As `ray submit` copies it: alone, elsewhere."""
    alone = tmp_path / "script.py"
    alone.write_text(path.read_text())
    command = [sys.executable, str(alone), "--set", "data.seed=-7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lhs: ")
    assert "data.seed" in done.stderr


def test_settings_hold_for_all_trials_and_the_trials_own_above_them() -> None:
    trials = trials_of(sweep({"train.seed": 3}, {"train.seed": 4}), ["train.batch_size=2"])
    assert [trial.config.train.seed for trial in trials] == [3, 4]
    assert {trial.config.train.batch_size for trial in trials} == {2}
    assert [trial.name for trial in trials] == ["seed=3", "seed=4"]
    other = trials_of(sweep({"train.seed": 3}), [], "stanford-lite-s-lc")
    assert other[0].config.data.dataset == "stanford"


@pytest.mark.parametrize(
    ("trials", "settings", "message"),
    [
        ((), (), "it has no trials"),
        (({"train.seed": 1},), ("train.seed=2",), "varies train.seed itself"),
        (({"train.seed": 1}, {"train.seed": 1}), (), "trials 1 and 2 are alike"),
        (({"train.sed": 1},), (), "(?s)trial 1: .*unknown key"),
        (({"hierarchy.rho": 3},), (), r"(?s)trial 1: .*hierarchy.rho = 3"),
        (({"train.seed": 1},), ("nonsense",), "allowed is key=value"),
    ],
)
def test_mistakes_are_told(trials, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        trials_of(sweep(*trials), settings)


def test_what_holds_for_all_trials_of_a_sweep_and_gives_way_to_the_command_line() -> None:
    mine = Sweep(
        name="mine", recipe="demo", trials=[{"train.seed": 1}], always={"data.held_out": 9}
    )
    [trial] = trials_of(mine)
    assert (trial.config.data.held_out, trial.name) == (9, "seed=1")
    assert trials_of(mine, ["data.held_out=7"])[0].config.data.held_out == 7


def test_fine_tuning_is_compared_at_one_length_on_held_out_images() -> None:
    configs = [t.config for t in trials_of(read_sweep(str(FILES[0].parent / "finetuning.py")))]
    assert {config.data.held_out for config in configs} == {488}
    phases = [config.train.baseline for config in configs]
    lengths = {
        sum(phase.epochs for phase in (p.new_layers, p.all_layers) if phase.enabled) for p in phases
    }
    assert lengths == {7}
    assert [p.all_layers.enabled for p in phases].count(False) == 2


def test_the_ablations_of_h_change_one_thing_and_never_look_at_test_images() -> None:
    trials = trials_of(read_sweep(str(FILES[0].parent / "ablations.py")))
    assert all(trial.config.data.held_out for trial in trials)
    first = trials[0].config.train
    for trial in trials[1:]:
        train = trial.config.train
        assert len([key for key in trial.changes if "hierarchical." not in key]) == 1
        lengths = [
            sum(step.epochs for step in dict(one.hierarchical).values() if step.on)
            for one in (train, first)
        ]
        assert lengths[0] == lengths[1]


def test_names_tell_settings_apart() -> None:
    changes = {"train.a.rate": 0.5, "train.b.rate": 1, "train.alpha": 2.0}
    assert name_of(changes) == "a.rate=0.5 b.rate=1 alpha=2.0"


def test_old_names_of_settings_are_read() -> None:
    trials = trials_of(sweep({"train.solver": "sgd"}, {"train.solver": "adamw"}))
    assert [trial.config.train.optimizer for trial in trials] == ["sgd", "adamw"]
    assert trials[0].changes == {"train.optimizer": "sgd"}
    with pytest.raises(UserError, match=r"varies train\.optimizer itself"):
        trials_of(sweep({"train.solver": "sgd"}), ["train.optimizer=sgd"])
    with pytest.raises(UserError, match=r"varies train\.solver itself"):
        trials_of(sweep({"train.optimizer": "sgd"}), ["train.solver=sgd"])
    with pytest.raises(UserError, match=r"old name of train\.optimizer"):
        trials_of(sweep({"train.solver": "sgd", "train.optimizer": "sgd"}))


def test_a_file_of_several_sweeps_takes_the_recipe_s(tmp_path: Path) -> None:
    path = tmp_path / "both.py"
    path.write_text(
        "from lhs.sweeps import Sweep\n"
        "names = ('demo', 'stanford-lite-s-lc')\n"
        "SWEEP = tuple(Sweep(name=name, recipe=name, trials=[{}]) for name in names)"
    )
    assert read_sweep(str(path)).name == "demo"
    assert read_sweep(str(path), "stanford-lite-s-lc").name == "stanford-lite-s-lc"
    with pytest.raises(UserError, match=r"--recipe other: .* for demo, stanford-lite-s-lc"):
        read_sweep(str(path), "other")


def test_trials_of_variants_are_called_by_them() -> None:
    protocol = Protocol(variants=["a", "b"], primary=[("a", "b")], keep="there")
    changes = [{"train.alpha": 2.0, "train.seed": 1}, {"train.seed": 1}]
    trials = trials_of(Sweep(name="s", recipe="demo", trials=changes, protocol=protocol))
    assert [(trial.variant, trial.name) for trial in trials] == [
        ("a", "a seed=1"), ("b", "b seed=1"),
    ]  # fmt: skip


def search(**changes: object) -> Search:
    settings = {
        "name": "mine", "recipe": "demo", "count": 3,
        "space": {"train.alpha": Between(low=0.5, high=2.0)},
        "always": {"data.held_out": 10, "train.validate_every": 1},
    }  # fmt: skip
    return Search(**(settings | changes))  # type: ignore[arg-type]


def test_the_search_for_training_s_settings_never_looks_at_test_images() -> None:
    found = read_sweep(str(FILES[0].parent / "training.py"))
    assert isinstance(found, Search)
    base = search_base(found)
    assert base.data.held_out is not None
    assert base.train.validate_every == 1
    assert {"train.alpha", "train.hierarchical.fixed_w.learning_rate"} < set(found.space)


def test_what_holds_for_a_whole_search() -> None:
    base = search_base(search(), ["train.batch_size=2", "data.held_out=12"])
    assert (base.train.batch_size, base.data.held_out, base.train.validate_every) == (2, 12, 1)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"count": 0}, [], "count = 0 trials of 1 settings"),
        ({"space": {}}, [], "3 trials of 0 settings"),
        ({"metric": "loss"}, [], "'loss': allowed are per_pixel, per_class, mean_iou"),
        ({}, ["train.alpha=1"], "varies train.alpha itself"),
        ({"space": {"hierarchy.rho": [0.9]}}, [], "space of hierarchy.rho: allowed are settings"),
        ({"space": {"train.alpha": Between(low=-3, high=1)}}, [], "train.alpha = -3"),
        ({"space": {"train.alpha": Between(low=2, high=1)}}, [], "a lower bound below"),
        ({"space": {"train.alpha": Between(low=0, high=1, log=True)}}, [], "above 0 on a log"),
        ({"space": {"train.alpha": []}}, [], "no value to choose from"),
        ({"space": {"train.optimizer": ["adamw", "adam"]}}, [], "train.optimizer = 'adam'"),
        ({"always": {}}, [], "train.validate_every: found none"),
        ({"always": {"train.validate_every": 1}}, [], "needs data.held_out"),
    ],
)
def test_mistakes_of_a_search_are_told(changes, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        search_base(search(**changes), settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("SWEEP = 3", "found no SWEEP"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
        (
            "from lhs.sweeps import Sweep\nSWEEP = Sweep(name='a/b', recipe='demo', trials=[{}])",
            "allowed are letters",
        ),
    ],
)
def test_files_that_are_no_sweeps(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "sweep.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_sweep(str(path))
