"""The sections of a run's page: figures and tables with captions that explain them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lhs.evaluation.metrics import Scores
from lhs.report import figures
from lhs.report.content import ReportFigure, ReportTable, Section
from lhs.report.tables import hierarchy_table, per_class_table, scores_table, stage_table
from lhs.report.wording import plural


@dataclass(frozen=True, kw_only=True)
class HierarchyArrays:
    """A label hierarchy in numbers.

    Attributes
    ----------
    class_counts
        (L,) samples per class.
    common
        (C,) ids of the common classes, most frequent first.
    subclass_names, subclass_counts, parents
        Of the n subclasses: names, samples (n,), class ids (n,).
    description
        One sentence on how it was made, such as "label-map clusters, R = 129, rho = 0.93".
    patch_class
        The class whose patches are shown.
    patches
        From the subclass's name to (h, w, 3) uint8 patches; empty shows none.
    """

    class_counts: np.ndarray
    common: np.ndarray
    subclass_names: Sequence[str]
    subclass_counts: np.ndarray
    parents: np.ndarray
    description: str = ""
    patch_class: str = ""
    patches: Mapping[str, Sequence[np.ndarray]] | None = None


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Test images with their annotation and predictions, as `figures.qualitative` takes them."""

    images: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    predictions: Sequence[np.ndarray]
    baseline_predictions: Sequence[np.ndarray] | None = None


def draw(
    figure: Callable[..., Figure],
    *arrays: Any,
    key: str,
    title: str,
    caption: str,
    alt: str,
    photographs: bool = False,
    **options: Any,
) -> ReportFigure:
    """Draw `figure(*arrays, **options)` on a light and on a dark ground; the rest as in
    `ReportFigure`."""
    light, dark = (
        figures.to_png(figure(*arrays, theme=theme, **options))
        for theme in (figures.LIGHT, figures.DARK)
    )
    return ReportFigure(
        key=key, title=title, caption=caption, alt=alt, png=light, png_dark=dark,
        photographs=photographs,
    )  # fmt: skip


def scores_section(
    strategy: str,
    class_names: Sequence[str],
    confusion: np.ndarray,
    own: Scores,
    baseline: Scores | None,
    hierarchy: HierarchyArrays | None,
) -> Section:
    """The scores beside the baseline's, in all and by class."""
    common = None if hierarchy is None else hierarchy.common
    changes = [] if baseline is None else [_change_figure(class_names, own, baseline, common)]
    scores = dict.fromkeys(("accuracy", "IoU", "baseline accuracy", "baseline", strategy), "score")
    formats = scores | {"change": "change", "test pixels": "count"}
    return Section(
        key="scores-section", title="What came out",
        intro="The scores as a whole, then class by class.",
        items=(
            ReportTable(
                key="scores", title="Scores",
                caption="All scores come from one confusion matrix of counts over the test set; "
                "unannotated pixels never count. Per-class accuracy is the mean over the classes "
                "with test pixels; the last row divides the same sum by all L classes.",
                frame=scores_table(strategy, own, baseline),
                formats=formats,
            ),
            *changes,
            ReportTable(
                key="classes", title="Every class",
                caption="Classes with the most test pixels come first. Accuracy is the share of a "
                "class's pixels that are found; IoU also counts the pixels that other classes lost "
                "to it. A dash stands for a class without a test pixel.",
                frame=per_class_table(class_names, confusion.sum(axis=1), own, baseline, common),
                folded=len(class_names) > figures.MOST,
                formats=formats,
            ),
        ),
    )  # fmt: skip


def _change_figure(
    class_names: Sequence[str], own: Scores, baseline: Scores, common: np.ndarray | None
) -> ReportFigure:
    before, after = baseline.per_class_accuracy, own.per_class_accuracy
    change = np.asarray(after) - np.asarray(before)
    gained, lost = int((change >= 0.0005).sum()), int((change <= -0.0005).sum())
    kinds = (
        " Solid bars are common classes, outlined ones are rare and were never split. Bars of "
        "rare classes often rest on few pixels and swing widely."
    )
    return draw(
        figures.per_class_change, class_names, before, after, common,
        key="per_class_change", title="Change by class",
        caption="The accuracy of each class less that of the baseline, the largest gain on top; "
        "bars to the left are losses. Classes without a test pixel are left out."
        + ("" if common is None else kinds),
        alt=f"Bar chart of the change in accuracy per class: {gained} gained, {lost} lost.",
    )  # fmt: skip


def examples_section(
    strategy: str, examples: Examples, class_names: Sequence[str], colours: np.ndarray, void: int
) -> Section:
    """Test images with their predictions."""
    beside = "" if examples.baseline_predictions is None else "the baseline's prediction, "
    return Section(
        key="examples-section", title="What it looks like",
        intro="Numbers hide where the errors lie; these test images show it.",
        items=(
            draw(
                figures.qualitative,
                examples.images, examples.truths, examples.predictions,
                class_names, colours, void, examples.baseline_predictions,
                name=strategy,
                key="qualitative", title="Test images",
                caption=f"From left to right: the image, its annotation, {beside}and the "
                "prediction of this run. Below each prediction is the share of annotated "
                "pixels that are right. Grey areas carry no annotation and count for nothing.",
                alt=f"{plural(len(examples.images), 'test image')} with annotation and predictions "
                "as colour maps, and a legend of the classes that occur.",
                photographs=True,
            ),
        ),
    )  # fmt: skip


def hierarchy_section(class_names: Sequence[str], hierarchy: HierarchyArrays) -> Section:
    """The subclasses of each class."""
    number, total = len(class_names), len(hierarchy.subclass_names)
    items: list[ReportFigure | ReportTable] = [
        draw(
            figures.class_frequencies,
            class_names, hierarchy.class_counts, hierarchy.subclass_names,
            hierarchy.subclass_counts, hierarchy.parents, hierarchy.common,
            key="class_frequencies", title="Samples before and after",
            caption="Above, how many samples each class has; below, how many each subclass has, "
            "both in descending order and on one logarithmic scale. Common classes are coloured, "
            "the number above a bar is that of its subclasses. A good split flattens the left end "
            "of the lower row.",
            alt=f"Two bar charts of sample counts: {number} classes and {total} subclasses.",
        )
    ]  # fmt: skip
    if hierarchy.patches:
        counts = dict(zip(hierarchy.subclass_names, hierarchy.subclass_counts, strict=True))
        items.append(
            draw(
                figures.subclass_patches,
                hierarchy.patches,
                sizes={name: int(counts[name]) for name in hierarchy.patches},
                key="subclass_patches", title=f"Subclasses of {hierarchy.patch_class}",
                caption="Each row shows patches of one subclass, all of the same class: the cross "
                "marks the pixel whose class it is. If the context tells types apart, a row looks "
                "alike and the rows look different. Even areas at the edge are padding.",
                alt="Example patches of "
                f"{plural(len(hierarchy.patches), 'subclass', 'subclasses')} of "
                f"{hierarchy.patch_class}, one row each.",
                photographs=True,
            )
        )  # fmt: skip
    items.append(
        ReportTable(
            key="hierarchy", title="Subclasses of each class",
            caption="Sizes are samples of the augmented training set. Rare classes keep one "
            "subclass each: themselves.",
            frame=hierarchy_table(
                class_names, hierarchy.class_counts, hierarchy.common, hierarchy.subclass_counts,
                hierarchy.parents,
            ),
            formats=dict.fromkeys(["samples", "subclasses", "smallest", "largest"], "count"),
        )
    )  # fmt: skip
    made = f" ({hierarchy.description})" if hierarchy.description else ""
    intro = f"Each of the {plural(number, 'class', 'classes')} is its own only subclass{made}."
    if len(hierarchy.common):
        common = plural(len(hierarchy.common), "common class", "common classes")
        intro = f"{common} of {number} were split, which gives {total} subclasses{made}."
    return Section(
        key="hierarchy-section", title="The label hierarchy",
        intro=intro,
        items=tuple(items),
    )  # fmt: skip


def confusion_section(confusion: np.ndarray, class_names: Sequence[str]) -> Section:
    """The confusion matrix."""
    others = len(class_names) - figures.MOST
    together = (
        f" The {others} classes with the fewest test pixels are one row and column at the end; "
        "right there means to be confused with any of them."
    )
    return Section(
        key="confusion-section", title="Confusion matrix",
        intro="Where the network misses a class, the matrix shows what it predicts instead.",
        items=(
            draw(
                figures.confusion, confusion, class_names,
                key="confusion", title="Confusion",
                caption="A row is an annotated class, a column a predicted one; numbers are "
                "percent of the row's test pixels, so the diagonal is the class's accuracy. "
                "Classes are in order of their test pixels. Colour grows with the square root, "
                "so that small confusions show. Grey rows have no test pixel."
                + (together if others > 1 else ""),
                alt=f"Confusion matrix of {len(class_names)} classes in percent of each row.",
            ),
        ),
    )  # fmt: skip


def training_section(
    history: pd.DataFrame | None, stages: list[tuple[str, bool, float]]
) -> Section:
    """The curves of the training and the times of the stages; empty where neither was stored."""
    items: list[ReportFigure | ReportTable] = []
    if history is not None and len(history):
        phases = list(dict.fromkeys(history["phase"].astype(str)))
        items.append(
            draw(
                figures.curves,
                history,
                key="curves", title="Training curves",
                caption="The training loss (faint: each logged step; bold: its running mean "
                "within a phase) above the learning rate. Dashed lines part the phases. Losses of "
                "phases with different labels, subclasses or classes, do not compare.",
                alt=f"Training loss and learning rate over {plural(len(phases), 'phase')}: "
                f"{', '.join(phases)}.",
            )
        )  # fmt: skip
    if stages:
        items.append(
            ReportTable(
                key="stages", title="Stages",
                caption="A stage is reused if its inputs and its settings are those of an "
                "earlier run; its seconds are then those of finding it.",
                frame=stage_table(stages),
                formats={"seconds": "seconds"},
            )
        )  # fmt: skip
    return Section(
        key="training-section", title="How it was trained",
        intro="The course of the training and where the time went.",
        items=tuple(items),
    )  # fmt: skip
