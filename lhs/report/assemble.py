"""Build the content of a run's page from its stored arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import scores
from lhs.report.changes import (
    Examples,
    ImageCounts,
    LearnedW,
    features_table,
    repetitions_table,
    w_figure,
)
from lhs.report.content import ReportData
from lhs.report.hierarchy import HierarchyArrays, hierarchy_section
from lhs.report.sections import (
    confusion_section,
    examples_section,
    scores_section,
    training_section,
)
from lhs.report.statistics import Difference, changes

__all__ = ["Examples", "HierarchyArrays", "ImageCounts", "LearnedW", "assemble"]


def assemble(
    *,
    strategy: str,
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
    confusion: np.ndarray,
    baseline_confusion: np.ndarray | None = None,
    hierarchy: HierarchyArrays | None = None,
    images: ImageCounts | None = None,
    examples: Examples | None = None,
    extremes: Examples | None = None,
    repetitions: Mapping[str, Difference] | None = None,
    learned: LearnedW | None = None,
    variation: pd.DataFrame | None = None,
    history: pd.DataFrame | None = None,
    stages: Iterable[tuple[str, bool, float]] = (),
    **page: Any,
) -> ReportData:
    """Draw all figures and tables of a run; what was not stored is left out.

    Parameters
    ----------
    strategy
        As in `ReportData`.
    class_names
        L names.
    colours
        (L, 3) uint8.
    void
        The id of unlabelled pixels.
    confusion, baseline_confusion
        (L, L) test pixel counts, rows truth.
    hierarchy
        Of the run, or of the run it is compared with; None for a baseline alone.
    images
        Counts of each test image, of the run and of what it is compared with.
    examples, extremes
        A few test images with predictions; those that changed most.
    repetitions
        Changes over seeds and folds, by score.
    learned
        W, of a run that learned it.
    variation
        Of features, see `lhs.evaluation.variation`.
    history
        The logged training steps, as `figures.curves` takes them.
    stages
        (name, reused, seconds) in the order they ran.
    page
        The other fields of `ReportData`, such as `title` and `config`.

    Returns
    -------
    ReportData
        For `page.render_page`.
    """
    own = scores(confusion)
    baseline = None if baseline_confusion is None else scores(baseline_confusion)
    changed = None
    if images is not None and images.baseline is not None:
        changed = changes(images.counts, images.baseline)
    sections = [
        scores_section(
            strategy, class_names, confusion, own, baseline,
            None if hierarchy is None else hierarchy.common,
            images=images, changed=changed,
            repetitions=repetitions_table(repetitions) if repetitions else None,
        )
    ]  # fmt: skip
    if hierarchy is not None:
        sections.append(hierarchy_section(hierarchy))
    if examples is not None or images is not None:
        sections.append(
            examples_section(
                strategy, class_names, colours, void,
                examples=examples, extremes=extremes, images=images,
            )
        )  # fmt: skip
    sections.append(confusion_section(confusion, class_names, baseline_confusion))
    parts = [] if learned is None else [w_figure(learned, class_names, history)]
    tables = [] if variation is None or not len(variation) else [features_table(variation)]
    training = training_section(history, list(stages), [*parts, *tables])
    if training.items:
        sections.append(training)
    return ReportData(
        strategy=strategy, class_names=tuple(class_names), scores=own, baseline=baseline,
        sections=tuple(sections),
        intervals={} if changed is None else changed.scores, **page,
    )  # fmt: skip
