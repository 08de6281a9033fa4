"""What runs in each worker of a training."""

from __future__ import annotations

import gc
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch
from ray import train as ray_train
from ray.train.torch import get_device

from lhs.config import Config
from lhs.data.scenes import Scene
from lhs.engine.runtime.cluster import cores
from lhs.engine.runtime.devices import granted_device
from lhs.engine.runtime.progress import EVERY, Progress, clock
from lhs.engine.runtime.validation import Validation
from lhs.engine.stages.hierarchy import HIERARCHY_FILE, read_hierarchy
from lhs.engine.stages.sample_index import SampleIndexReader
from lhs.engine.storage import Storage
from lhs.engine.tracking import tracker as tracking
from lhs.errors import UserError
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import load_model, save_model
from lhs.hierarchy import Hierarchy
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.fcn import FCN
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.networks.patch import PATCH
from lhs.networks.precision import Precision
from lhs.networks.weights import load_weights
from lhs.training.checkpoints import Checkpoints
from lhs.training.crops import CropSource
from lhs.training.data_source import DataSource
from lhs.training.decoded import TrainingScenes
from lhs.training.loop import train
from lhs.training.parallel import has_batch_norm
from lhs.training.patches import PatchSource
from lhs.training.phases import Phase
from lhs.training.trainer import History
from lhs.training.variants import VariantSource

STATE, FACTS = "state.pt", "facts.json"


@dataclass(frozen=True)
class TrainingJob:
    """All that a training worker needs; it travels to every one of them."""

    config: Config
    precision: Precision
    """`train.precision`, settled."""
    scenes: tuple[Scene, ...]
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    class_pixels: tuple[int, ...]
    void: int
    dataset: str
    hierarchy: str | None
    """The hierarchy's folder in the storage."""
    sample_index: str | None
    """The sample index's folder in the storage; for patch networks."""
    start: str | None
    """Folder of the coarser model that the network starts from."""
    held_out: tuple[Scene, ...]
    """Scenes to look at while it trains; none without `train.validate_every`."""
    target: str
    """Folder in the storage that the model goes to."""
    resume: str
    """Folder in the storage that checkpoints go to."""
    tracker: tracking.Tracker | None


def train_worker(job: TrainingJob, storage: Storage, progress: Progress) -> None:
    """One worker of the training; rank 0 writes the model and tells how it goes."""
    if progress.state().mistake:
        # Trying again does not mend it.
        return
    try:
        _train(job, storage, progress)
    except UserError as mistake:
        # Not through the storage, which may be what is full.
        progress.met(str(mistake))
        if ray_train.get_context().get_world_size() > 1:
            # The others wait for this worker's gradients; they are ended with it.
            raise


def _train(job: TrainingJob, storage: Storage, progress: Progress) -> None:
    context = ray_train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    config = job.config
    device = granted_device()
    share = cores() // context.get_local_world_size()
    if device.type == "cuda":
        # With the card's number, where the node has several.
        device = get_device()
        share = int(cores() * config.train.gpu_share / gpus_here())
    else:
        torch.set_num_threads(config.train.threads or max(1, share))
    hierarchy = None
    if job.hierarchy is not None:
        hierarchy = read_hierarchy(storage, job.hierarchy)
    voice = Voice(progress, tracking.Curves(job.tracker), config, rank == 0)
    torch.manual_seed(config.train.seed)
    network = build_network(config.network, len(job.classes))
    voice.say(_start(network, job, storage))
    # Or Python's collector goes through all that was imported at every few steps.
    gc.collect()
    gc.freeze()
    model, history = train(
        network,
        config.train,
        classes=len(job.classes),
        matrix=None if hierarchy is None else torch.from_numpy(hierarchy.matrix()),
        void=job.void,
        data=_data_source(job, storage, network, hierarchy, rank, world, max(2, share), device),
        device=device,
        precision=job.precision,
        on_step=voice,
        on_resume=voice.catch_up,
        on_epoch=_validation(job, hierarchy, voice),
        trained=job.start is not None,
        checkpoints=_checkpoints(job, storage, rank),
        log=voice.say,
    )
    if rank == 0:
        voice.curves.finish()
        _write(storage, job, model, network, history, hierarchy)


def _start(network: SceneNetwork, job: TrainingJob, storage: Storage) -> str:
    """Fill a new network with the weights it starts from; says which."""
    config = job.config.network
    if job.start is not None:
        with storage.as_local(job.start) as folder:
            before = load_model(folder)
        assert isinstance(network, FCN)
        assert isinstance(before.network, FCN)
        taken = network.start_from(before.network)
        source = before.description.network.name
    else:
        taken = load_weights(network, config)
        source = f"{config.weights} {config.weights_file}".strip()
    names = [name for name in network.state_dict() if not name.startswith("normalise.")]
    left = [name for name in names if name not in taken]
    parts = sorted({name.rpartition(".")[0] for name in left})
    told = (
        ", ".join(parts) if len(parts) <= 4 else f"{', '.join(parts[:4])} and {len(parts) - 4} more"
    )
    return (
        f"weights ({source}): {len(names) - len(left)} of {len(names)} tensors taken"
        + f"; random are those of {told}" * bool(left)
    )


def gpus_here() -> float:
    """GPUs of this node."""
    own = ray.get_runtime_context().get_node_id()
    (node,) = (node for node in ray.nodes() if node["NodeID"] == own)
    return float(node["Resources"].get("GPU", 1))


def _data_source(
    job: TrainingJob,
    storage: Storage,
    network: SceneNetwork,
    hierarchy: Hierarchy | None,
    rank: int,
    world: int,
    threads: int,
    device: torch.device,
) -> DataSource:
    config = job.config
    scenes = TrainingScenes(job.scenes, hierarchy, config.train.cache_mb)
    common: dict[str, Any] = {
        "train": config.train,
        "rank": rank,
        "world_size": world,
        "threads": threads,
        "device": device,
    }
    if job.sample_index is not None:
        rows = SampleIndexReader(storage, f"{job.sample_index}/rows")
        return PatchSource(scenes, rows, config.context.seed, PATCH, **common)
    void_subclass = job.void if hierarchy is None else hierarchy.void_subclass
    if config.examples == "variants":
        return VariantSource(
            scenes, config.context, job.void, void_subclass, network.multiple,
            has_batch_norm(network), **common,
        )  # fmt: skip
    return CropSource(scenes, job.void, void_subclass, **common)


def _validation(
    job: TrainingJob, hierarchy: Hierarchy | None, voice: Voice
) -> Callable[[int, Phase, torch.nn.Module], None]:
    """What to do at the end of an epoch."""
    every = job.config.train.validate_every
    if every is None:
        return lambda epoch, phase, model: None
    parents = None if hierarchy is None else hierarchy.matrix().argmax(axis=0)
    validation = Validation(
        job.held_out, len(job.classes), job.void, parents, job.config.evaluation.stride
    )

    def look(epoch: int, phase: Phase, model: torch.nn.Module) -> None:
        if epoch % every:
            return
        found: dict[str, float] = {}
        if voice.speaks:
            found = validation(model, subclasses=phase.target == "subclass")
            voice.validated(epoch, found)
        # To Tune, which may stop a trial by it. All workers report, or none goes on.
        ray_train.report({"epoch": epoch, **found})

    return look


def _checkpoints(job: TrainingJob, storage: Storage, rank: int) -> Checkpoints:
    path = f"{job.resume}/{STATE}"

    def read() -> bytes | None:
        return storage.read(path) if storage.exists(path) else None

    def write(content: bytes) -> None:
        # A name of its own: a worker of a killed driver may still be writing.
        beside = f"{path}.{uuid.uuid4().hex[:8]}"
        storage.write(beside, content)
        storage.move(beside, path)

    train = job.config.train
    return Checkpoints(
        read, write if rank == 0 else None, train.checkpoint_minutes, train.checkpoint_steps
    )


def _write(
    storage: Storage,
    job: TrainingJob,
    model: torch.nn.Module,
    network: SceneNetwork,
    history: History,
    hierarchy: Hierarchy | None,
) -> None:
    config = job.config
    scored = [layer for layer in network.last_layers() if isinstance(layer, torch.nn.Conv2d)]
    description = ModelDescription(
        network=config.network,
        strategy=config.train.strategy,
        dataset=job.dataset,
        classes=job.classes,
        colours=job.colours,
        outputs=scored[0].out_channels,
        hierarchy_digest=None if hierarchy is None else hierarchy.digest,
    )
    rows = pd.DataFrame(history)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model").mkdir()
        save_model(folder / "model", model, description)
        (folder / "model" / "config.yaml").write_text(config.yaml(), encoding="utf-8")
        if hierarchy is not None:
            hierarchy.save(folder / "model" / HIERARCHY_FILE)
        rows.to_parquet(folder / "history.parquet")
        storage.put_folder(folder, job.target)
    facts = {
        "steps": len(rows),
        "final_loss": float(rows["loss"].tail(50).mean()),
        "share_waited": float(rows["waited"].sum() / rows["seconds"].sum()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if isinstance(model, HierarchicalNetwork):
        facts |= {name: float(value) for name, value in model.drift().items()}
    storage.write_json(f"{job.target}/{FACTS}", facts)


class Voice:
    """Tells rank 0's steps to the driver every few seconds, and to the tracker a mean of every
    `train.log_every` steps; other ranks keep silent."""

    def __init__(
        self, progress: Progress, curves: tracking.Curves, config: Config, speaks: bool
    ) -> None:
        self.progress, self.curves, self.speaks = progress, curves, speaks
        self.train = config.train
        self.what = "patches" if config.network.patches else "images"
        self.seconds = 0.0
        self.spoken = time.monotonic()
        self.first = self.step = 0
        self.recent: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        """Words for people."""
        if self.speaks:
            self.progress.tell(text)

    def validated(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Note scores on held-out images, at the step that was last told."""
        self.curves.add(self.step, scores, "validation")
        self.say(f"epoch {epoch}: {scores['per_pixel']:.4f} per pixel on held-out images")

    def catch_up(self, history: History) -> None:
        """Note the steps of an earlier, killed attempt."""
        self.first = len(history)
        for row in history:
            self._note(row)

    def __call__(self, row: dict[str, Any], total: int) -> None:
        """Tell of a step, of so many in all; several may come at once."""
        self._note(row, last=row["step"] == total)
        self.seconds += row["seconds"]
        now = time.monotonic()
        if self.speaks and (now - self.spoken > EVERY or row["step"] == total):
            self.spoken = now
            done = row["step"] - self.first
            left = clock(self.seconds / done * (total - row["step"]))
            self.say(
                f"{row['phase']} epoch {row['epoch']}, step {row['step']} of {total}, "
                f"loss {row['loss']:.3f}, {self.train.batch_size / row['seconds']:.1f} "
                f"{self.what} a second, {left} left"
            )

    def _note(self, row: dict[str, Any], last: bool = False) -> None:
        self.recent.append(row)
        self.step = row["step"]
        if not self.speaks or (len(self.recent) < self.train.log_every and not last):
            return
        values = tracking.mean_of(self.recent, self.train.batch_size)
        self.recent = []
        self.curves.add(row["step"], values)
