"""The whole paper, from scenes to a scored and explained network. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.train import UserCallback

from lhs.config import IMAGE_KINDS, Config
from lhs.engine.clustering import hierarchy_stage
from lhs.engine.descriptors import descriptor_stage
from lhs.engine.evaluation import Evaluation, evaluation_stage, read_evaluation
from lhs.engine.filling import labelled_scenes
from lhs.engine.preflight import preflight
from lhs.engine.progress import say
from lhs.engine.reporting import write_report
from lhs.engine.resources import trainings_that_fit
from lhs.engine.samples import histogram_stage, sample_stage
from lhs.engine.scenes import CheckedScenes, checked_scenes
from lhs.engine.stages import StageResult, Stages
from lhs.engine.storage import Storage
from lhs.engine.targets import target_stage
from lhs.engine.tracking import Tracker, log_outcome, log_training, tracked
from lhs.engine.training import baseline_of, training_stage
from lhs.engine.turns import Turn, no_turn


@dataclass(frozen=True)
class Outcome:
    """A finished run: what it made, and where it lies."""

    config: Config
    name: str
    stages: Stages
    scenes: CheckedScenes
    hierarchy: StageResult | None
    model: StageResult
    evaluation: Evaluation
    baseline: Evaluation | None
    tracker: Tracker
    report: str


def make_rows(
    stages: Stages, config: Config, scenes: CheckedScenes, around: CheckedScenes
) -> tuple[StageResult, StageResult | None]:
    """Section 2: images -> superpixel samples -> histograms of the labels `around` them.

    Returns
    -------
    samples, histograms : StageResult
        The second only where the hierarchy is made of label clusters.
    """
    samples = sample_stage(stages, config, scenes)
    if config.hierarchy.kind != "label_clusters":
        return samples, None
    return samples, histogram_stage(stages, config, around, samples)


def make_hierarchy(
    stages: Stages, config: Config, scenes: CheckedScenes
) -> tuple[StageResult, StageResult]:
    """Sections 2 and 3: images -> samples -> histograms -> subclasses.

    Hierarchies of image clusters come of whole images' descriptors instead of histograms.

    Returns
    -------
    rows, hierarchy : StageResult
        The samples, with their histograms where the hierarchy is made of those; the hierarchy.
    """
    samples, histograms = make_rows(stages, config, scenes, scenes)
    descriptors = None
    if config.hierarchy.kind in IMAGE_KINDS:
        descriptors = descriptor_stage(stages, config, scenes)
    hierarchy = hierarchy_stage(stages, config, scenes, samples, histograms, descriptors)
    return histograms or samples, hierarchy


def run(config: Config, name: str) -> list[Outcome]:
    """Run an experiment, and first the baseline that it is compared with where it asks for one.

    Parameters
    ----------
    config
        The experiment.
    name
        What its run is called in MLflow and in the report.

    Returns
    -------
    list of Outcome
        One, or the baseline's and the experiment's.
    """
    say(preflight(config))
    outcomes = []
    if config.train.strategy != "baseline" and config.report.baseline == "train":
        outcomes.append(run_one(baseline_of(config), f"{name}-baseline"))
    return [*outcomes, run_one(config, name)]


def run_one(
    config: Config,
    name: str,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    callbacks: Sequence[UserCallback] = (),
    turn: Turn = no_turn,
) -> Outcome:
    """Run an experiment alone.

    Parameters
    ----------
    config, name
        As of `run`.
    tags
        Further ones of its run in MLflow.
    run_id
        A run that was left, to be taken up again.
    callbacks
        Ray Train's, that hear of the training's scores on held-out images.
    turn
        What it waits for and holds while it trains.
    """
    storage = Storage(config.storage)
    stages = Stages(storage)
    trainings_that_fit(config)
    say(f"== {name}: {config.train.strategy} on {config.data.dataset}")
    with tracked(
        config, storage, config.data.dataset, name, tags=tags or {}, run_id=run_id
    ) as tracker:
        scenes = checked_scenes(stages, config.data)
        # Section 4.4: where asked for, the baseline labels what people did not.
        around, learned = labelled_scenes(stages, config, scenes)
        rows = hierarchy = targets = None
        if config.train.strategy != "baseline":
            rows, hierarchy = make_hierarchy(stages, config, around)
        # Section 4: the network, through the phases of its strategy.
        if config.network.patches:
            if rows is None:
                rows = sample_stage(stages, config, scenes)
            elif learned is not around:
                samples, histograms = make_rows(stages, config, scenes, around)
                rows = histograms or samples
            targets = target_stage(stages, config, scenes, rows, hierarchy)
        model = training_stage(
            stages, config, learned, hierarchy, targets, tracker, callbacks, turn
        )
        log_training(tracker, storage, model, config.train)
        # Section 5: every pixel of the test images, one confusion matrix, the scores.
        scored = evaluation_stage(stages, config, scenes, model)
        evaluation = read_evaluation(storage, scored)
        baseline, report = write_report(
            stages, config, name, scenes, around, hierarchy, model, scored, tracker
        )
        log_outcome(tracker, evaluation.scores.headline(), stages)
    return Outcome(
        config, name, stages, scenes, hierarchy, model, evaluation, baseline, tracker, report
    )
