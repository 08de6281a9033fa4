"""Ray Train: a network through the phases of its strategy, on one CPU or many GPUs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer

from lhs.config import BaselinePhases, Config, PhaseConfig, ReportConfig, UnlabelledConfig
from lhs.engine import tracking
from lhs.engine.devices import booked_gpu, booked_share, precision_on
from lhs.engine.progress import Progress, followed
from lhs.engine.resources import CPU_SHARE, ready_before_turn, training_workers, wants_gpu
from lhs.engine.samples import sample_slice
from lhs.engine.scenes import CheckedScenes
from lhs.engine.stages import StageResult, Stages, stage_key
from lhs.engine.storage import explained
from lhs.engine.targets import target_slice
from lhs.engine.turns import Turn, no_turn
from lhs.engine.worker import FACTS, Work, train_worker
from lhs.errors import UserError
from lhs.networks.fcn import COARSER
from lhs.networks.precision import Precision
from lhs.networks.weights import weights_digest

KEEP_MEMORY = {
    # glibc hands large blocks back to the system and takes a page fault for each page of them at
    # the next step: about a sixth of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    # It does so all the same in arenas of their own, which threads get that are not the first: Ray
    # Train trains in such a thread.
    "MALLOC_ARENA_MAX": "1",
}
# GNU's OpenMP lets a thread that waits spin 300,000 times before it sleeps, which takes the cores
# from a trial that is scored or begins beside; threads that sleep at once are late at each layer.
WORKER_ENVIRONMENT = KEEP_MEMORY | {"GOMP_SPINCOUNT": "1000"}
OPERATIONAL = {
    "gpu", "gpu_share", "workers", "accelerator", "cache_mb", "log_every", "checkpoint_minutes",
    "checkpoint_steps", "restarts", "coarser", "validate_every",
}  # fmt: skip
"""Settings of `train` that change how a model is trained, not which."""


def training_stage(
    stages: Stages,
    config: Config,
    scenes: CheckedScenes,
    hierarchy: StageResult | None,
    targets: StageResult | None,
    tracker: tracking.Tracker | None,
    callbacks: Sequence[ray_train.UserCallback] = (),
    turn: Turn = no_turn,
) -> StageResult:
    """Train the network, and before it the coarser one it starts from, where it has one.

    A training that was killed goes on from its newest checkpoint.

    Parameters
    ----------
    stages, config, scenes
        Of the run.
    tracker
        Of the run that shows the training's curves, if one does.
    hierarchy
        The hierarchy, for all strategies but `baseline`.
    targets
        The samples to train on, for patch networks.
    callbacks
        Ray Train's, that hear of scores on held-out images.
    turn
        What it waits for and holds while it trains.

    Returns
    -------
    StageResult
        The folder holds `model/` (see `lhs.evaluation.model`) and `history.parquet`, a row a step.
    """
    before = coarser_of(config)
    start = None
    if before is not None:
        start = training_stage(stages, before, scenes, None, None, tracker, turn=turn)
    digest = None if hierarchy is None else hierarchy.facts["digest"]
    settings, inputs = training_slice(
        config, scenes.key, digest, None if targets is None else targets.key
    )
    storage = stages.storage
    resume = storage.path("stages", "model", f".training-{stage_key('model', settings, inputs)}")

    def build(path: str) -> dict[str, Any]:
        if turn is not no_turn and ready_before_turn(config):
            # Its processes start, for ten seconds and more, beside the training before it.
            fit(path, turn)
        if not storage.exists(f"{path}/{FACTS}"):
            with turn(None):
                fit(path, no_turn)
        storage.delete(f"{path}/ray-train")
        return dict(storage.read_json(f"{path}/{FACTS}"))

    def fit(path: str, turn: Turn) -> None:
        train, dataset = config.train, scenes.dataset
        gpu = wants_gpu(train.gpu)
        work = Work(
            config=config,
            precision=training_precision(config),
            scenes=tuple(scenes.split("train")),
            classes=tuple(dataset.classes),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in dataset.colours),
            class_pixels=tuple(int(count) for count in scenes.class_pixels),
            void=dataset.void,
            dataset=dataset.name,
            hierarchy=None if hierarchy is None else hierarchy.path,
            targets=None if targets is None else targets.path,
            start=None if start is None else f"{start.path}/model",
            held_out=tuple(scenes.split("test")) if train.validate_every else (),
            target=path,
            resume=resume,
            tracker=tracker,
            turn=turn,
        )
        storage.make_folder(resume)
        with followed(f"training {config.network.name} {train.strategy}", 0) as progress:
            trainer = TorchTrainer(
                # Not as `train_loop_config`, which Ray Train's controller reads too: it would have
                # to import all that a worker needs.
                partial(train_worker, work, storage, progress),
                # Ray Train takes NCCL wherever GPUs are booked, also where they are only logical.
                # Its limit of 1800 s holds for a single step; who waits for the scores on held-out
                # images waits in `ray.train.report`, which has no limit.
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
                    # A name of its own: Ray would resume an old run whatever its settings were.
                    # What goes on is our own checkpoint, whose folder bears the settings' digest.
                    name=f"train-{uuid.uuid4().hex[:12]}",
                    storage_path=f"{path}/ray-train",
                    storage_filesystem=storage.filesystem,
                    failure_config=ray_train.FailureConfig(max_failures=train.restarts),
                    logging_config=ray_train.LoggingConfig(log_level="ERROR"),
                    callbacks=list(callbacks),
                    worker_runtime_env={"env_vars": WORKER_ENVIRONMENT | tracking.ONE_TRY},
                ),
            )
            with _mistake_told(progress), explained(storage.uri):
                trainer.fit()

    result = stages.run("model", settings, inputs, build)
    storage.delete(resume)
    return result


@contextmanager
def _mistake_told(progress: Progress) -> Iterator[None]:
    """Raise the user's mistake that a worker met, whatever else came of it."""
    try:
        yield
    finally:
        mistake = progress.state().mistake
        if mistake:
            raise UserError(mistake) from None


def training_precision(config: Config) -> Precision:
    """`train.precision`, settled on a worker that has what the training will have."""
    train = config.train
    return precision_on(train.precision, wants_gpu(train.gpu), "train.precision")


def training_slice(
    config: Config, scenes: str, digest: str | None, targets: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a trained model depends on: the settings that the strategy uses, and its inputs.

    Parameters
    ----------
    config
        The experiment.
    scenes
        Key of the checked scenes.
    digest
        Of the hierarchy, if the strategy uses one.
    targets
        Key of the training samples, for patch networks.
    """
    settings = config.train.model_dump(mode="json", exclude=OPERATIONAL)
    lengths = settings[config.train.strategy]
    for strategy in ("baseline", "sequential", "hierarchical"):
        del settings[strategy]
    if config.train.strategy != "hierarchical":
        del settings["alpha"], settings["learn_w"]
    network = config.network.model_dump(mode="json")
    settings |= {"phases": lengths, "examples": config.examples, "network": network}
    settings["precision"] = training_precision(config)
    workers = training_workers(config)
    if workers > 1 and not wants_gpu(config.train.gpu):
        # On CPUs batch norm sees each worker's own examples.
        settings["workers"] = workers
    inputs = {"scenes": scenes}
    weights = weights_digest(config.network)
    if weights is not None:
        # What the file holds counts, not where it lies.
        del network["weights_file"]
        inputs["weights"] = weights
    if digest is not None:
        inputs["hierarchy"] = digest
    if targets is not None:
        inputs["targets"] = targets
    elif config.examples == "variants":
        settings["variants"] = [config.context.variants, config.context.seed]
    before = coarser_of(config)
    if before is not None:
        inputs["start"] = stage_key("model", *training_slice(before, scenes, None, None))
    return settings, inputs


def baseline_of(config: Config) -> Config:
    """The same experiment with the strategy `baseline`, on what people annotated."""
    train = config.train.model_copy(update={"strategy": "baseline"})
    report = ReportConfig(baseline="none", scenes=config.report.scenes)
    unlabelled = UnlabelledConfig()
    return config.model_copy(update={"train": train, "report": report, "unlabelled": unlabelled})


def baseline_slice(config: Config, scenes: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What `training_slice` gives for a baseline, from keys alone: nothing is made."""
    targets = None
    if config.network.patches:
        samples = stage_key("samples", *sample_slice(config, scenes))
        targets = stage_key("targets", *target_slice(config, samples, None))
    return training_slice(config, scenes, None, targets)


def coarser_of(config: Config) -> Config | None:
    """The experiment that trains the network which this one starts from, if there is one."""
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
        }
    )
