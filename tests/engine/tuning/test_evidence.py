"""The protocol of `tune/evidence.py` on a few tiny scenes, from the sweep to its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from lhs import run
from lhs.evaluation.metrics import scores
from lhs.report.contrasts import read_evidence
from lhs.report.evidence import read_planned, read_runs
from lhs.report.evidence_tables import evidence_tables

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

EVIDENCE = Path(__file__).parents[3] / "tune" / "evidence.py"
SWEEP = """
import runpy
from dataclasses import replace

whole = runpy.run_path({path!r})["SWEEP"][-1]
chosen = [
    (name, trial)
    for name, trial in zip(whole.protocol.variants, whole.trials)
    if name in ({variants!r} or [name]) and trial["train.seed"] < {seeds}
]
names, trials = zip(*chosen)
SWEEP = replace(whole, trials=trials, protocol=replace(whole.protocol, variants=names))
"""
SMALL = (
    "data.synthetic.train=12", "data.synthetic.test=12", "data.synthetic.height=64",
    "data.synthetic.width=80", "context.superpixel_size=100", "hierarchy.region=33",
    "network.channels=16", "train.batch_size=4", "train.crop_height=64", "train.crop_width=64",
    "train.max_steps=4", "report.scenes=0",
)  # fmt: skip


def swept(folder: Path, name: str, variants: list[str], seeds: int) -> int:
    """Run the sweep's trials of some seeds, of some variants or all, into `folder/kept`."""
    path = folder / "some.py"
    path.write_text(SWEEP.format(path=str(EVIDENCE), variants=variants, seeds=seeds))
    settings = [text for key in (f"storage={folder / name}", *SMALL) for text in ("--set", key)]
    kept = str(folder / "kept")
    return run.main(["sweep", str(path), "--name", name, "--keep", kept, *settings])


def test_three_variants_of_two_seeds_and_their_intervals(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(tmp_path, "first", ["baseline-restart", "s-lc", "s-random"], 2) == 0
    runs = read_runs(tmp_path / "kept" / "synthetic")
    assert len(runs) == 6
    assert len(read_planned(tmp_path / "kept" / "synthetic").runs) == 6
    text = evidence_tables(read_evidence(tmp_path / "kept"))["synthetic"]
    assert "Missing" not in text
    for control in ("s-random", "baseline-restart"):
        pair = [
            [scores(run.counts.sum(axis=0)).per_pixel for run in runs if run.variant == variant]
            for variant in ("s-lc", control)
        ]
        low, high = ttest_rel(*pair).confidence_interval(0.95)
        line = next(
            line for line in text.splitlines()
            if line.startswith(f"| s-lc \N{MINUS SIGN} {control} | per pixel")
        )  # fmt: skip
        assert f"| {low:+.4f} to {high:+.4f} |" in line
        assert line.endswith("| 2 seeds |")
    # Another storage, the same evidence: nothing is trained again.
    capsys.readouterr()
    assert swept(tmp_path, "again", ["baseline-restart", "s-lc", "s-random"], 2) == 0
    assert "6 trials are kept in" in capsys.readouterr().err
    assert not (tmp_path / "again" / "stages" / "model").exists()
    assert len(read_runs(tmp_path / "kept" / "synthetic")) == 6


def test_every_variant(cluster: None, tmp_path: Path) -> None:
    assert swept(tmp_path, "whole", [], 1) == 0
    text = evidence_tables(read_evidence(tmp_path / "kept"))["synthetic"]
    assert "Missing" not in text
    for name in ("baseline", "s-sn", "s-ic", "h-lc", "h-random", "h-classes"):
        assert f"| {name} |" in text
