"""What runs in each worker of a training."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch
from ray import train as ray_train
from ray.train.torch import get_device

from lhs import __version__
from lhs.config import Config
from lhs.data.scenes import Scene
from lhs.engine.runtime.cluster import cores
from lhs.engine.runtime.devices import granted_device
from lhs.engine.runtime.progress import Progress
from lhs.engine.runtime.training_logger import TrainingLogger
from lhs.engine.runtime.validation import Validation
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.sample_index import SampleIndexReader
from lhs.engine.storage import Storage
from lhs.engine.tracking.metrics import Curves
from lhs.engine.tracking.tracker import Tracker
from lhs.errors import UserError
from lhs.evaluation.description import ModelDescription
from lhs.evaluation.model import load_model, save_model
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.fcn import FCN
from lhs.networks.hierarchical import HierarchicalNetwork
from lhs.networks.patch import PATCH
from lhs.networks.precision import Precision, resolve_precision
from lhs.networks.weights import digest_of, load_weights
from lhs.training.checkpoints import Checkpoints
from lhs.training.crops import CropSource
from lhs.training.data_source import DataSource
from lhs.training.decoded import TrainingScenes
from lhs.training.loop import train
from lhs.training.losses import class_weights
from lhs.training.parallel import has_batch_norm
from lhs.training.patches import PatchSource
from lhs.training.phases import Phase
from lhs.training.trainer import History
from lhs.training.variants import VariantSource

STATE, FACTS = "state.pt", "facts.json"


@dataclass(frozen=True)
class TrainingJob:
    """All that a training worker needs; it is sent to each."""

    config: Config
    precision: Precision
    """`train.precision`, resolved."""
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
    """Scenes to validate on; none without `train.validate_every`."""
    target: str
    """Folder in the storage for the model."""
    resume: str
    """Folder in the storage for checkpoints."""
    tracker: Tracker | None


def train_worker(job: TrainingJob, storage: Storage, progress: Progress) -> None:
    """One worker of the training; rank 0 writes the model and reports progress."""
    if progress.state().error:
        # A retry does not fix a user error.
        return
    try:
        _train(job, storage, progress)
    except UserError as error:
        # Not through the storage, which may be what is full.
        progress.report_error(str(error))
        if ray_train.get_context().get_world_size() > 1:
            # The others wait for this worker's gradients; Ray ends them with it.
            raise


def _train(job: TrainingJob, storage: Storage, progress: Progress) -> None:
    context = ray_train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    config = job.config
    device = granted_device()
    own_cores = cores() // context.get_local_world_size()
    if device.type == "cuda":
        # With the card's number, where the node has several.
        device = get_device()
        own_cores = int(cores() * config.train.gpu_share / gpus_here())
    else:
        torch.set_num_threads(config.train.threads or max(1, own_cores))
    hierarchy = None
    if job.hierarchy is not None:
        hierarchy = read_hierarchy(storage, job.hierarchy)
    log = TrainingLogger(progress, Curves(job.tracker), config, rank)
    torch.manual_seed(config.train.seed)
    network = build_network(config.network, len(job.classes))
    line, weights = _load_initial_weights(network, job, storage)
    log.log(line)
    # Otherwise Python's collector goes through everything imported every few steps.
    gc.collect()
    gc.freeze()
    model, history = train(
        network,
        config.train,
        classes=len(job.classes),
        matrix=None if hierarchy is None else torch.from_numpy(hierarchy.matrix()),
        void=job.void,
        data=_data_source(job, storage, network, hierarchy, rank, world, max(2, own_cores), device),
        device=device,
        precision=job.precision,
        class_weights=class_weights(config.train.class_weights, job.class_pixels),
        pretrained=job.start is not None or config.network.weights != "none",
        on_step=log.on_step,
        on_resume=log.on_resume,
        on_epoch=_validation(job, hierarchy, log, device),
        trained=job.start is not None,
        checkpoints=_checkpoints(job, storage, rank),
        log=log.log,
    )
    if rank == 0:
        log.curves.finish()
        _save_model(storage, job, model, network, history, hierarchy, weights)


def _load_initial_weights(
    network: SceneNetwork, job: TrainingJob, storage: Storage
) -> tuple[str, str | None]:
    """Load the weights that a new network starts from; returns a line about them, and the digest
    of what was loaded."""
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
    line = f"weights ({source}): {len(names) - len(left)} of {len(names)} tensors loaded"
    weights = digest_of(network, taken)
    if not left:
        return line, weights
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    return f"{line}; initialised at random: {', '.join(parts[:4])}{more}", weights


def gpus_here() -> float:
    """GPUs of this node in the cluster's count."""
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
    job: TrainingJob, hierarchy: Hierarchy | None, log: TrainingLogger, device: torch.device
) -> Callable[[int, Phase, torch.nn.Module], None]:
    """The function to call at the end of each epoch."""
    every = job.config.train.validate_every
    if every is None:
        return lambda epoch, phase, model: None
    parents = None if hierarchy is None else hierarchy.matrix().argmax(axis=0)
    evaluation = job.config.evaluation
    validation = Validation(
        job.held_out, len(job.classes), job.void, parents, evaluation.stride,
        evaluation.class_scores,
        resolve_precision(evaluation.precision, device, "evaluation.precision"),
    )  # fmt: skip

    def validate(epoch: int, phase: Phase, model: torch.nn.Module) -> None:
        if epoch % every:
            return
        scores: dict[str, float] = {}
        if log.active:
            try:
                scores = validation(model, subclasses=phase.target == "subclass")
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"the GPU is out of memory after epoch {epoch}, labelling a held-out image: "
                    "give a smaller data.long_side, or no train.validate_every "
                    f"({str(error).splitlines()[0]})"
                ) from None
            log.on_validation(epoch, scores)
        # Tune may stop a trial by it. Each worker must report: Ray waits for all of them.
        ray_train.report({"epoch": epoch, **scores})

    return validate


def _checkpoints(job: TrainingJob, storage: Storage, rank: int) -> Checkpoints:
    path = f"{job.resume}/{STATE}"

    def read() -> bytes | None:
        return storage.read(path) if storage.exists(path) else None

    train = job.config.train
    write = partial(storage.replace, path) if rank == 0 else None
    return Checkpoints(read, write, train.checkpoint_minutes, train.checkpoint_steps)


def _save_model(
    storage: Storage,
    job: TrainingJob,
    model: torch.nn.Module,
    network: SceneNetwork,
    history: History,
    hierarchy: Hierarchy | None,
    weights: str | None,
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
        subclass_head=config.train.subclass_head,
        image_range=config.data.folder.range if config.data.dataset == "folder" else None,
        long_side=config.data.long_side,
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
        "weights": weights,
        "device": _device_name(next(model.parameters()).device),
        "versions": {"lhs": __version__}
        | {name: metadata.version(name) for name in ("torch", "timm", "ray")},
    }
    if isinstance(model, HierarchicalNetwork):
        facts |= {name: float(value) for name, value in model.drift().items()}
    storage.write_json(f"{job.target}/{FACTS}", facts)


def _device_name(device: torch.device) -> str:
    """What it was trained on: the GPU's name, or `cpu` and its threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu, {torch.get_num_threads()} threads"
