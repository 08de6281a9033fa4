"""Which tests run where `-m` says little: none that kills nodes, mounts disks or takes minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import SEPARATE, pytest_collection_modifyitems

PROJECT = Path(__file__).parents[1]


class Marked:
    """A test with one mark."""

    def __init__(self, name: str) -> None:
        self.name = name

    def iter_markers(self) -> list[Any]:
        return [SimpleNamespace(name=self.name)]


def chosen(expression: str) -> list[str]:
    """Of tests with one mark each, those that our own hook leaves."""
    items: Any = [Marked(name) for name in ("ray", *SEPARATE)]
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression), hook=hook)
    pytest_collection_modifyitems(config, items)
    return [item.name for item in items]


def test_what_runs_apart_runs_only_where_it_is_named() -> None:
    assert chosen("") == chosen("not real") == ["ray"]
    for mark in SEPARATE:
        assert chosen(mark) == ["ray", mark]
    assert chosen("slow or faults") == ["ray", "faults", "slow"]


@pytest.mark.thorough
def test_without_ray_no_fault_is_tried() -> None:
    """With the one option that people give, whose `-m` takes the place of any in pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not ray", "tests/faults"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == {"tests/faults/test_targets.py"}, done.stdout + done.stderr
    deselected = re.search(r"(\d+) deselected", done.stdout)
    assert deselected is not None
    assert int(deselected[1]) > 100
