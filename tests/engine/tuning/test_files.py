"""Every file of `tune/` as a command, on a few tiny scenes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lhs.run import main
from lhs.sweeps import Search, Sweep, read_sweep
from tests.engine.tuning.test_evidence import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

FOLDER = Path(__file__).parents[3] / "tune"
# `evidence.py` has tests of its own.
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "evidence")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_ends_with_a_table_of_its_trials(path: Path, cluster: None, tmp_path: Path) -> None:
    settings = [*SMALL, f"storage={tmp_path}", "train.strategy=hierarchical"]
    found = read_sweep(str(path))
    assert isinstance(found, Sweep | Search)
    if "data.held_out" in found.always:
        settings.append("data.held_out=4")
    given = [text for key in settings for text in ("--set", key)]
    assert main(["sweep", str(path), "--recipe", "demo", "--name", "tried", *given]) == 0
    [summary] = (tmp_path / "sweeps").rglob("summary.csv")
    table = pd.read_csv(summary)
    assert len(table) == (found.count if isinstance(found, Search) else len(found.trials))
    assert table["per_pixel"].between(0, 1).all()
