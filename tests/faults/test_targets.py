"""The functions in which processes are halted are there: one that was renamed would never halt."""

from __future__ import annotations

import functools
import importlib

import pytest

from tests.faults.cases import STAGES

TARGETS = sorted({target for stage in STAGES for target in (stage.target, stage.on_node) if target})


@pytest.mark.parametrize("target", TARGETS)
def test_there_is_such_a_function(target: str) -> None:
    module, _, path = target.partition(":")
    assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module)))
