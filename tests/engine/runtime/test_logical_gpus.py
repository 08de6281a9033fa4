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
from tests.engine.runtime import logical_gpus

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
    # cuML's own call, wherever a process makes it: nothing of the program is replaced.
    stand_in = {"PYTHONPATH": str(STAND_IN), "LHS_TEST_FITS": str(fits)}
    return {
        gpus: came_out(tmp_path_factory.mktemp(f"gpus-{gpus}"), gpus, **more)
        for gpus, more in ((0, {}), (2, stand_in))
    }


def came_out(folder: Path, gpus: int, *parts: str, **more: str) -> dict[str, Any]:
    """What parts, or all, give on a Ray of their own with so many logical GPUs."""
    own = {**QUIET, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.runtime.logical_gpus", str(folder), str(gpus), *parts],
        cwd=PROJECT, env=isolated(**own, **more), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return dict(json.loads((folder / "results.json").read_text()))


def found(results: dict[str, Any], part: str) -> dict[str, Any]:
    assert "found" in results[part], results[part]["failed"]
    return dict(results[part]["found"])


@pytest.mark.slow
def test_devices_and_an_evaluation(cluster: None, tmp_path: Path) -> None:
    """The pool of models on two logical GPUs scores as it does on CPUs, here; and CUDA is taken
    only where a GPU was booked and a card is seen: without a card and with one."""
    (tmp_path / "gpus").mkdir()
    there = came_out(tmp_path / "gpus", 2, "devices", "evaluate")
    assert found(there, "devices") == {"0 booked": ["cpu", "cpu"], "1 booked": ["cpu", "cuda"]}
    # Ray Data takes no GPUs without a number of rows a batch.
    alike(found(there, "evaluate"), logical_gpus.evaluate(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["evaluate", "predict", "embedding", "sweep", "patches"])
def test_as_on_cpus(sides: dict[int, dict[str, Any]], part: str) -> None:
    alike(found(sides[2], part), found(sides[0], part))


def alike(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=TOLERANCE), name


@pytest.mark.slow
def test_label_clusters_were_made_by_what_stands_for_cuml(
    sides: dict[int, dict[str, Any]], fits: Path
) -> None:
    found(sides[2], "sweep")
    devices = {device for path in fits.iterdir() for device in path.read_text().split()}
    # Each in a process that booked a GPU.
    assert devices
    assert devices <= {"0", "1"}
