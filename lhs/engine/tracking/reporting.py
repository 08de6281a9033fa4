"""Writes the report of a run from the stored results, its arrays beside its figures."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import lhs
from lhs.config import Config
from lhs.data.resizing import resized_nearest
from lhs.engine.cache import Stages
from lhs.engine.graph import (
    EVALUATION,
    HIERARCHY,
    MODEL,
    SCENES,
    annotated_scenes,
    data_alone,
    has_hierarchy,
)
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import (
    IMAGE_COUNTS,
    Evaluation,
    read_evaluation,
    read_image_counts,
    read_predictions,
)
from lhs.engine.storage import DamagedError, Storage
from lhs.engine.tracking.examples import hierarchy_arrays
from lhs.engine.tracking.hierarchy_page import samples_of
from lhs.engine.tracking.learned import learned
from lhs.engine.tracking.metrics import change_metrics
from lhs.engine.tracking.provenance import repeat_facts
from lhs.engine.tracking.run_files import (
    CONFUSION,
    FACTS,
    PAGE,
    find_baseline,
    run_facts,
    run_folder,
)
from lhs.engine.tracking.tracker import Tracker
from lhs.evaluation.metrics import Scores
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.loading import stored_config
from lhs.report.assemble import Examples, ImageCounts, assemble
from lhs.report.content import ReportData, ReportFigure, ReportPictures, ReportTable
from lhs.report.drawing import mosaic
from lhs.report.groups import HIERARCHY_SEED, used
from lhs.report.page import render_page
from lhs.report.statistics import Difference, paired_t
from lhs.sweeps import FOLD, SEED

logger = logging.getLogger("lhs")


def write_report(
    stages: Stages,
    config: Config,
    name: str,
    tracker: Tracker,
) -> tuple[Evaluation | None, str]:
    """Write the page, figures and arrays of a finished run to `runs/`, and log them.

    Returns
    -------
    Evaluation or None
        The baseline that the run was compared with.
    str
        Path of the page.
    """
    storage = stages.storage
    scenes = annotated_scenes(stages, config)
    dataset = scenes.dataset
    model, scored = stages.make(MODEL, config), stages.make(EVALUATION, config)
    hierarchy = stages.make(HIERARCHY, config) if has_hierarchy(config) else None
    evaluation = read_evaluation(storage, scored)
    baseline_result, note = find_baseline(stages, config)
    baseline = None if baseline_result is None else read_evaluation(storage, baseline_result)
    notes = [text for text in (note, _pseudo_label_note(stages, config)) if text]
    if scenes.skipped:
        ids = ", ".join(list(scenes.skipped)[:10])
        notes.append(f"{len(scenes.skipped)} unreadable images were left out, such as {ids}.")
    if note:
        logger.warning(note)
    with storage.filesystem.open_input_file(f"{model.path}/history.parquet") as stream:
        history = pq.read_table(stream).to_pandas()
    images = _image_counts(storage, scored, baseline_result, len(dataset.classes))
    moved = [] if images is None or baseline is None else images.extremes()
    arrays, w, variation = None, None, None
    if hierarchy is not None:
        context, found = samples_of(stages, config, hierarchy)
        arrays = hierarchy_arrays(config, context, found)
        w, variation = learned(storage, f"{model.path}/model", found, context)
    folder = storage.path("runs", run_folder(name, tracker.run_id))
    shown: dict[str, Any] = {
        "title": name,
        "subtitle": f"{dataset.name}, {config.network.label}, {config.train.strategy}",
        "dataset": dataset.name,
        "strategy": config.train.strategy,
        "created": datetime.now().isoformat(sep=" ", timespec="minutes"),
        "seeds": [config.train.seed],
        "config": config.model_dump(mode="json"),
    }
    facts = shown | {
        "classes": list(dataset.classes),
        "run_id": tracker.run_id,
        "version": lhs.__version__,
        "tracking_uri": tracker.uri,
        "baseline": None if baseline_result is None else baseline_result.key,
        "scores": evaluation.scores.as_dict(),
        "baseline_scores": None if baseline is None else baseline.scores.as_dict(),
        "stages": stages.table(),
    }
    data = assemble(
        **shown,
        class_names=dataset.classes,
        colours=dataset.colours,
        void=dataset.void,
        confusion=evaluation.counts,
        baseline_confusion=None if baseline is None else baseline.counts,
        hierarchy=arrays,
        images=images,
        examples=_examples(storage, scenes, _chosen(config, scenes), scored, baseline_result),
        extremes=_examples(storage, scenes, moved, scored, baseline_result),
        repetitions=_repetitions(
            storage, config, evaluation.scores, None if baseline is None else baseline.scores
        ),
        learned=w,
        variation=variation,
        history=history,
        stages=[(stage.name, stage.reused, stage.seconds) for stage in stages.done],
        paths={
            "report": storage.address(f"{folder}/{PAGE}"),
            "model": storage.address(f"{model.path}/model"),
            "hierarchy": ""
            if hierarchy is None
            else storage.address(f"{hierarchy.path}/{HIERARCHY_FILE}"),
            "tracking store": tracker.uri,
            "MLflow run": tracker.run_id,
        },
        repeat=repeat_facts(
            storage, stages.make(SCENES, data_alone(config)).path, model.path, name
        ),
        recipe=config.yaml(),
        notes=notes,
    )
    facts["change_intervals"] = {
        key: [change.low, change.high] for key, change in data.intervals.items()
    }
    tracker.metrics(change_metrics(data.intervals))
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch)
        _write_files(local, data, facts, evaluation.counts)
        storage.make_folder(folder)
        storage.put_folder(local, folder)
        tracker.folder(local, "report")
        # MLflow's page that compares runs shows files at the top level only.
        tracker.folder(local / "figures")
    return baseline, storage.address(f"{folder}/{PAGE}")


def _write_files(folder: Path, data: ReportData, facts: dict[str, Any], counts: np.ndarray) -> None:
    (folder / PAGE).write_text(render_page(data), encoding="utf-8")
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    np.save(folder / CONFUSION, counts)
    for kind in ("figures", "tables"):
        (folder / kind).mkdir()
    for section in data.sections:
        for item in section.items:
            if isinstance(item, ReportFigure):
                (folder / "figures" / f"{item.key}.png").write_bytes(item.png)
            elif isinstance(item, ReportPictures):
                (folder / "figures" / f"{item.key}.png").write_bytes(mosaic(item))
            frame = item.frame if isinstance(item, ReportTable) else item.data
            frame.to_csv(folder / "tables" / f"{item.key}.csv", index=False)


def _pseudo_label_note(stages: Stages, config: Config) -> str:
    """The share of training labels that are annotations, not pseudo-labels."""
    facts = next((stage.facts for stage in stages.done if stage.name == "pseudo_labels"), None)
    if facts is None:
        return ""
    annotated, added = facts["annotated_pixels"], facts["filled_pixels"]
    learned = "" if config.unlabelled.train_on_pseudo_labels else " The network did not see them."
    return (
        f"The baseline made pseudo-labels for {facts['images']:,} of "
        f"{facts['training_images']:,} training images: {annotated / (annotated + added):.1%} of "
        f"the labels that the hierarchy is made from are annotations.{learned}"
    )


def stored_images(storage: Storage, evaluation: str, classes: int) -> ImageCounts | None:
    """Counts of each test image in an evaluation's folder; None where it has none, as those of
    earlier versions."""
    if not storage.exists(f"{evaluation}/{IMAGE_COUNTS}"):
        return None
    ids, counts = read_image_counts(storage, evaluation, classes)
    return ImageCounts(ids=ids, counts=counts)


def _image_counts(
    storage: Storage, scored: StageResult, baseline: StageResult | None, classes: int
) -> ImageCounts | None:
    """Counts of each test image, with the baseline's; None where one of them has none."""
    own = stored_images(storage, scored.path, classes)
    if own is None or baseline is None:
        return own
    before = stored_images(storage, baseline.path, classes)
    return None if before is None else replace(own, baseline=before.counts)


def _repetitions(
    storage: Storage, config: Config, own: Scores, baseline: Scores | None
) -> dict[str, Difference]:
    """Changes over this run and the stored ones that differ from it in seed and fold alone; empty
    where there are none."""
    if baseline is None:
        return {}
    pairs = {_repeat(config)[1]: (own.headline(), baseline.headline())}
    for name in storage.list(storage.path("runs")):
        folder = storage.path("runs", name)
        if not storage.exists(f"{folder}/{FACTS}"):
            continue
        try:
            facts = run_facts(storage, folder, ("config", "scores", "baseline_scores"))
        except DamagedError as error:
            logger.warning(f"left out of the repetitions: {error}")
            continue
        if facts["baseline_scores"] is not None:
            settings, repeat = _repeat(stored_config(facts["config"]))
            if settings == _repeat(config)[0]:
                pairs.setdefault(repeat, (facts["scores"], facts["baseline_scores"]))
    if len(pairs) < 2:
        return {}
    first, second = zip(*pairs.values(), strict=True)
    return {
        key: paired_t([one[key] for one in first], [one[key] for one in second])
        for key in ("per_pixel", "per_class", "mean_iou")
    }


def _repeat(config: Config) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """The settings of a run, and its seed and fold."""
    settings = used(config.dotted())
    seed, fold = settings.pop(SEED), settings.pop(FOLD)
    if settings.get(HIERARCHY_SEED) == seed:
        settings[HIERARCHY_SEED] = SEED
    return settings, (seed, fold)


def _examples(
    storage: Storage,
    scenes: CheckedScenes,
    ids: Sequence[str],
    scored: StageResult,
    baseline: StageResult | None,
) -> Examples | None:
    """Some test images with what was predicted."""
    if not ids:
        return None
    predictions = read_predictions(storage, scored)
    before = None if baseline is None else read_predictions(storage, baseline)
    pairs = [scenes.dataset.scene(id).load() for id in ids]
    truths = [truth for _, truth in pairs]

    def drawn(found: dict[str, np.ndarray]) -> list[np.ndarray]:
        # Predictions have the full size, images that of `data.long_side`.
        return [
            resized_nearest(found[id], truth.shape) for id, truth in zip(ids, truths, strict=True)
        ]

    return Examples(
        ids=ids,
        images=[image for image, _ in pairs],
        truths=truths,
        predictions=drawn(predictions),
        baseline_predictions=None if before is None else drawn(before),
    )


def _chosen(config: Config, scenes: CheckedScenes) -> list[str]:
    """Ids evenly through the sorted test images: the same for every run on a dataset."""
    test = scenes.split("test")
    count = min(config.report.scenes, len(test))
    return [test[round(place)].id for place in np.linspace(0, len(test) - 1, count)]
