"""The README tells of every command, and what it shows to type is understood."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lhs.loading import load_config, recipes
from lhs.run import parser

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TYPED = sorted(
    {
        line.split("#")[0].split(" > ")[0].strip()
        for _, block in BLOCKS
        for line in block.splitlines()
        if line.startswith("lhs ")
    }
)


def commands(top: argparse.ArgumentParser, prefix: str = "lhs") -> Iterator[str]:
    """Every command that can be typed, such as `lhs data get`."""
    groups = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield prefix
    for group in groups:
        for name, below in group.choices.items():
            yield from commands(below, f"{prefix} {name}")


@pytest.mark.parametrize("command", list(commands(parser())))
def test_every_command_is_told_of(command: str) -> None:
    assert f"`{command}" in README


@pytest.mark.parametrize("line", TYPED)
def test_what_is_shown_is_understood(line: str) -> None:
    words = shlex.split(line.replace("RUN_ID", "abc"))[1:]
    options = parser().parse_args(words)
    settings = getattr(options, "set", [])
    if words[0] in ("run", "hierarchy") and options.recipe in recipes():
        load_config(options.recipe, settings)


def test_python_is_python() -> None:
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert blocks
    for text in blocks:
        compile(text, "README.md", "exec")


def test_named_files_are_there() -> None:
    top = Path(__file__).parents[1]
    named = re.findall(r"`((?:lhs|benchmarks|tests)/[\w/.]*)`", README)
    assert "lhs/engine/graph.py" in named
    missing = [name for name in named if not (top / name).exists()]
    assert missing == []
    assert not re.search(r"[A-Z]{4,}_(OUTPUT|SECTION)", README)
