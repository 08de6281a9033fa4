"""Workers and drivers are killed while a network trains; what comes out in the end is the same."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import ray
import torch

from lhs.config import Config
from lhs.engine import pipeline
from lhs.engine.worker import STATE
from tests.engine.conftest import isolated, tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

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
        train__max_steps=STEPS,
        train__checkpoint_steps=1,
        report__baseline="none",
        report__scenes=0,
    )


@pytest.fixture(scope="module")
def undisturbed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each strategy: the storage of a run that nobody disturbed."""
    folders = {}
    for strategy in PHASES:
        folders[strategy] = tmp_path_factory.mktemp(f"undisturbed-{strategy}")
        pipeline.run(experiment(folders[strategy], strategy), strategy)
    return folders


def weights(storage: Path) -> bytes:
    (path,) = storage.glob("stages/model/*/model/weights.safetensors")
    return path.read_bytes()


def history(storage: Path) -> pd.DataFrame:
    (path,) = storage.glob("stages/model/*/history.parquet")
    return pd.read_parquet(path)


def steps_done(storage: Path) -> int:
    """What the newest checkpoint says, 0 without one."""
    for path in storage.glob(f"stages/model/.training-*/{STATE}"):
        try:
            state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        except FileNotFoundError:
            return 0
        return len(state["history"])
    return 0


def training_worker(driver: subprocess.Popen[str]) -> psutil.Process:
    """The one training worker of this session's Ray, as soon as there is one."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert driver.poll() is None, driver.communicate()[0]
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline() and process.cmdline()[0].startswith("ray::RayTrainWorker"):
                    return process
        time.sleep(0.1)
    raise AssertionError("no training worker in time")


def stop_at(step: int, storage: Path, worker: psutil.Process) -> None:
    """Stop a worker (SIGSTOP) where its newest checkpoint is of that step.

    It stands still while its checkpoint is read: it would finish meanwhile.
    """
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        worker.suspend()
        if steps_done(storage) >= step:
            return
        worker.resume()
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in time, {steps_done(storage)} done")


def start(config: Config, folder: Path) -> subprocess.Popen[str]:
    recipe = folder / "recipe.yaml"
    recipe.write_text(config.yaml(), encoding="utf-8")
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-m", "lhs.run", "run", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=isolated(RAY_ADDRESS=address, RAY_AUTH_MODE="disabled"),
    )


def cases() -> list[tuple[int, str, int, str]]:
    """Ten seeded cases: every phase, every victim, a random step."""
    picked = list(itertools.islice(itertools.cycle(EVERY_PHASE), 10))
    victims = itertools.cycle(VICTIMS)
    return [
        (seed, strategy, phase * STEPS + random.Random(seed).randrange(1, STEPS), next(victims))
        for seed, (strategy, phase) in enumerate(picked)
    ]


@pytest.mark.parametrize(("seed", "strategy", "step", "victim"), cases())
def test_killed_at_a_random_step_it_ends_bit_for_bit_the_same(
    undisturbed: dict[str, Path], tmp_path: Path, seed: int, strategy: str, step: int, victim: str
) -> None:
    storage = tmp_path / "storage"
    without = shutil.ignore_patterns("model", "evaluation", "runs", "mlflow.db*", "mlartifacts")
    shutil.copytree(undisturbed[strategy], storage, ignore=without)
    config = experiment(storage, strategy)
    driver = start(config, tmp_path)
    worker = training_worker(driver)
    stop_at(step, storage, worker)
    if victim in ("driver", "both"):
        os.kill(driver.pid, signal.SIGKILL)
    if victim in ("worker", "both"):
        worker.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.resume()
    text, _ = driver.communicate()
    if victim == "worker":
        assert driver.returncode == 0, text
    else:
        assert driver.returncode == -signal.SIGKILL
        pipeline.run(config, "recipe")
    assert weights(storage) == weights(undisturbed[strategy])
    losses = [history(folder)["loss"].tolist() for folder in (storage, undisturbed[strategy])]
    assert losses[0] == losses[1]
    assert not list(storage.glob("stages/model/.training-*"))
