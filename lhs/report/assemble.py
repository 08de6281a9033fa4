"""Build the content of a run's page from its stored arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import scores
from lhs.report.content import ReportData
from lhs.report.sections import (
    Examples,
    HierarchyArrays,
    confusion_section,
    examples_section,
    hierarchy_section,
    scores_section,
    training_section,
)

__all__ = ["Examples", "HierarchyArrays", "assemble"]


def assemble(
    *,
    strategy: str,
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
    confusion: np.ndarray,
    baseline_confusion: np.ndarray | None = None,
    hierarchy: HierarchyArrays | None = None,
    examples: Examples | None = None,
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
    examples
        A few test images with predictions.
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
    sections = [scores_section(strategy, class_names, confusion, own, baseline, hierarchy)]
    if examples is not None:
        sections.append(examples_section(strategy, examples, class_names, colours, void))
    if hierarchy is not None:
        sections.append(hierarchy_section(class_names, hierarchy))
    sections.append(confusion_section(confusion, class_names))
    training = training_section(history, list(stages))
    if training.items:
        sections.append(training)
    return ReportData(
        strategy=strategy, class_names=tuple(class_names), scores=own, baseline=baseline,
        sections=tuple(sections), **page,
    )  # fmt: skip
