"""Ray Train: a network through the phases of its strategy, on one CPU or many GPUs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from lhs.config import BaselinePhases, Config, PhaseConfig, ReportConfig, UnlabelledConfig
from lhs.engine.runtime.devices import booked_gpu, booked_share, precision_on
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.runtime.resources import CPU_SHARE, training_workers, wants_gpu
from lhs.engine.runtime.worker import FACTS, TrainingJob, train_worker
from lhs.engine.stage import Work
from lhs.engine.stages.scenes import CheckedScenes
from lhs.engine.storage import explained
from lhs.engine.tracking import tracker as tracking
from lhs.errors import UserError
from lhs.networks.fcn import COARSER
from lhs.networks.precision import Precision
from lhs.networks.weights import FROM_FILE, weights_digest

KEEP_MEMORY = {
    # glibc hands large blocks back to the system and takes a page fault for each page of them at
    # the next step: about a sixth of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    # It does so all the same in arenas of their own, which threads get that are not the first: Ray
    # Train trains in such a thread.
    "MALLOC_ARENA_MAX": "1",
}
OPERATIONAL = {
    "gpu", "gpu_share", "workers", "accelerator", "cache_mb", "log_every", "checkpoint_minutes",
    "checkpoint_steps", "restarts", "coarser", "validate_every",
}  # fmt: skip
"""Settings of `train` that change how a model is trained, not which."""


def build_model(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Train the network through the phases of its strategy.

    It starts from the input `start`, the coarser model, where there is one. A training that was
    killed goes on from its newest checkpoint. The folder holds `model/` (see
    `lhs.evaluation.model`) and `history.parquet`, a row a step.
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
        targets=place("targets"),
        start=place("start", "/model"),
        held_out=tuple(scenes.split("test")) if train.validate_every else (),
        target=path,
        resume=work.unfinished,
        tracker=work.stages.tracker,
    )
    storage.make_folder(work.unfinished)
    with followed(f"training {config.network.name} {train.strategy}", 0) as progress:
        trainer = TorchTrainer(
            # Not as `train_loop_config`, which Ray Train's controller reads too: it would have to
            # import all that a worker needs.
            partial(train_worker, job, storage, progress),
            # Ray Train takes NCCL wherever GPUs are booked, also where they are only logical. Its
            # limit of 1800 s holds for a single step; who waits for the scores on held-out images
            # waits in `ray.train.report`, which has no limit.
            torch_config=TorchConfig(backend="gloo" if gpu and not booked_gpu().cuda else None),
            scaling_config=ray_train.ScalingConfig(
                num_workers=training_workers(config),
                use_gpu=gpu,
                resources_per_worker=(
                    {"GPU": booked_share(train.gpu_share)} if gpu else {"CPU": CPU_SHARE}
                ),
                accelerator_type=train.accelerator,
            ),
            run_config=ray_train.RunConfig(
                # A name of its own: Ray would resume an old run whatever its settings were. What
                # goes on is our own checkpoint, whose folder bears the settings' digest.
                name=f"train-{uuid.uuid4().hex[:12]}",
                storage_path=f"{path}/ray-train",
                storage_filesystem=storage.filesystem,
                failure_config=ray_train.FailureConfig(max_failures=train.restarts),
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
                # They hear of scores on held-out images; a coarser network gives none.
                callbacks=list(work.stages.callbacks) if train.validate_every else [],
                worker_runtime_env={"env_vars": KEEP_MEMORY | tracking.ONE_TRY},
            ),
        )
        with _mistake_told(progress), explained(storage.uri):
            trainer.fit()
    storage.delete(f"{path}/ray-train")
    return dict(storage.read_json(f"{path}/{FACTS}"))


@contextmanager
def _mistake_told(progress: Progress) -> Iterator[None]:
    """Raise the user's mistake that a worker met, whatever else came of it."""
    try:
        yield
    finally:
        mistake = progress.state().error
        if mistake:
            raise UserError(mistake) from None


def training_precision(config: Config) -> Precision:
    """`train.precision`, settled on a worker that has what the training will have."""
    train = config.train
    return precision_on(train.precision, wants_gpu(train.gpu), "train.precision")


def training_settings(config: Config) -> dict[str, Any]:
    """The settings that the strategy uses."""
    settings = config.train.model_dump(mode="json", exclude=OPERATIONAL)
    lengths = settings[config.train.strategy]
    for strategy in ("baseline", "sequential", "hierarchical"):
        del settings[strategy]
    if config.train.strategy != "hierarchical":
        del settings["alpha"], settings["learn_w"]
    network = config.network.model_dump(mode="json")
    if config.network.weights in FROM_FILE:
        # What the file holds counts, not where it lies.
        del network["weights_file"]
    settings |= {"phases": lengths, "examples": config.examples, "network": network}
    settings["precision"] = training_precision(config)
    workers = training_workers(config)
    if workers > 1 and not wants_gpu(config.train.gpu):
        # On CPUs batch norm sees each worker's own examples.
        settings["workers"] = workers
    if config.examples == "variants":
        settings["variants"] = [config.context.variants, config.context.seed]
    return settings


def network_weights(config: Config) -> dict[str, str]:
    """The digest of the weights that the network starts from, if it starts from some."""
    digest = weights_digest(config.network)
    return {} if digest is None else {"weights": digest}


def baseline_of(config: Config) -> Config:
    """The same experiment with the strategy `baseline`, on what people annotated."""
    train = config.train.model_copy(update={"strategy": "baseline"})
    report = ReportConfig(baseline="none", scenes=config.report.scenes)
    unlabelled = UnlabelledConfig()
    return config.model_copy(update={"train": train, "report": report, "unlabelled": unlabelled})


def coarser_of(config: Config) -> Config | None:
    """The experiment that trains the network which this one starts from, if there is one: the same
    for all strategies, on what people annotated."""
    name = COARSER.get(config.network.name)
    if name is None or not config.train.coarser.on:
        return None
    phases = BaselinePhases(new_layers=PhaseConfig(), all_layers=config.train.coarser)
    train: Mapping[str, Any] = {
        "strategy": "baseline", "baseline": phases, "validate_every": None,
    }  # fmt: skip
    return config.model_copy(
        update={
            "network": config.network.model_copy(update={"name": name}),
            "train": config.train.model_copy(update=train),
            "unlabelled": UnlabelledConfig(),
        }
    )
