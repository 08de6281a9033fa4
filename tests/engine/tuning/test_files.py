"""Every file of `tune/` as a command: its first and its last trial, of the ablations all, on a few
tiny scenes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lhs.loading import load_config
from lhs.run import main
from lhs.sweeps import Search, Sweep, read_sweep
from tests.engine.tuning.test_evidence import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

FOLDER = Path(__file__).parents[3] / "tune"
# `evidence.py` has tests of its own.
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "evidence")
FEWER = """
import runpy
from dataclasses import replace

whole = runpy.run_path({path!r})["SWEEP"]
if hasattr(whole, "count"):
    SWEEP = replace(whole, count=2)
elif whole.name == "ablations":
    # Each trial is a way through the engine that nothing else takes.
    SWEEP = whole
else:
    SWEEP = replace(whole, trials=[whole.trials[0], whole.trials[-1]])
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_ends_with_a_table_of_its_trials(path: Path, cluster: None, tmp_path: Path) -> None:
    found = read_sweep(str(path))
    assert isinstance(found, Sweep | Search)
    strategy = load_config(found.recipe).train.strategy
    changes = [found.space] if isinstance(found, Search) else found.trials
    varied = {name for one in changes for name in one}
    # What the sweep varies, and what its strategy does not use, can't be set.
    unused = ("hierarchy.", "context.") if strategy == "baseline" else ()
    small = [
        text for text in SMALL
        if text.partition("=")[0] not in varied and not text.startswith(unused)
    ]  # fmt: skip
    settings = [*small, f"storage={tmp_path / 'storage'}", f"train.strategy={strategy}"]
    if "data.held_out" in found.always:
        settings.append("data.held_out=4")
    given = [text for key in settings for text in ("--set", key)]
    (tmp_path / "fewer.py").write_text(FEWER.format(path=str(path)))
    command = ["sweep", str(tmp_path / "fewer.py"), "--recipe", "demo", "--name", "tried"]
    assert main([*command, *given]) == 0
    [summary] = (tmp_path / "storage" / "sweeps").rglob("summary.csv")
    table = pd.read_csv(summary)
    whole = isinstance(found, Sweep) and found.name == "ablations"
    assert len(table) == (len(found.trials) if whole else 2)
    assert table["per_pixel"].between(0, 1).all()
