"""Ray Train: a network through the phases of its strategy, on one CPU or many GPUs."""

from __future__ import annotations

import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch
from ray import train as ray_train
from ray.train.torch import TorchTrainer, get_device

from lhs.config import Config
from lhs.data.scenes import Scene
from lhs.engine import tracking
from lhs.engine.cluster import cores
from lhs.engine.clustering import HIERARCHY_FILE, read_hierarchy
from lhs.engine.progress import EVERY, clock, followed
from lhs.engine.scenes import CheckedScenes
from lhs.engine.stages import StageResult, Stages
from lhs.engine.storage import Storage
from lhs.evaluation.model import ModelDescription, save_model
from lhs.hierarchy import Hierarchy
from lhs.networks.build import build_network
from lhs.training.batches import TrainingScenes, epoch_batches, steps_in_epoch
from lhs.training.loop import History, train

KEEP_MEMORY = {
    # glibc hands large blocks back to the system and takes a page fault for each page of them at
    # the next step: about a sixth of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


@dataclass(frozen=True)
class Work:
    """All that a training worker needs; it travels to every one of them."""

    config: Config
    scenes: tuple[Scene, ...]
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    void: int
    dataset: str
    hierarchy: str | None
    """The hierarchy's folder in the storage."""
    target: str
    """Folder in the storage that the model goes to."""
    tracker: tracking.Tracker
    threads: int


def training_stage(
    stages: Stages,
    config: Config,
    scenes: CheckedScenes,
    hierarchy: StageResult | None,
    tracker: tracking.Tracker,
) -> StageResult:
    """Train the network.

    The folder holds `model/` (see `lhs.evaluation.model`) and `history.parquet`, a row a step.
    """
    settings, inputs = training_slice(config, scenes, hierarchy)
    storage = stages.storage

    def build(path: str) -> dict[str, Any]:
        gpu = wants_gpu(config.train.gpu)
        workers = config.train.workers
        dataset = scenes.dataset
        work = Work(
            config=config,
            scenes=tuple(scenes.split("train")),
            classes=tuple(dataset.classes),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in dataset.colours),
            void=dataset.void,
            dataset=dataset.name,
            hierarchy=None if hierarchy is None else hierarchy.path,
            target=path,
            tracker=tracker,
            threads=max(1, cores() // workers),
        )
        with followed(f"training {config.train.strategy}", 0) as progress:
            trainer = TorchTrainer(
                train_worker,
                train_loop_config={"work": work, "storage": storage, "progress": progress},
                scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=ray_train.RunConfig(
                    # A name of its own: Ray would resume an old run whatever its settings were.
                    name=f"train-{uuid.uuid4().hex[:12]}",
                    storage_path=f"{path}/ray-train",
                    storage_filesystem=storage.filesystem,
                    logging_config=ray_train.LoggingConfig(log_level="ERROR"),
                    worker_runtime_env={"env_vars": KEEP_MEMORY},
                ),
            )
            trainer.fit()
        storage.delete(f"{path}/ray-train")
        return dict(storage.read_json(f"{path}/facts.json"))

    return stages.run("model", settings, inputs, build)


def training_slice(
    config: Config, scenes: CheckedScenes, hierarchy: StageResult | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a trained model depends on: the settings that the strategy uses, and its inputs."""
    settings = config.train.model_dump(mode="json", exclude={"cache_mb", "gpu"})
    lengths = settings[config.train.strategy]
    for strategy in ("baseline", "sequential", "hierarchical"):
        del settings[strategy]
    if config.train.strategy != "hierarchical":
        del settings["alpha"], settings["learn_w"]
    settings |= {"phases": lengths, "network": config.network.model_dump(mode="json")}
    inputs = {"scenes": scenes.key}
    if hierarchy is not None:
        inputs["hierarchy"] = hierarchy.facts["digest"]
    return settings, inputs


def wants_gpu(setting: str) -> bool:
    """Whether workers get a GPU: as set, or (`auto`) where the cluster has one."""
    if setting == "auto":
        return ray.cluster_resources().get("GPU", 0) >= 1
    return setting == "yes"


def train_worker(parts: dict[str, Any]) -> None:
    """One worker of the training; rank 0 writes the model and tells how it goes."""
    work: Work = parts["work"]
    storage: Storage = parts["storage"]
    context = ray_train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    config, train_config = work.config, work.config.train
    if not torch.cuda.is_available():
        torch.set_num_threads(work.threads)
    hierarchy = None
    if work.hierarchy is not None:
        hierarchy = read_hierarchy(storage, work.hierarchy)
    matrix = None if hierarchy is None else torch.from_numpy(hierarchy.matrix())
    scenes = TrainingScenes(work.scenes, hierarchy, train_config.cache_mb)

    torch.manual_seed(train_config.seed)
    network = build_network(config.network, len(work.classes), pretrained=True)
    curves = tracking.Curves(work.tracker)
    voice = _Voice(parts["progress"], curves, train_config.batch_size)
    model, history = train(
        network,
        train_config,
        classes=len(work.classes),
        matrix=matrix,
        void=work.void,
        batches=lambda epoch: epoch_batches(
            scenes,
            train_config,
            void=work.void,
            void_subclass=work.void if hierarchy is None else hierarchy.void_subclass,
            epoch=epoch,
            rank=rank,
            world_size=world,
        ),
        steps_per_epoch=steps_in_epoch(len(scenes), train_config.batch_size),
        device=get_device(),
        on_step=voice if rank == 0 else lambda row, total: None,
    )
    if rank == 0:
        voice.curves.flush()
        outputs = network.last.out_channels
        description = ModelDescription(
            network=config.network,
            strategy=train_config.strategy,
            dataset=work.dataset,
            classes=work.classes,
            colours=work.colours,
            outputs=outputs,
            hierarchy_digest=None if hierarchy is None else hierarchy.digest,
        )
        _write(storage, work, model, description, history, hierarchy)


def _write(
    storage: Storage,
    work: Work,
    model: torch.nn.Module,
    description: ModelDescription,
    history: History,
    hierarchy: Hierarchy | None,
) -> None:
    rows = pd.DataFrame(history)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model").mkdir()
        save_model(folder / "model", model, description)
        (folder / "model" / "config.yaml").write_text(work.config.yaml(), encoding="utf-8")
        if hierarchy is not None:
            hierarchy.save(folder / "model" / HIERARCHY_FILE)
        rows.to_parquet(folder / "history.parquet")
        storage.put_folder(folder, work.target)
    waited = float(rows["waited"].sum() / rows["seconds"].sum())
    facts = {
        "steps": len(rows),
        "final_loss": float(rows["loss"].tail(50).mean()),
        "share_waited": waited,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    storage.write_json(f"{work.target}/facts.json", facts)


class _Voice:
    """Tells rank 0's steps to the driver every few seconds and to the tracker every ten steps."""

    def __init__(self, progress: Any, curves: tracking.Curves, batch_size: int) -> None:
        self.progress, self.curves, self.batch_size = progress, curves, batch_size
        self.started = self.spoken = time.monotonic()
        self.recent: list[dict[str, Any]] = []

    def __call__(self, row: dict[str, Any], total: int) -> None:
        now = time.monotonic()
        self.recent.append(row)
        if row["step"] % tracking.MEAN_OF and row["step"] != total:
            return
        loss = sum(item["loss"] for item in self.recent) / len(self.recent)
        seconds = sum(item["seconds"] for item in self.recent) / len(self.recent)
        speed = self.batch_size / seconds
        self.recent = []
        self.curves.add(
            row["step"],
            {"loss": loss, "learning_rate": row["learning_rate"], "images_per_second": speed},
        )
        if now - self.spoken > EVERY or row["step"] == total:
            self.spoken = now
            left = clock((now - self.started) / row["step"] * (total - row["step"]))
            self.progress.tell.remote(
                f"{row['phase']} epoch {row['epoch']}, step {row['step']} of {total}, "
                f"loss {loss:.3f}, {speed:.1f} images a second, {left} left"
            )
