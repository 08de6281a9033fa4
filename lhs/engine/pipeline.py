"""An experiment: the graph's stages in a tracked run, scored, compared and reported."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ray.train import UserCallback

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION, HIERARCHY, MODEL, annotated_scenes, has_hierarchy
from lhs.engine.runtime.resources import preflight, trainings_that_fit
from lhs.engine.stage import Key, Stage, StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import Evaluation, read_evaluation
from lhs.engine.stages.training import baseline_of
from lhs.engine.storage import Storage
from lhs.engine.tracking.finished import finished_before
from lhs.engine.tracking.metrics import log_dataset, log_outcome, log_score_first, log_training
from lhs.engine.tracking.run_files import find_baseline
from lhs.engine.tracking.tracker import Tracker, tracked, workers_reach

logger = logging.getLogger("lhs")


@dataclass(frozen=True)
class Outcome:
    """A finished run: what it made, and where that is stored."""

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


def experiments(config: Config, name: str) -> list[tuple[Config, str]]:
    """The experiments of a run: the baseline first, if the report asks to train it."""
    if has_hierarchy(config) and config.report.baseline == "train":
        return [(baseline_of(config), f"{name}-baseline"), (config, name)]
    return [(config, name)]


def run(config: Config, name: str) -> list[Outcome]:
    """Run an experiment, and before it its baseline if the report asks to train it.

    Parameters
    ----------
    config
        The experiment.
    name
        What its run is called in MLflow and in the report.

    Returns
    -------
    list of Outcome
        One, or the baseline's and the experiment's. One that ran before, with the same results, is
        not tracked and reported again.
    """
    logger.info(preflight(config))
    return [
        _finished(one, its_name) or run_one(one, its_name)
        for one, its_name in experiments(config, name)
    ]


def _finished(config: Config, name: str) -> Outcome | None:
    """The outcome of the same run before, if nothing is to be made."""
    stages = Stages(Storage(config.storage))
    if stages.find(EVALUATION, config) is None:
        return None
    scenes = annotated_scenes(stages, config)
    model, scored = stages.make(MODEL, config), stages.make(EVALUATION, config)
    before = finished_before(stages, config, name)
    if before is None:
        return None
    tracker, report = before
    logger.info(f"{name}: finished before, as run {tracker.run_id}; nothing is made")
    hierarchy = stages.make(HIERARCHY, config) if has_hierarchy(config) else None
    baseline, _ = find_baseline(stages, config)
    return Outcome(
        config, name, stages, scenes, hierarchy, model, read_evaluation(stages.storage, scored),
        None if baseline is None else read_evaluation(stages.storage, baseline), tracker, report,
    )  # fmt: skip


def run_one(
    config: Config,
    name: str,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    callbacks: Sequence[UserCallback] = (),
) -> Outcome:
    """Run an experiment alone.

    Parameters
    ----------
    config, name
        As of `run`.
    tags
        Further ones of its run in MLflow.
    run_id
        An unfinished run to continue.
    callbacks
        Ray Train's, which get the training's scores on held-out images.
    """
    storage = Storage(config.storage)
    trainings_that_fit(config)
    logger.info(f"== {name}: {config.train.strategy} on {config.data.dataset}")
    with tracked(
        config, storage, config.data.dataset, name, tags=tags or {}, run_id=run_id
    ) as tracker:
        log_score_first(tracker)
        # Decided once: nodes come and go while it trains.
        live = workers_reach(tracker.uri, storage)
        stages = Stages(storage, tracker if live else None, callbacks)
        stages.total = stages.count(EVALUATION, config)
        # Bad images are reported before anything else is made or read from the storage.
        scenes = annotated_scenes(stages, config)
        log_dataset(tracker, storage, scenes)
        model = stages.make(MODEL, config)
        example = scenes.split("test")[0].image()
        log_training(tracker, storage, model, config, example, live=live)
        evaluation = read_evaluation(storage, stages.make(EVALUATION, config))
        # What draws it takes seconds to import, and a run that is shown again needs none of it.
        from lhs.engine.tracking.reporting import write_report

        baseline, report = write_report(stages, config, name, tracker)
        log_outcome(tracker, name, evaluation.scores, scenes.dataset.classes, stages)
    hierarchy = stages.make(HIERARCHY, config) if has_hierarchy(config) else None
    return Outcome(
        config, name, stages, scenes, hierarchy, model, evaluation, baseline, tracker, report
    )


def plan(config: Config, name: str) -> Iterator[str]:
    """List what a run would make and what exists already; nothing is made.

    Yields
    ------
    str
        A line for each stage: its name, the first letters of its key, what would happen.
    """
    listed: set[str] = set()
    for one, its_name in experiments(config, name):
        stages = Stages(Storage(config.storage))
        yield f"{its_name}: {one.train.strategy} on {one.data.dataset}"
        for stage, its_config, key in stages.needed(EVALUATION, one, other_runs=True):
            state = "as above" if key.digest in listed else _state(stages, stage, its_config, key)
            listed.add(key.digest)
            yield f"  {stage.name:<13} {'' if key.pending else key.digest[:12]:<12} {state}"


def _state(stages: Stages, stage: Stage, config: Config, key: Key) -> str:
    if key.pending:
        several = len(key.pending) > 1 or key.pending[0].endswith("s")
        made = " and the ".join(key.pending)
        return f"known once the {made} {'are' if several else 'is'} made"
    found = stages.find(stage, config)
    return "to be made" if found is None else f"is there (made in {found.seconds:.1f} s)"
