"""The benchmark of a GPU runs on CPUs too, on tiny sizes: the same code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import isolated

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[1]
FIGURES = {
    "card": ["torch", "ray", "card", "cuda", "cuml", "cores"],
    "dense": [
        "precision", "matrix product, TMAC/s",
        *(
            f"{name}: {figure}"
            for name in ("squeezenet", "clarifai", "overfeat", "lite", "fcn16s")
            for figure in ("ms", "TMAC", "share of the product rate")
        ),
    ],
    "clustering": [
        f"{rows} rows: {figure}"
        for rows in (30_000, 300_000, 2_000_000)
        for figure in ("sklearn, s", "sklearn, inertia", "inertia, cuML / scikit-learn")
    ],
    "evaluation": ["images/s"],
    "training": [
        f"{case}: {figure}"
        for case in ("lite batch 8", "lite batch 32", "fcn16s batch 10")
        for figure in (
            "images/s under Ray Train", "images/s of the bare loop", "Ray Train / bare loop",
            "share waited",
        )
    ],
    "run": [
        "all, s", "hierarchy, s", "model (baseline), s", "model (hierarchical), s",
        "evaluation (baseline), s", "evaluation (hierarchical), s",
        "evaluation (hierarchical): per pixel",
    ],
    "side by side": ["trainings", "images/s of all"],
    "precision": ["float32: loss", "bfloat16: loss / float32's", "tf32: loss / float32's"],
    "resume": ["workers killed", "equal to the last bit", "largest difference of a weight"],
}  # fmt: skip


def test_all_parts_run_on_a_cpu_and_no_bound_is_checked(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--out", str(out),
         "--minutes", "12", "--data-root", str(tmp_path)],
        cwd=PROJECT, env=isolated(RAY_AUTH_MODE="disabled", OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    table = done.stdout.splitlines()
    figures = json.loads(table[-1])["figures"]
    failures = {name: part["failure"] for name, part in figures["parts"].items()}
    assert failures == dict.fromkeys(FIGURES)
    assert done.returncode == 0
    for part, names in FIGURES.items():
        assert set(names) <= set(figures[part]), part
    assert figures["resume"]["workers killed"] == 1
    assert figures["resume"]["equal to the last bit"]
    not_run = [line for line in table if line.startswith("bound")]
    assert len(not_run) == len(figures["bounds not run"]) == 8
    assert all(line.endswith("not run") for line in not_run)
    # The record has what the last line has.
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    reported = {(line["part"], line["figure"]): line["value"] for line in lines if "figure" in line}
    assert reported == {
        (part, name): value for part in FIGURES for name, value in figures[part].items()
    }
