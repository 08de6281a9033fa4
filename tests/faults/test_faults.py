"""Every fault at every stage; `pytest -m faults`, or `python -m tests.faults` for the table.

Not among the tests that run by default: each of the hundred and more takes about a minute.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cases import Stage
from tests.faults.references import References
from tests.faults.trying import attempt, cases, needs_root

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(
    ("stage", "fault"), [pytest.param(s, f, id=f"{s.name}-{f}") for s, f in cases()]
)
def test_it_goes_on_or_says_why_and_ends_as_undisturbed(
    references: References, tmp_path: Path, stage: Stage, fault: str
) -> None:
    if needs_root(fault):
        pytest.skip("only root can mount a small disk")
    attempt(stage, fault, references, tmp_path)
