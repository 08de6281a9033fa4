"""The command line: exit codes, messages, log lines."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("hierarchy.rho=0", ["hierarchy.rho = 0", "greater than 0"]),
        ("hierarchy.rho=1.5", ["hierarchy.rho = 1.5", "less than or equal to 1"]),
        ("hierarchy.region=128", ["hierarchy.region = 128", "odd"]),
        ("hierarchy.rh=0.9", ["unknown key 'hierarchy.rh'", "hierarchy.rho"]),
        ("hierarchy.rho", ["key=value"]),
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
    assert [line.split()[0] for line in lines] == list(recipes())
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("arguments", [[], ["run", "--nosuch"], ["data"], ["data", "get", "x"]])
def test_what_argparse_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: lhs" in capsys.readouterr().err


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
    assert "stopped" in capsys.readouterr().err


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


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    code = f"""
import sys
try:
    from lhs.run import main
    main(["--help"])
except SystemExit:
    print({HEAVY} & set(sys.modules))
"""
    took = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        took.append(time.perf_counter() - started)
        assert "usage: lhs" in done.stdout
        assert done.stdout.rstrip().endswith("set()")
    assert min(took) < 0.5


def test_as_a_script_and_as_a_lone_copy(tmp_path: Path) -> None:
    """`ray submit` copies run.py alone; its folder must not hide what it imports."""
    script = Path(__file__).parents[1] / "lhs" / "run.py"
    copy = tmp_path / "run.py"
    copy.write_bytes(script.read_bytes())
    for command in ([str(script)], [str(copy)], ["-m", "lhs.run"]):
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
