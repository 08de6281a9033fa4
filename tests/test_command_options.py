"""Every option of every command, from the words that are typed to the function that does the work.

What that function does with it is tested elsewhere; here none may be lost on the way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhs.engine.inference.tta import PredictOptions
from lhs.engine.stages.evaluation import Evaluation
from lhs.evaluation.metrics import scores
from lhs.run import main, parser

PROJECT = Path(__file__).parents[1]
COUNTS = np.array([[3, 1], [0, 4]])


class Calls:
    """Replaces functions; `made` has the arguments of each call by the function's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.made: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.typed: set[tuple[str, str]] = set()

    def replace(self, address: str, result: Any = None) -> None:
        name = address.rpartition(".")[2]

        def noted(*given: Any, **named: Any) -> Any:
            self.made[name] = given, named
            return result

        self.monkeypatch.setattr(address, noted)

    def given(self, name: str) -> tuple[Any, ...]:
        """The arguments of a function's last call, those by name last."""
        given, named = self.made[name]
        return (*given, *named.values())

    def type(self, *words: str) -> None:
        """Type a line."""
        command = " ".join(words[: 2 if words[0] == "data" else 1])
        self.typed.update((command, word) for word in words if word.startswith("--"))
        assert main(list(words)) == 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """No Ray, and no model or place looked for; at its end a test must have typed all options of
    its commands."""

    @contextmanager
    def folder(model: str) -> Iterator[Path]:
        yield Path(model)

    monkeypatch.setattr("lhs.engine.runtime.cluster.connected", nullcontext)
    monkeypatch.setattr("lhs.engine.inference.models.model_folder", folder)
    made = Calls(monkeypatch)
    made.replace("lhs.engine.checks.check_places")
    yield made
    tested = {command for command, _ in made.typed}
    assert {one for one in known() if one[0] in tested} == made.typed


def test_predict(calls: Calls) -> None:
    calls.replace("lhs.engine.inference.prediction.predict_files", 0)
    calls.type("predict", "m", "a.png", "b.png", "--out", "o")
    assert calls.given("predict_files") == (
        Path("m"), ["a.png", "b.png"], "o", PredictOptions(), None,
    )  # fmt: skip
    calls.type(
        "predict", "m", "a.png", "--out", "o", "--stride", "4", "--flip", "--scales", "0.5", "2",
        "--superpixels", "50", "--centres", "60", "--class-scores", "best_subclass",
        "--probabilities", "--workers", "3",
    )  # fmt: skip
    wanted = PredictOptions(
        stride=4, flip=True, scales=(0.5, 2.0), superpixels=50, centres=60, probabilities=True,
        class_scores="best_subclass",
    )  # fmt: skip
    assert calls.given("predict_files")[3:] == (wanted, 3)
    calls.replace("lhs.engine.inference.demo.write_demo_images", ["o/demo/x.png"])
    calls.type("predict", "m", "a.png", "--demo", "--out", "o")
    assert calls.given("write_demo_images") == ("o",)
    assert calls.given("predict_files")[1] == ["a.png", "o/demo/x.png"]
    assert main(["predict", "m", "--out", "o"]) == 2
    calls.type("predict", "m", "a.png", "--out", "o", "--every", "2", "--superpixels", "--centres")
    assert calls.given("predict_files")[3] == PredictOptions(stride=2, superpixels=300, centres=300)


def test_view(calls: Calls) -> None:
    calls.replace("lhs.engine.inference.view.view_model")
    calls.type("view", "m")
    assert calls.given("view_model") == (Path("m"), PredictOptions(), None)
    calls.type(
        "view", "m", "--stride", "4", "--flip", "--scales", "0.5", "2", "--superpixels", "50",
        "--centres", "60", "--class-scores", "best_subclass", "--port", "8000",
    )  # fmt: skip
    wanted = PredictOptions(
        stride=4, flip=True, scales=(0.5, 2.0), superpixels=50, centres=60,
        class_scores="best_subclass",
    )  # fmt: skip
    assert calls.given("view_model") == (Path("m"), wanted, 8000)


def test_export(calls: Calls) -> None:
    calls.replace("lhs.engine.inference.exporting.export_file", 0)
    calls.type("export", "m", "--format", "onnx")
    assert calls.given("export_file") == (Path("m"), "onnx", None, None, [], "w")
    calls.type(
        "export", "m", "--format", "torch-export", "--out", "o.pt2", "--size", "40", "60",
        "--class-scores", "summed_probabilities", "--check", "a.png", "b.png",
    )  # fmt: skip
    assert calls.given("export_file") == (
        Path("m"), "torch-export", "o.pt2", (40, 60), ["a.png", "b.png"], "summed_probabilities",
    )  # fmt: skip


def test_evaluate(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    found = Evaluation(COUNTS, scores(COUNTS))
    calls.replace("lhs.engine.stages.evaluation.evaluate_folder", found)
    calls.replace("lhs.engine.runtime.resources.wants_gpu", True)
    calls.type(
        "evaluate", "m", "--dataset", "synthetic", "--data-root", "/there", "--json",
        "--set", "data.synthetic.test=3", "--set", "evaluation.stride=4",
        "--set", "evaluation.precision=bfloat16", "--set", "evaluation.class_scores=best_subclass",
    )  # fmt: skip
    folder, data, *more = calls.given("evaluate_folder")
    assert (folder, data.dataset, data.root) == (Path("m"), "synthetic", "/there")
    assert data.synthetic.test == 3
    assert more == [True, 4, "bfloat16", "best_subclass"]
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (printed["counts"], printed["per_pixel"]) == (COUNTS.tolist(), 7 / 8)


@pytest.mark.parametrize(
    ("command", "setting", "allowed"),
    [
        (["evaluate", "m", "--dataset"], "train.max_steps=5", "data, evaluation"),
        (["evaluate", "m", "--dataset"], "storage=x", "data, evaluation"),
        (["data", "show"], "evaluation={stride: 2}", "data"),
        (["data", "check"], "network.name=squeezenet", "data"),
    ],
)
def test_settings_that_a_command_does_not_use(
    command: list[str], setting: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "synthetic", "--set", setting]) == 2
    told = f"lhs: --set {setting}: it has no effect here; allowed are settings of {allowed}\n"
    assert capsys.readouterr().err == told


def test_run(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.replace("lhs.engine.pipeline.run", ["outcome"])
    calls.replace("lhs.engine.pipeline.plan", ["a line"])
    calls.replace("lhs.engine.tracking.summary.print_summary")
    calls.replace("lhs.engine.tracking.summary.outcome_json", {"some": 1})
    calls.type("run", "demo", "--set", "train.seed=5", "--set", "network.dropout=0.1", "--json")
    config, name = calls.given("run")
    assert (name, config.train.seed, config.network.dropout) == ("demo", 5, 0.1)
    assert calls.given("print_summary") == (
        ["outcome"], "demo", ["train.seed=5", "network.dropout=0.1"],
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {"some": 1}
    calls.made.clear()
    calls.type("run", "demo", "--set", "train.seed=6", "--plan")
    config, name = calls.given("plan")
    assert (name, config.train.seed) == ("demo", 6)
    assert capsys.readouterr().out == "a line\n"
    assert main(["run", "demo", "--plan", "--json"]) == 2
    assert "--json: not with --plan, which prints text" in capsys.readouterr().err
    calls.type("run", "demo", "--set", "train.seed=7", "--print-config")
    assert "seed: 7" in capsys.readouterr().out
    assert calls.made.keys() == {"plan"}


def test_hierarchy(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.replace("lhs.engine.graph.annotated_scenes")
    calls.replace("lhs.engine.cache.Stages.make", "made")
    calls.replace("lhs.engine.tracking.hierarchy_page.write_hierarchy_page", "the page")
    calls.replace("lhs.engine.tracking.summary.print_hierarchy")
    calls.replace("lhs.engine.tracking.summary.hierarchy_json", {"some": 1})
    calls.type("hierarchy", "demo", "--set", "hierarchy.rho=0.5", "--json")
    stage, config = calls.given("make")[-2:]
    assert (stage.name, config.hierarchy.rho) == ("hierarchy", 0.5)
    assert calls.given("print_hierarchy")[1:] == ("made", "the page")
    assert json.loads(capsys.readouterr().out) == {"some": 1, "page": "the page"}
    calls.replace("lhs.engine.cache.Stages.make", SimpleNamespace(path="p"))
    calls.replace("lhs.engine.graph.context_scenes", SimpleNamespace(split=lambda name: [name]))
    calls.replace("lhs.engine.stages.hierarchy.read_hierarchy")
    calls.replace("lhs.hierarchy.export.check_target")
    calls.replace("lhs.hierarchy.export.export_dataset", {"train": 1})
    calls.type("hierarchy", "demo", "--export", "o")
    assert calls.given("check_target") == (Path("o"),)
    assert calls.given("export_dataset")[-1] == Path("o")
    calls.made.clear()
    calls.type("hierarchy", "demo", "--print-config")
    assert calls.made == {}


def test_sweep(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = SimpleNamespace(run_id="id")
    outcome = SimpleNamespace(
        storage=SimpleNamespace(uri="there"), tracker=tracker, records=[], failed=[]
    )
    engine = "lhs.engine.tuning"
    calls.replace(f"{engine}.sweep.run_sweep", outcome)
    calls.replace(f"{engine}.sweep.clean_sweep", 2)
    calls.replace(f"{engine}.results.write_results", "page")
    calls.replace(f"{engine}.results.print_results")
    calls.replace("lhs.engine.cache.Stages")
    calls.replace("lhs.engine.graph.annotated_scenes")
    file = str(PROJECT / "tune" / "region.py")
    common = ("sweep", file, "--recipe", "demo", "--name", "mine", "--set", "train.seed=3")
    calls.type(*common, "--trials-at-once", "2", "--keep", "kept", "--resume", "--json")
    name, recipe, trials, resume, until, at_once, keep, _ = calls.given("run_sweep")
    assert (name, recipe, resume, until, at_once) == ("mine", "demo", True, "evaluation", 2)
    assert keep == "kept"
    assert {trial.config.train.seed for trial in trials} == {3}
    assert json.loads(capsys.readouterr().out) == {"run_id": "id", "trials": []}
    calls.type("sweep", file, "--recipe", "demo", "--until", "hierarchy")
    name, recipe, _, resume, until, at_once, keep, _ = calls.given("run_sweep")
    assert (name, resume, until, at_once, keep) == ("region", False, "hierarchy", None, "")
    calls.type(*common, "--clean")
    assert calls.given("clean_sweep")[1] == "mine"


def test_a_place_of_kept_trials_that_is_a_file(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.replace("lhs.engine.tuning.sweep.run_sweep")
    (tmp_path / "afile").touch()
    for keep in (tmp_path / "afile", tmp_path / "afile" / "x"):
        command = ["sweep", str(PROJECT / "tune" / "region.py"), "--recipe", "demo"]
        assert main([*command, "--keep", str(keep)]) == 2
        told = f"lhs: --keep {keep}: {tmp_path / 'afile'} is a file, needed is a folder\n"
        assert capsys.readouterr().err == told
    assert calls.made == {}


def test_report_and_tables(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = tmp_path / "table.md", tmp_path / "page.md"
    (tmp_path / "s").mkdir()
    table.write_text("a table")
    page.write_text("before")
    calls.replace("lhs.engine.tracking.comparison.compare_runs", "the page")
    calls.replace("lhs.engine.tracking.comparison.write_tables", [table])
    calls.replace("lhs.engine.tracking.keeping.keep_runs", [table])
    evidence = {"toy": SimpleNamespace(contrasts=["a contrast"])}
    calls.replace("lhs.report.contrasts.read_evidence", evidence)
    calls.replace("lhs.report.evidence_tables.evidence_tables", {"toy": "its tables"})
    calls.replace("lhs.report.evidence_tables.page_with", "after")
    calls.replace("lhs.report.figures.contrasts", "a figure")
    calls.replace("lhs.report.figures.to_png", b"drawn")
    calls.type("report", "one", "two", "--storage", str(tmp_path / "s"))
    storage, runs = calls.given("compare_runs")
    assert (storage.root, runs) == (str(tmp_path / "s"), ["one", "two"])
    calls.type(
        "tables", "one", "two", "--storage", str(tmp_path / "s"), "--out", str(tmp_path / "o")
    )
    storage, runs, out = calls.given("write_tables")
    assert (storage.root, runs, out) == (str(tmp_path / "s"), ["one", "two"], tmp_path / "o")
    calls.type("tables", "one", "--storage", str(tmp_path / "s"), "--keep", str(tmp_path / "k"))
    storage, runs, out = calls.given("keep_runs")
    assert (storage.root, runs, out) == (str(tmp_path / "s"), ["one"], tmp_path / "k")
    calls.type("tables", str(tmp_path), "--page", str(page))
    assert calls.given("read_evidence") == (tmp_path,)
    assert calls.given("evidence_tables") == (evidence,)
    assert calls.given("page_with") == ("before", {"toy": "its tables"})
    assert calls.given("contrasts") == ({"toy": ["a contrast"]},)
    assert calls.given("to_png") == ("a figure",)
    assert page.read_text() == "after"
    assert page.with_suffix(".png").read_bytes() == b"drawn"
    for words in ([str(tmp_path)], ["one", "--keep", str(tmp_path / "k")]):
        capsys.readouterr()
        assert main(["tables", *words, "--out", str(tmp_path / "o")]) == 2
        assert f"--out {tmp_path / 'o'}: has no effect" in capsys.readouterr().err


def test_mend(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    calls.replace("lhs.engine.tracking.moved.mend", (2, 1))
    calls.type("mend", "--storage", str(tmp_path))
    (uri,) = calls.given("mend")
    assert uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["mended", "2"], ["left", "1"],
    ]  # fmt: skip
    monkeypatch.setenv("LHS_STORAGE", str(tmp_path))
    calls.type("mend")
    assert calls.given("mend") == (uri,)
    capsys.readouterr()
    file, missing = tmp_path / "file", tmp_path / "nothere"
    file.touch()
    for place, told in ((missing, "no such folder"), (file, "found a file, needed is a folder")):
        for words in (["mend"], ["report", "x"], ["tables", "x"]):
            assert main([*words, "--storage", str(place)]) == 2
            assert capsys.readouterr().err == f"lhs: --storage {place}: {told}\n"
    assert not missing.exists()


def test_data(calls: Calls) -> None:
    for name in ("get", "check", "show"):
        calls.replace(f"lhs.data.commands.{name}", 0)
    calls.type("data", "get", "stanford", "--archive", "a.tar.gz", "--data-root", "/there")
    assert calls.given("get") == ("stanford", "a.tar.gz", "/there")
    setting = ("--set", "data.synthetic.train=3")
    calls.type("data", "check", "synthetic", "--data-root", "/there", *setting)
    (config,) = calls.given("check")
    assert (config.dataset, config.root, config.synthetic.train) == ("synthetic", "/there", 3)
    calls.type("data", "show", "synthetic", "--data-root", "/there", *setting, "--json")
    config, as_json = calls.given("show")
    assert (config.root, config.synthetic.train, as_json) == ("/there", 3, True)


def commands(
    top: argparse.ArgumentParser, prefix: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield prefix.strip(), top
    for group in groups:
        for name, below in group.choices.items():
            yield from commands(below, f"{prefix} {name}")


def known() -> set[tuple[str, str]]:
    """Every command and option."""
    return {
        (name, option)
        for name, command in commands(parser())
        for action in command._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }


def test_every_command_has_a_test() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    for command, _ in known():
        assert f"_{command.split()[0]}" in tests
