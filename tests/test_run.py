"""The command line: exit codes, messages, log lines."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lhs
from lhs import loading
from lhs.cli.recipe_list import OWN
from lhs.loading import load_config, recipes
from lhs.run import main


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that ends with a user error."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("lhs: ")
    return captured.err


def test_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    printed = error_of(capsys, "run", "nosuch")
    assert "unknown recipe 'nosuch'" in printed
    assert all(name in printed for name in recipes())
    assert "did you mean" in error_of(capsys, "hierarchy", "dem")
    assert "did you mean stanford-lite-h-lc" in error_of(capsys, "run", "stanford-lite-hlc")
    assert "did you mean demo" in error_of(capsys, "run", "recipes/demos.yaml")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("hierarchy.rho=0", ["hierarchy.rho = 0", "greater than 0"]),
        ("hierarchy.rho=1.5", ["hierarchy.rho = 1.5", "less than or equal to 1"]),
        ("hierarchy.region=128", ["hierarchy.region = 128", "odd"]),
        ("hierarchy.rh=0.9", ["unknown key 'hierarchy.rh'", "hierarchy.rho"]),
        ("hierarchy.rho", ["key=value"]),
        ("train.batchsize=1", ["unknown key 'train.batchsize'", "did you mean train.batch_size?"]),
        ("batch_size=1", ["unknown key 'batch_size'", "did you mean train.batch_size?"]),
        ("trian.batch_size=1", ["'trian.batch_size'", "did you mean train.batch_size?"]),
        ("train.learning_rate=1", ["did you mean train.", "baseline.all_layers.learning_rate"]),
        ("rhoo=1", ["unknown key 'rhoo'", "did you mean hierarchy.rho"]),
        ("hierarchy.qqqq=1", ["allowed are hierarchy.", "hierarchy.rho"]),
        ("train.strategy=best", ["train.strategy = 'best'", "'baseline'"]),
    ],
)
def test_settings_out_of_range(
    capsys: pytest.CaptureFixture[str], setting: str, named: list[str]
) -> None:
    text = error_of(capsys, "run", "demo", "--set", setting)
    assert all(part in text for part in named), text


def test_a_dataset_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed = error_of(capsys, "data", "show", "siftflow", "--data-root", str(tmp_path))
    assert str(tmp_path / "siftflow") in printed
    assert "lhs data get siftflow" in printed
    missing = str(tmp_path / "missing.tar.gz")
    printed = error_of(
        capsys, "data", "get", "siftflow", "--archive", missing, "--data-root", str(tmp_path)
    )
    assert missing in printed


def test_data_of_the_embedded_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [f"--set=data.synthetic.{key}" for key in ("train=3", "test=2", "height=64", "width=80")]
    assert main(["data", "show", "synthetic", *sets]) == 0
    assert "sky" in capsys.readouterr().out
    # Three images do not show every class.
    assert main(["data", "check", "synthetic", *sets]) == 1
    assert "error: synthetic: no train pixel of class" in capsys.readouterr().out


@pytest.mark.thorough
def test_printed_config_is_a_recipe_that_prints_itself(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in recipes():
        arguments = [name, "--set", "hierarchy.region=inf", "--set", "train.max_steps=7"]
        assert main(["run", *arguments, "--print-config"]) == 0
        text = capsys.readouterr().out
        path = tmp_path / "printed.yaml"
        path.write_text(text)
        for command in ("run", "hierarchy"):
            assert main([command, str(path), "--print-config"]) == 0
            assert capsys.readouterr().out == text
        assert load_config(str(path)) == load_config(name, arguments[2::2])


def test_recipes_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith("  ")]
    assert [head.split(":")[0] for head in heads] == [
        "synthetic", "folder", "barcelona", "lmsun", "siftflow", "stanford",
    ]  # fmt: skip
    assert heads[-1] == "stanford: needs `lhs data get stanford`"
    below = [re.split("  +", line.strip()) for line in lines if line.startswith("  ")]
    assert sorted(name for name, _, _ in below) == sorted(recipes())
    costs = {name: cost for name, cost, _ in below}
    assert all(costs.values()), "a recipe's header says its cost"
    assert costs["demo"] == "about 5 minutes on two cores"
    # Said by the recipe that it extends.
    assert costs["barcelona-overfeat-s-lc"] == "a GPU with 8 GB for days"
    assert [name for name, cost in costs.items() if cost == OWN] == ["folder"]
    first = {name for name, _, text in below if text.endswith("its baseline comes first")}
    assert {"demo", "lmsun-overfeat-h-lc"} <= first
    assert "siftflow-lite-h-lc" not in first


@pytest.mark.parametrize("arguments", [[], ["run", "--nosuch"], ["data"], ["data", "get", "x"]])
def test_what_argparse_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: lhs" in capsys.readouterr().err


def test_the_nearest_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, near in (
        (["predit", "m", "x"], "predict"),
        (["data", "chek", "synthetic"], "check"),
        (["data", "show", "sintetic"], "synthetic"),
        (["export", "m", "--format", "onxx"], "onnx"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert f"did you mean {near}?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["zzzzzz"])
    assert "did you mean" not in capsys.readouterr().err


def test_version_and_first_example(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, shown in (
        (["--version"], f"lhs {lhs.__version__}\n"),
        (["--help"], "lhs run demo"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert shown in capsys.readouterr().out


def test_a_recipe_from_the_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(text: str) -> None:
        loading._stdin.cache_clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    given("extends: demo\nhierarchy: {rho: 0.77}\n")
    assert main(["run", "-", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["hierarchy"]["rho"] == 0.77
    assert printed["data"] == load_config("demo").model_dump(mode="json")["data"]
    given("hierarchy: {rho: 7}\n")
    assert "recipe -:\n  hierarchy.rho = 7" in error_of(capsys, "run", "-")
    given("[1")
    assert "/dev/stdin: not readable as YAML" in error_of(capsys, "hierarchy", "-")
    # Only what is typed may read it.
    given("extends: '-'\n")
    assert "unknown recipe '-'" in error_of(capsys, "run", "-")
    loading._stdin.cache_clear()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("lhs pre", "predict"),
        ("lhs run stanford-lite-", "stanford-lite-"),
        ("lhs data show syn", "synthetic"),
    ],
)
def test_completion_in_a_shell(typed: str, offered: str, tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    found = tmp_path / "found"
    subprocess.run(
        [sys.executable, "-m", "lhs"],
        env=os.environ | {
            "_ARGCOMPLETE": "1", "COMP_LINE": typed, "COMP_POINT": str(len(typed)),
            "_ARGCOMPLETE_STDOUT_FILENAME": str(found), "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        },
        check=True,
    )  # fmt: skip
    names = found.read_text().split("\x0b")
    assert all(name.startswith(typed.split()[-1]) for name in names)
    if offered == "stanford-lite-":
        assert names == [name for name in recipes() if name.startswith(offered)]
    else:
        assert names == [offered]


PROJECT = Path(__file__).parents[1]
ONE_VALUE = [
    f"--set=train.{setting}" for setting in ("batch_size=1", "crop_height=32", "crop_width=32")
]


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["run", "demo"], {"LHS_STORAGE": "{}/a?b"}, "found ? in its path"),
        (["hierarchy", "demo"], {"LHS_STORAGE": "{}/a%b"}, "found % in its path"),
        (["run", "demo"], {"LHS_STORAGE": "{}/file/x"}, "a part of the path is a file"),
        (["run", "demo", "--set", "train.gpu=true"], {}, "the cluster has no GPU"),
        (["run", "demo", "--set", "train.workers=99", "--set", "train.batch_size=99"], {},
         "the cluster has"),
        (["run", "siftflow-lite-baseline"], {"LHS_DATA_ROOT": "{}"}, "lhs data get siftflow"),
        (["run", "demo", "--set", "network.weights=file", "--set", "network.weights_file=/no.pt"],
         {}, "/no.pt"),
        (["predict", "{}/none", "{}/file", "--out", "{}/out"], {}, "none: no such folder"),
        (["predict", "{}", "{}/x.png", "--out", "{}/out"], {}, "no such file: "),
        (["evaluate", "{}/none", "--dataset", "synthetic"], {}, "none: no such folder"),
        (["run", "demo"], {"RAY_ADDRESS": "127.0.0.1:9"}, "RAY_ADDRESS = 127.0.0.1:9: does not"),
        (["run", "demo"], {"RAY_ADDRESS": "somewhere"}, "allowed is HOST:PORT"),
        (["run", "demo"], {"TMPDIR": "{}/" + 60 * "x"}, "too many for Ray's sockets"),
        (["run", "demo", *ONE_VALUE], {}, "batch norm"),
        (["sweep", str(PROJECT / "tune/region.py"), "--recipe", "demo", *ONE_VALUE], {},
         "batch norm"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_ray_starts(
    arguments: list[str], variables: dict[str, str], told: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def init(*arguments: object, **settings: object) -> None:
        raise AssertionError("Ray starts")

    monkeypatch.setattr("ray.init", init)
    # Other tests' Ray may run in this process.
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    (tmp_path / "file").write_text("")
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "LHS_DATA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    given = {"LHS_STORAGE": "{}/results", "CUDA_VISIBLE_DEVICES": ""} | variables
    for key, value in given.items():
        monkeypatch.setenv(key, value.format(tmp_path))
    if "TMPDIR" in variables:
        Path(os.environ["TMPDIR"]).mkdir()
        monkeypatch.setattr("tempfile.tempdir", None)
    assert main([part.format(tmp_path) for part in arguments]) == 2
    assert told in capsys.readouterr().err


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr("lhs.cli.experiments.recipes", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["recipes"])


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lhs.cli.experiments.recipes", stopped)
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "lhs: stopped; the same command goes on\n"
    monkeypatch.setattr("lhs.cli.sweeps.sweep", stopped)
    for arguments, what in (([], " with --resume"), (["--resume"], "")):
        assert main(["sweep", "x.py", *arguments]) == 130
        assert capsys.readouterr().err == f"lhs: stopped; the same command{what} goes on\n"


def test_log_lines_go_to_stderr_while_a_command_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("lhs")
    before = logger.handlers[:], logger.level, logger.propagate

    def command(options: object) -> int:
        logger.info("one line")
        logging.getLogger("lhs.data").warning("a warning")
        logger.debug("not this")
        return 0

    monkeypatch.setattr("lhs.cli.experiments.recipes", command)
    assert main(["recipes"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "one line\na warning\n"
    assert captured.out == ""
    assert (logger.handlers, logger.level, logger.propagate) == before


HEAVY = "{'ray', 'torch', 'mlflow', 'numpy', 'pydantic', 'rich'}"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("argument", "unbuffered"), [("recipes", ""), ("recipes", "1"), ("--help", "")]
)
def test_a_reader_that_goes_is_no_error(argument: str, unbuffered: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lhs.run", argument],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        printed = process.stderr.read()
    assert printed == b""
    assert process.returncode == 141


def test_a_pipe_that_breaks_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise BrokenPipeError("a server's")

    monkeypatch.setattr("lhs.cli.experiments.recipes", broken)
    with pytest.raises(BrokenPipeError, match="a server's"):
        main(["recipes"])


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
try:
    from lhs.run import main
    main(["--help"])
except SystemExit:
    print({HEAVY} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "usage: lhs" in done.stdout
    assert done.stdout.rstrip().endswith("set()")


@pytest.mark.thorough
def test_as_a_script_and_as_a_lone_copy(tmp_path: Path) -> None:
    """`ray submit` copies run.py alone; its folder must not hide what it imports."""
    script = Path(__file__).parents[1] / "lhs" / "run.py"
    copy = tmp_path / "run.py"
    copy.write_bytes(script.read_bytes())
    for command in ([str(script)], [str(copy)], ["-m", "lhs.run"], ["-m", "lhs"]):
        done = subprocess.run(
            [sys.executable, *command, "run", "nosuch"],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("lhs: unknown recipe 'nosuch'")
        assert "Traceback" not in done.stderr
