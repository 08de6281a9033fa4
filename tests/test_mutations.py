"""The mutations of `python -m tests.mutations` still fit the code, and are told apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, PROJECT, Mutation, survivors


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_it_matches_once_and_names_tests_that_are_there(mutation: Mutation) -> None:
    changed = mutation.applied(PROJECT)
    assert changed != (PROJECT / "lhs" / mutation.file).read_text(encoding="utf-8")
    ast.parse(changed)
    assert mutation.tests
    for test in mutation.tests:
        assert (PROJECT / test.partition("::")[0]).is_file()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project of one function and its test."""
    (tmp_path / "lhs").mkdir()
    (tmp_path / "lhs" / "__init__.py").touch()
    (tmp_path / "lhs" / "sums.py").write_text("def total(a, b):\n    c = 0\n    return a + b\n")
    test = "from lhs.sums import total\n\ndef test_total():\n    assert total(2, 3) == 5\n"
    (tmp_path / "test_sums.py").write_text(test)
    return tmp_path


def change(old: str, new: str) -> Mutation:
    return Mutation(f"{old} is {new}", "sums.py", old, new, ("test_sums.py",))


@pytest.mark.thorough
def test_what_no_test_notices_survives(small: Path) -> None:
    noticed, unnoticed = change("a + b", "a - b"), change("c = 0", "c = 1")
    before = (small / "lhs" / "sums.py").read_text()
    assert survivors(small, (noticed, unnoticed)) == ["c = 0 is c = 1"]
    assert (small / "lhs" / "sums.py").read_text() == before
    with pytest.raises(ValueError, match="has 0 x 'd = 0'"):
        survivors(small, (change("d = 0", "d = 1"),))
    (small / "lhs" / "sums.py").write_text("def total(a, b):\n    return 0\n")
    with pytest.raises(RuntimeError, match="the tests fail as it is"):
        survivors(small, (noticed,))
