"""Workers and drivers are killed while a network trains; what comes out in the end is the same."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import ray

from lhs.config import Config
from lhs.engine import pipeline
from tests.engine.conftest import isolated, tiny, training_here

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[3]
STEPS = 6
PHASES = {
    "baseline": ("new_layers", "all_layers"),
    "sequential": (
        "subclass_new_layers",
        "subclass_all_layers",
        "class_last_layer",
        "class_all_layers",
    ),
    "hierarchical": ("fixed_w", "learned_w"),
}
EVERY_PHASE = [(s, number) for s, names in PHASES.items() for number in range(len(names))]
VICTIMS = ("worker", "driver", "both")


def experiment(storage: Path, strategy: str) -> Config:
    return tiny(
        storage,
        data__synthetic={"train": 12, "test": 2, "height": 64, "width": 80},
        train__strategy=strategy,
        train__baseline={name: {"steps": STEPS} for name in PHASES["baseline"]},
        train__sequential={name: {"steps": STEPS} for name in PHASES["sequential"]},
        train__hierarchical={name: {"steps": STEPS} for name in PHASES["hierarchical"]},
        train__checkpoint_steps=1,
        report__baseline="none",
        report__scenes=0,
    )


@pytest.fixture(scope="module")
def undisturbed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """For a strategy: the storage of a run that nobody disturbed, its training in one process."""

    @functools.cache
    def made(strategy: str) -> Path:
        folder = tmp_path_factory.mktemp(f"undisturbed-{strategy}")
        with training_here():
            pipeline.run(experiment(folder, strategy), strategy)
        return folder

    return made


def weights(storage: Path) -> bytes:
    (path,) = storage.glob("stages/model/*/model/weights.safetensors")
    return path.read_bytes()


def history(storage: Path) -> pd.DataFrame:
    (path,) = storage.glob("stages/model/*/history.parquet")
    return pd.read_parquet(path)


def start(config: Config, step: int, folder: Path) -> subprocess.Popen[str]:
    """A driver whose training worker stands still when so many steps are done."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(config.yaml(), encoding="utf-8")
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.halting", "lhs.training.trainer:PhaseTrainer._record",
         str(step), folder / "halted", "0", "run", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=isolated(RAY_ADDRESS=address, RAY_AUTH_MODE="disabled"),
    )  # fmt: skip


def halted(driver: subprocess.Popen[str], folder: Path) -> psutil.Process:
    """The training worker, once it stands still."""
    deadline = time.monotonic() + 300
    while not (folder / "halted").exists():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "no worker halted in time"
        time.sleep(0.05)
    return psutil.Process(int((folder / "halted").read_text()))


QUICK = (6, 7)
"""Of the cases those without the mark `slow`: H, each step once, a worker and a driver."""


def cases() -> list[Any]:
    """Ten seeded cases: every phase, every victim, a random step."""
    picked = list(itertools.islice(itertools.cycle(EVERY_PHASE), 10))
    victims = itertools.cycle(VICTIMS)
    return [
        pytest.param(
            seed, strategy, phase * STEPS + random.Random(seed).randrange(1, STEPS), next(victims),
            marks=() if seed in QUICK else pytest.mark.slow,
        )
        for seed, (strategy, phase) in enumerate(picked)
    ]  # fmt: skip


@pytest.mark.parametrize(("seed", "strategy", "step", "victim"), cases())
def test_killed_at_a_random_step_it_ends_bit_for_bit_the_same(
    undisturbed: Callable[[str], Path], tmp_path: Path, seed: int, strategy: str, step: int,
    victim: str,
) -> None:  # fmt: skip
    storage, expected = tmp_path / "storage", undisturbed(strategy)
    without = shutil.ignore_patterns("model", "runs", "mlflow.db*", "mlartifacts")
    shutil.copytree(expected, storage, ignore=without)
    config = experiment(storage, strategy)
    driver = start(config, step, tmp_path)
    worker = halted(driver, tmp_path)
    if victim in ("driver", "both"):
        os.kill(driver.pid, signal.SIGKILL)
    if victim in ("worker", "both"):
        worker.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.resume()
    text, _ = driver.communicate()
    if victim != "worker":
        assert driver.returncode == -signal.SIGKILL
        driver = start(config, step, tmp_path)
        text, _ = driver.communicate()
    assert driver.returncode == 0, text
    assert weights(storage) == weights(expected)
    losses = [history(folder)["loss"].tolist() for folder in (storage, expected)]
    assert losses[0] == losses[1]
    assert not list(storage.glob("stages/model/.unfinished-*"))
