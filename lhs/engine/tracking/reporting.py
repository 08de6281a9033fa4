"""Writes the report of a run from the stored results, its arrays beside its figures."""

from __future__ import annotations

import json
import logging
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lhs.config import IMAGE_KINDS, Config
from lhs.data.resizing import resized_nearest
from lhs.engine.cache import Stages
from lhs.engine.graph import (
    EVALUATION,
    HIERARCHY,
    MODEL,
    SAMPLES,
    annotated_scenes,
    context_scenes,
    has_hierarchy,
)
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import Evaluation, read_evaluation, read_predictions
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.training import baseline_of
from lhs.engine.tracking.examples import subclass_patches
from lhs.engine.tracking.tracker import Tracker
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.report.assemble import Examples, HierarchyArrays, assemble
from lhs.report.content import ReportData, ReportFigure, ReportTable
from lhs.report.page import render_page

logger = logging.getLogger("lhs")

PAGE, FACTS, CONFUSION = "report.html", "run.json", "confusion.npy"


def find_baseline(stages: Stages, config: Config) -> tuple[StageResult | None, str]:
    """The evaluation of the same network trained as baseline, if there is one, and a note."""
    if not has_hierarchy(config) or config.report.baseline == "none":
        return None, ""
    baseline = baseline_of(config)
    if stages.find(MODEL, baseline) is None:
        return None, (
            "No baseline of this network with these settings is in the storage: nothing is "
            "compared. Run the baseline recipe first, or use --set report.baseline=train."
        )
    scored = stages.find(EVALUATION, baseline)
    return scored, "" if scored else (
        "A baseline of this network is trained, but not scored with these settings: nothing is "
        "compared. Run the baseline recipe as well, or use --set report.baseline=train."
    )


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
    folder = storage.path("runs", f"{name.replace(' ', '-')}-{tracker.run_id[:8]}")
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
        hierarchy=_hierarchy_arrays(stages, config, hierarchy),
        examples=_examples(stages, config, scenes, scored, baseline_result),
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
        notes=notes,
    )
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
            elif isinstance(item, ReportTable):
                item.frame.to_csv(folder / "tables" / f"{item.key}.csv", index=False)


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


def _hierarchy_arrays(
    stages: Stages, config: Config, result: StageResult | None
) -> HierarchyArrays | None:
    if result is None:
        return None
    storage = stages.storage
    hierarchy = read_hierarchy(storage, result.path)
    scenes, samples = context_scenes(stages, config), stages.make(SAMPLES, config)
    patch_class, patches = subclass_patches(storage, config, scenes, hierarchy, samples)
    settings = config.hierarchy
    how = "scene names"
    if settings.source == "label_clusters":
        how = f"label-map clusters, R = {settings.region:g}"
    elif settings.source in IMAGE_KINDS:
        described_by = hierarchy.made.get("described_by", "gist")
        how = f"{settings.image_clusters} image clusters ({described_by})"
    if settings.kind == "file":
        how = f"{hierarchy.kind.replace('_', ' ')} of {settings.file}"
    if settings.kind == "random":
        how = f"random, with the numbers and shares of {how}"
    return HierarchyArrays(
        class_counts=np.array(hierarchy.made["class_counts"]),
        common=hierarchy.common,
        subclass_names=[subclass.name for subclass in hierarchy.subclasses],
        subclass_counts=np.array([subclass.count for subclass in hierarchy.subclasses]),
        parents=hierarchy.parents,
        description={"classes": "", "file": how}.get(
            settings.kind, f"{how}, rho = {settings.rho:g}"
        ),
        patch_class=patch_class,
        patches=patches,
    )


def _examples(
    stages: Stages,
    config: Config,
    scenes: CheckedScenes,
    scored: StageResult,
    baseline: StageResult | None,
) -> Examples | None:
    test = scenes.split("test")
    count = min(config.report.scenes, len(test))
    if not count:
        return None
    # Evenly through the sorted ids: the same images for every run on a dataset, not picked.
    chosen = [test[round(place)] for place in np.linspace(0, len(test) - 1, count)]
    predictions = read_predictions(stages.storage, scored)
    before = None if baseline is None else read_predictions(stages.storage, baseline)
    truths = [scene.label_map() for scene in chosen]

    def drawn(found: dict[str, np.ndarray]) -> list[np.ndarray]:
        # Predictions have the full size, images that of `data.long_side`.
        return [
            resized_nearest(found[scene.id], truth.shape)
            for scene, truth in zip(chosen, truths, strict=True)
        ]

    return Examples(
        images=[scene.image() for scene in chosen],
        truths=truths,
        predictions=drawn(predictions),
        baseline_predictions=None if before is None else drawn(before),
    )
