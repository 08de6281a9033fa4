"""One Ray for the session, and one tiny experiment that most tests look at."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lhs.config import Config
from lhs.engine import graph, pipeline
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.graph import HIERARCHY, annotated_scenes
from lhs.engine.pipeline import Outcome
from lhs.engine.stage import Stage, StageResult
from lhs.engine.stages import scenes
from lhs.engine.storage import Storage
from lhs.loading import build_config

NAME = "tiny"


def tiny(storage: Path | str, **changes: Any) -> Config:
    """The tiny experiment in a storage; `changes` by dotted name, `__` for the dot."""
    tree: dict[str, Any] = {
        "storage": str(storage),
        "data": {"synthetic": {"train": 24, "test": 8, "height": 64, "width": 80}},
        "context": {"superpixel_size": 100, "variants": 1},
        "hierarchy": {"n_star": 20, "region": 33},
        "network": {"channels": 16},
        "train": {
            "strategy": "hierarchical",
            "batch_size": 4,
            "crop_height": 64,
            "crop_width": 64,
            "max_steps": 12,
        },
        "report": {"baseline": "train", "scenes": 2},
    }
    for name, value in changes.items():
        *parents, last = name.split("__")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return build_config(tree)


@pytest.fixture(scope="session", autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the person's own: no running cluster, no tracking server, no results folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        patch.setenv("LHS_STORAGE", str(tmp_path_factory.mktemp("results")))
        patch.setenv("LHS_DATA_ROOT", str(tmp_path_factory.mktemp("data")))
        patch.setenv("LHS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cluster(own_places: None) -> Iterator[None]:
    """One Ray on this machine, with more CPUs than it has so that nothing waits for another."""
    from lhs.engine.runtime.cluster import QUIET, connected

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(name, value)
        import ray

        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=200_000_000,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            with connected():
                yield
        finally:
            ray.shutdown()


class TrainerHere:
    """Stands for Ray's `TorchTrainer`: the one worker's function, in this process."""

    def __init__(self, worker: Callable[[], None], **settings: Any) -> None:
        assert settings["scaling_config"].num_workers == 1
        self.fit = worker


@contextmanager
def training_here() -> Iterator[None]:
    """Networks train in this process: the half minute in which Ray Train's processes start is left
    to the tests of Ray Train."""
    import torch

    from lhs.engine.runtime import worker
    from lhs.engine.stages import training

    alone = {"get_world_rank": 0, "get_world_size": 1, "get_local_world_size": 1}
    context = SimpleNamespace(**{name: lambda value=value: value for name, value in alone.items()})
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Trainer", TrainerHere)
        train = SimpleNamespace(get_context=lambda: context, report=lambda metrics: None)
        patch.setattr(worker, "ray_train", train)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            gc.unfreeze()


@pytest.fixture
def trained_here() -> Iterator[None]:
    """`training_here` for a test."""
    with training_here():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of the tiny experiment."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def finished(cluster: None, folder: Path) -> list[Outcome]:
    """The tiny experiment: its baseline and itself."""
    return pipeline.run(tiny(folder), NAME)


@pytest.fixture(scope="session")
def outcome(finished: list[Outcome]) -> Outcome:
    """The tiny experiment itself."""
    return finished[-1]


@pytest.fixture(scope="session")
def prepared(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tiny experiment up to the hierarchy, elsewhere, its work cut into other pieces."""
    config = tiny(tmp_path_factory.mktemp("prepared"))
    stages = Stages(Storage(config.storage))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "BLOCK", 5)
        hierarchy = stages.make(HIERARCHY, config)
    checked = annotated_scenes(stages, config)
    return SimpleNamespace(config=config, stages=stages, scenes=checked, hierarchy=hierarchy)


def stage(stages: Stages, name: str) -> StageResult:
    """The result of a stage of a run."""
    return next(result for result in stages.done if result.name == name)


def declared(
    build: Callable[[str], dict[str, Any]],
    settings: Mapping[str, Any] | None = None,
    sources: Mapping[str, str] | None = None,
    name: str = "samples",
) -> Stage:
    """A stage by itself, whose builder gets nothing but its folder."""
    return Stage(
        name=name,
        settings=lambda config: dict(settings or {}),
        sources=lambda config: dict(sources or {}),
        build=lambda work, path: build(path),
    )


def pretend(stages: Stages, stage: Stage, config: Config, **facts: Any) -> Path:
    """Leave a result in the storage as if it had been made; its folder."""
    key = stages.key(stage, config)
    assert not key.pending
    path = stages.storage.path("stages", stage.name, key.digest)
    stages.storage.make_folder(path)
    stages.storage.write_json(f"{path}/{SUCCESS}", {"facts": facts, "seconds": 1.0})
    return Path(path)


@pytest.fixture
def checked_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Stages that hold every dataset for checked, which other stages see as the word `scenes`."""

    def build(work: object, path: str) -> dict[str, Any]:
        raise AssertionError("scenes are there")

    monkeypatch.setattr(graph, "SCENES", Stage(name="scenes", build=build))
    monkeypatch.setattr(graph, "checked_key", lambda result: "scenes")
    stages = Stages(Storage(str(tmp_path / "checked")))
    pretend(stages, graph.SCENES, Config(), problems={})
    return stages


def isolated(**more: str) -> dict[str, str]:
    """The environment of a process that must not find this session's Ray or tracking store."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
    return {**kept, **more}
