"""Data in a bucket: results of the same data on a disk are reused, and a training is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from lhs.data import open_dataset
from lhs.data.upload import put_folder
from lhs.loading import build_config
from tests.engine.conftest import isolated
from tests.serving import SECRETS, ObjectStore, object_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[3]
SETTINGS = {
    "data.dataset": "folder", "context.variants": 1, "context.superpixel_size": 100,
    "hierarchy.n_star": 10, "hierarchy.region": 33, "train.max_steps": 4, "train.batch_size": 2,
    "train.checkpoint_steps": 1, "network.weights": "none", "report.scenes": 0,
    "report.baseline": "none", "data.allow_empty_classes": "true",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setenv("LHS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with object_store(tmp_path_factory.mktemp("store") / "log") as store:
            yield store


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, store: ObjectStore) -> Path:
    """A folder of small scenes, and its copy in the bucket."""
    folder = tmp_path_factory.mktemp("disk") / "scenes"
    synthetic = {"train": 8, "test": 4, "height": 64, "width": 80}
    data = build_config({"data": {"dataset": "synthetic", "synthetic": synthetic}}).data
    dataset = open_dataset(data)
    for scene in dataset.scenes():
        for kind, pixels in (("images", scene.image()), ("labels", scene.label_map())):
            path = folder / kind / f"{scene.id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(pixels)).save(path)
    (folder / "classes.txt").write_text("\n".join(dataset.classes))
    (folder / "splits").mkdir()
    (folder / "splits" / "test.txt").write_text("\n".join(s.id for s in dataset.split("test")))
    put_folder(folder, store.uri("scenes"))
    return folder


def arguments(command: str, settings: Mapping[str, object]) -> list[str]:
    pairs = [f"{key}={value}" for key, value in settings.items()]
    return [command, "demo", *(text for pair in pairs for text in ("--set", pair))]


def lhs(*words: str, folder: Path, rc: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lhs.run", *words], env=isolated(**SECRETS), cwd=folder, text=True,
        timeout=400, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout[-4000:]
    return done.stdout


def weights(storage: Path) -> bytes:
    (path,) = storage.glob("stages/model/*/model/weights.safetensors")
    return path.read_bytes()


@pytest.mark.slow
def test_hierarchy_run_and_evaluation_are_those_of_the_disk(
    store: ObjectStore, disk: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "results"
    there = {**SETTINGS, "storage": storage, "data.folder.path": store.uri("scenes")}
    here = {**there, "data.folder.path": disk}
    made = lhs(*arguments("hierarchy", there), folder=tmp_path)
    assert "hierarchy: made" in made
    assert "hierarchy: made" not in lhs(*arguments("hierarchy", here), folder=tmp_path)
    lhs(*arguments("run", here), folder=tmp_path)
    again = lhs(*arguments("run", there), folder=tmp_path)
    for stage in ("scenes", "samples", "hierarchy", "model", "evaluation"):
        assert f"{stage}: made" not in again
    (model,) = storage.glob("stages/model/*/model")
    scores = [
        lhs("evaluate", str(model), "--dataset", "folder", "--set", f"data.folder.path={place}",
            folder=tmp_path)
        for place in (disk, store.uri("scenes"))
    ]  # fmt: skip
    assert scores[0].splitlines()[-4:] == scores[1].splitlines()[-4:]


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_weights_of_the_disk(
    store: ObjectStore, disk: Path, tmp_path: Path
) -> None:
    plain = {**SETTINGS, "storage": tmp_path / "plain", "data.folder.path": disk}
    lhs(*arguments("run", plain), folder=tmp_path)
    killed = {**plain, "storage": tmp_path / "killed", "data.folder.path": store.uri("scenes")}
    marker = tmp_path / "halted"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.halting", "lhs.training.trainer:PhaseTrainer._record",
         "3", marker, "0", *arguments("run", killed)],
        env=isolated(**SECRETS), cwd=PROJECT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not marker.exists():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "no worker halted in time"
        time.sleep(0.05)
    worker = psutil.Process(int(marker.read_text()))
    os.kill(driver.pid, signal.SIGKILL)
    worker.kill()
    driver.communicate()
    output = lhs(*arguments("run", killed), folder=tmp_path)
    assert "samples: reused" in output
    assert weights(tmp_path / "killed") == weights(tmp_path / "plain")


def test_a_bucket_that_is_not_there_ends_a_run_at_once(store: ObjectStore, tmp_path: Path) -> None:
    wrong = store.uri("scenes").replace("bucket/", "wrong/", 1)
    settings = {**SETTINGS, "storage": tmp_path / "results", "data.folder.path": wrong}
    started = time.monotonic()
    output = lhs(*arguments("run", settings), folder=tmp_path, rc=2)
    assert time.monotonic() - started < 30
    assert "s3://wrong/scenes" in output
    assert "correct the bucket's name" in output
