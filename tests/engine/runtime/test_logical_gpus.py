"""A cluster may book GPUs where there is no card: all runs there, on CPUs, as without them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lhs.engine.runtime.cluster import QUIET
from tests.engine.conftest import isolated

pytestmark = [
    pytest.mark.ray,
    # Both sides run in the first test that asks for them.
    pytest.mark.timeout(1800),
    pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a card"),
]

PROJECT = Path(__file__).parents[3]
STAND_IN = Path(__file__).parent / "stand_in"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stand-in notes its fits."""
    return tmp_path_factory.mktemp("fits")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, fits: Path) -> dict[int, dict[str, Any]]:
    """What came out with no GPU and with two logical ones; each a Ray of its own."""
    own = {**QUIET, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    # cuML's own call, wherever a process makes it: nothing of the program is replaced.
    stand_in = {"PYTHONPATH": str(STAND_IN), "LHS_TEST_FITS": str(fits)}
    found = {}
    for gpus, more in ((0, {}), (2, stand_in)):
        folder = tmp_path_factory.mktemp(f"gpus-{gpus}")
        module = "tests.engine.runtime.logical_gpus"
        done = subprocess.run(
            [sys.executable, "-m", module, str(folder), str(gpus)],
            cwd=PROJECT, env=isolated(**own, **more), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        found[gpus] = json.loads((folder / "results.json").read_text())
    return found


def found(results: dict[str, Any], part: str) -> dict[str, Any]:
    assert "found" in results[part], results[part]["failed"]
    return dict(results[part]["found"])


def test_cuda_only_where_a_gpu_was_booked_and_a_card_is_seen(
    sides: dict[int, dict[str, Any]],
) -> None:
    """Without a card and with one."""
    assert found(sides[2], "devices") == {"0 booked": ["cpu", "cpu"], "1 booked": ["cpu", "cuda"]}


@pytest.mark.parametrize("part", ["predict", "embedding", "sweep", "patches"])
def test_as_on_cpus(sides: dict[int, dict[str, Any]], part: str) -> None:
    same(sides, part)


def test_lhs_evaluate_is_not_refused(sides: dict[int, dict[str, Any]]) -> None:
    """Ray Data takes no GPUs without a number of rows a batch."""
    same(sides, "evaluate")


def same(sides: dict[int, dict[str, Any]], part: str) -> None:
    expected, scores = found(sides[0], part), found(sides[2], part)
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=TOLERANCE), name


def test_label_clusters_were_made_by_what_stands_for_cuml(
    sides: dict[int, dict[str, Any]], fits: Path
) -> None:
    found(sides[2], "sweep")
    devices = {device for path in fits.iterdir() for device in path.read_text().split()}
    # Each in a process that booked a GPU.
    assert devices
    assert devices <= {"0", "1"}
