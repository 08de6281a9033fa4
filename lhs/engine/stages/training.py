"""Ray Train: a network through the phases of its strategy, on one CPU or many GPUs."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from lhs.config import (
    OF_H,
    OPERATIONAL,
    Config,
    ReportConfig,
    TrackingConfig,
    UnlabelledConfig,
)
from lhs.engine.runtime.devices import booked_share, has_cuda, precision_on
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.runtime.resources import CPU_SHARE, training_workers, wants_gpu
from lhs.engine.runtime.stopping import announce_stop, stoppable
from lhs.engine.runtime.worker import FACTS, TrainingJob, train_worker
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.storage import Storage, explained
from lhs.engine.tracking import tracker as tracking
from lhs.errors import UserError
from lhs.networks.fcn import COARSER
from lhs.networks.precision import Precision
from lhs.networks.weights import FROM_FILE, weights_digest
from lhs.training.phases import coarser_phases

KEEP_MEMORY = {
    # glibc returns large blocks to the system, and the next step has a page fault for each of
    # their pages: about a sixth of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    # In arenas of further threads it still does; Ray Train trains in such a thread.
    "MALLOC_ARENA_MAX": "1",
}
BEFORE = {"subclass_head": "joint", "subclass_context": "image", "optimizer_state": "per_step"}
"""What held before these were settings of `train`: left out of keys, which stay as they were."""

NO_CROPS = {"scale_min": 0.75, "scale_max": 1.25}
"""What keys hold of networks that train on no crops: the first defaults, which nothing reads."""
NO_PHASE = {"learning_rate": 0.002}
"""What keys hold of H without a phase of new layers: likewise."""


class Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray Train's, which says at once that Ctrl-C stops it."""

    def _register_sigint_handler(self, controller: Any) -> None:
        super()._register_sigint_handler(controller)
        announce_stop()


def build_model(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Train the network through the phases of its strategy.

    It starts from the input `start`, the coarser model, if there is one. A training that was killed
    continues from its newest checkpoint. The folder holds `model/` (see `lhs.evaluation.model`) and
    `history.parquet`, a row per step.
    """
    config, storage, inputs = work.config, work.storage, work.inputs
    train, dataset = config.train, scenes.dataset
    gpu = wants_gpu(train.gpu)

    def place(role: str, inside: str = "") -> str | None:
        return f"{inputs[role].path}{inside}" if role in inputs else None

    job = TrainingJob(
        config=config,
        precision=training_precision(config),
        scenes=tuple(scenes.split("train")),
        classes=tuple(dataset.classes),
        colours=tuple((int(r), int(g), int(b)) for r, g, b in dataset.colours),
        class_pixels=tuple(int(count) for count in scenes.class_pixels),
        void=dataset.void,
        dataset=dataset.name,
        hierarchy=place("hierarchy"),
        sample_index=place("sample_index"),
        start=place("start", "/model"),
        held_out=tuple(scenes.split("test")) if train.validate_every else (),
        target=path,
        resume=work.unfinished,
        tracker=work.stages.tracker,
    )
    storage.make_folder(work.unfinished)
    with followed(f"training {config.network.name} {train.strategy}", 0) as progress:
        trainer = Trainer(
            # Not as `train_loop_config`: Ray Train's controller reads that too, and would import
            # all that a worker needs.
            partial(train_worker, job, storage, progress),
            # Ray Train takes NCCL wherever GPUs are booked, even if they are only logical. Its
            # timeout of 1800 s is for a single step; workers wait for a validation in
            # `ray.train.report`, which has no timeout.
            torch_config=TorchConfig(backend="gloo" if gpu and not has_cuda() else None),
            scaling_config=ray_train.ScalingConfig(
                num_workers=training_workers(config),
                use_gpu=gpu,
                resources_per_worker=(
                    {"GPU": booked_share(train.gpu_share)} if gpu else {"CPU": CPU_SHARE}
                ),
                accelerator_type=train.accelerator,
            ),
            run_config=ray_train.RunConfig(
                # Unique: Ray would resume an old run whatever its settings. Training continues from
                # our own checkpoints, whose folder's name has the key of the settings.
                name=f"train-{uuid.uuid4().hex[:12]}",
                storage_path=f"{path}/ray-train",
                storage_filesystem=storage.filesystem,
                failure_config=ray_train.FailureConfig(max_failures=train.restarts),
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
                # For scores on held-out images; a coarser network is not validated.
                callbacks=list(work.stages.callbacks) if train.validate_every else [],
                worker_runtime_env={"env_vars": KEEP_MEMORY | tracking.ONE_TRY},
            ),
        )
        with _mistake_raised(progress), explained(storage.uri), stoppable():
            trainer.fit()
    storage.delete(f"{path}/ray-train")
    return dict(storage.read_json(f"{path}/{FACTS}"))


def diverged(storage: Storage, config: Config, result: StageResult) -> str:
    """A message if a model of an earlier version ended with losses that are not finite."""
    loss = result.facts.get("final_loss", 0.0)
    return "" if math.isfinite(loss) else f"its loss was {loss} at the end: it is trained again"


@contextmanager
def _mistake_raised(progress: Progress) -> Iterator[None]:
    """Raise the UserError that a worker reported, instead of the errors that it caused."""
    try:
        yield
    finally:
        mistake = progress.state().error
        if mistake:
            raise UserError(mistake) from None


def training_precision(config: Config) -> Precision:
    """`train.precision`, resolved on a worker with the resources of the training."""
    train = config.train
    return precision_on(train.precision, wants_gpu(train.gpu), "train.precision")


def training_settings(config: Config) -> dict[str, Any]:
    """The settings that the strategy uses."""
    settings = config.train.model_dump(mode="json", exclude=OPERATIONAL)
    lengths = settings[config.train.strategy]
    for strategy in ("baseline", "sequential", "hierarchical"):
        del settings[strategy]
    if config.train.strategy != "hierarchical":
        for name in OF_H:
            del settings[name]
    for name, value in BEFORE.items():
        if settings[name] == value:
            del settings[name]
    # The encoder is in the label, so that keys of networks without one are what they were.
    network = config.network.model_dump(mode="json", exclude={"encoder", "head"})
    network |= {"name": config.network.label, "channels": config.network.width}
    if config.network.has_head and config.network.head != "pyramid":
        network["head"] = config.network.head
    if config.network.weights in FROM_FILE:
        # Its content is in the key (`network_weights`), not its path.
        del network["weights_file"]
    settings |= {"phases": lengths, "examples": config.examples, "network": network}
    settings["precision"] = training_precision(config)
    workers = training_workers(config)
    if workers > 1 and not wants_gpu(config.train.gpu):
        # On CPUs batch norm uses each worker's own examples.
        settings["workers"] = workers
    if config.examples != "crops":
        settings |= NO_CROPS
    if config.train.strategy == "hierarchical" and not config.train.hierarchical.new_layers.on:
        lengths["new_layers"] |= NO_PHASE
    if config.examples == "variants":
        settings["variants"] = [config.context.variants, config.context.seed]
    return settings


def network_weights(config: Config) -> dict[str, str]:
    """The digest of the weights that the network starts from, if there are some."""
    return weights_digest(config.network)


def baseline_of(config: Config) -> Config:
    """The same experiment with the strategy `baseline`, on what people annotated."""
    # Settings of subclasses are refused where there are none.
    train = config.train.model_copy(update={"strategy": "baseline"} | BEFORE)
    return config.model_copy(
        update={
            "train": train,
            "evaluation": config.evaluation.model_copy(update={"class_scores": "w"}),
            "report": ReportConfig(baseline="none", scenes=config.report.scenes),
            "tracking": TrackingConfig(),
            "unlabelled": UnlabelledConfig(),
        }
    )


def coarser_of(config: Config) -> Config | None:
    """The experiment that trains the coarser network that this one starts from, if there is one:
    the same for all strategies, on what people annotated."""
    name = COARSER.get(config.network.name)
    if name is None or not config.train.coarser.on:
        return None
    train: Mapping[str, Any] = {
        "strategy": "baseline", "baseline": coarser_phases(config.train), "validate_every": None,
        **BEFORE,
    }  # fmt: skip
    return config.model_copy(
        update={
            "network": config.network.model_copy(update={"name": name}),
            "train": config.train.model_copy(update=train),
            "unlabelled": UnlabelledConfig(),
        }
    )
