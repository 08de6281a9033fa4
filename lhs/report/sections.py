"""The parts of a run's page: figures and tables with captions that explain them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


def drawn(
    key: str,
    title: str,
    caption: str,
    alt: str,
    draw: Callable[[figures.Theme], Figure],
    *,
    photographs: bool = False,
) -> ReportFigure:
    """Draw a figure on a light and on a dark ground."""
    return ReportFigure(
        key=key,
        title=title,
        caption=caption,
        alt=alt,
        png=figures.to_png(draw(figures.LIGHT)),
        png_dark=figures.to_png(draw(figures.DARK)),
        photographs=photographs,
    )


def scores_section(
    strategy: str,
    class_names: Sequence[str],
    confusion: np.ndarray,
    own: Scores,
    baseline: Scores | None,
    hierarchy: HierarchyArrays | None,
) -> Section:
    """Set the scores beside the baseline's, as a whole and by class."""
    common = None if hierarchy is None else hierarchy.common
    items: list[ReportFigure | ReportTable] = [
        ReportTable(
            key="scores",
            title="Scores",
            caption="All scores come from one confusion matrix of counts over the test set; "
            "unannotated pixels never count. Per-class accuracy is the mean over the classes "
            "with test pixels; the last row divides the same sum by all L classes.",
            frame=scores_table(strategy, own, baseline),
            formats={"baseline": "score", strategy: "score", "change": "change"},
        )
    ]
    if baseline is not None:
        items.append(_change_figure(class_names, own, baseline, common))
    items.append(
        ReportTable(
            key="classes",
            title="Every class",
            caption="Classes with the most test pixels come first. Accuracy is the share of a "
            "class's pixels that are found; IoU also counts the pixels that other classes lost "
            "to it. A dash stands for a class without a test pixel.",
            frame=per_class_table(class_names, confusion.sum(axis=1), own, baseline, common),
            folded=len(class_names) > figures.MOST,
            formats={
                "test pixels": "count",
                "accuracy": "score",
                "IoU": "score",
                "baseline accuracy": "score",
                "change": "change",
            },
        )
    )
    return Section(
        key="scores-section",
        title="What came out",
        intro="The scores as a whole, then class by class.",
        items=tuple(items),
    )


def _change_figure(
    class_names: Sequence[str], own: Scores, baseline: Scores, common: np.ndarray | None
) -> ReportFigure:
    change = np.asarray(own.per_class_accuracy) - np.asarray(baseline.per_class_accuracy)
    gained, lost = int((change >= 0.0005).sum()), int((change <= -0.0005).sum())
    kinds = (
        ""
        if common is None
        else (
            " Solid bars are common classes, outlined ones are rare and were never split. Bars of "
            "rare classes often rest on few pixels and swing widely."
        )
    )
    return drawn(
        "per_class_change",
        "Change by class",
        "The accuracy of each class less that of the baseline, the largest gain on top; bars to "
        f"the left are losses. Classes without a test pixel are left out.{kinds}",
        f"Bar chart of the change in accuracy per class: {gained} gained, {lost} lost.",
        lambda theme: figures.per_class_change(
            class_names,
            baseline.per_class_accuracy,
            own.per_class_accuracy,
            common,
            theme=theme,
        ),
    )


def examples_section(
    strategy: str, examples: Examples, class_names: Sequence[str], colours: np.ndarray, void: int
) -> Section:
    """Show test images with their predictions."""
    beside = "" if examples.baseline_predictions is None else "the baseline's prediction, "
    return Section(
        key="examples-section",
        title="What it looks like",
        intro="Numbers hide where the errors lie; these test images show it.",
        items=(
            drawn(
                "qualitative",
                "Test images",
                f"From left to right: the image, its annotation, {beside}and the prediction of "
                "this run. Below each prediction stands the share of annotated pixels that are "
                "right. Grey areas carry no annotation and count for nothing.",
                f"{plural(len(examples.images), 'test image')} with annotation and predictions "
                "as colour maps, and a legend of the classes that occur.",
                lambda theme: figures.qualitative(
                    examples.images,
                    examples.truths,
                    examples.predictions,
                    class_names,
                    colours,
                    void,
                    examples.baseline_predictions,
                    name=strategy,
                    theme=theme,
                ),
                photographs=True,
            ),
        ),
    )


def hierarchy_section(class_names: Sequence[str], hierarchy: HierarchyArrays) -> Section:
    """Show what the classes were split into."""
    number, total = len(class_names), len(hierarchy.subclass_names)
    items: list[ReportFigure | ReportTable] = [
        drawn(
            "class_frequencies",
            "Samples before and after",
            "Above, how many samples each class has; below, how many each subclass has, both in "
            "descending order and on one logarithmic scale. Common classes are coloured, the "
            "number above a bar is that of its subclasses. A good split flattens the left end "
            "of the lower row.",
            f"Two bar charts of sample counts: {number} classes and {total} subclasses.",
            lambda theme: figures.class_frequencies(
                class_names,
                hierarchy.class_counts,
                hierarchy.subclass_names,
                hierarchy.subclass_counts,
                hierarchy.parents,
                hierarchy.common,
                theme=theme,
            ),
        )
    ]
    if hierarchy.patches:
        patches = hierarchy.patches
        counts = dict(zip(hierarchy.subclass_names, hierarchy.subclass_counts, strict=True))
        items.append(
            drawn(
                "subclass_patches",
                f"Subclasses of {hierarchy.patch_class}",
                "Each row shows patches of one subclass, all of the same class: the cross marks "
                "the pixel whose class it is. If the context tells types apart, a row looks "
                "alike and the rows look different. Even areas at the edge are padding.",
                f"Example patches of {plural(len(patches), 'subclass', 'subclasses')} of "
                f"{hierarchy.patch_class}, one row each.",
                lambda theme: figures.subclass_patches(
                    patches, sizes={name: int(counts[name]) for name in patches}, theme=theme
                ),
                photographs=True,
            )
        )
    items.append(
        ReportTable(
            key="hierarchy",
            title="Subclasses of each class",
            caption="Sizes are samples of the augmented training set. Rare classes keep one "
            "subclass each: themselves.",
            frame=hierarchy_table(
                class_names,
                hierarchy.class_counts,
                hierarchy.common,
                hierarchy.subclass_counts,
                hierarchy.parents,
            ),
            formats=dict.fromkeys(["samples", "subclasses", "smallest", "largest"], "count"),
        )
    )
    made = f" ({hierarchy.description})" if hierarchy.description else ""
    return Section(
        key="hierarchy-section",
        title="The label hierarchy",
        intro=f"{plural(len(hierarchy.common), 'common class', 'common classes')} of {number} "
        f"were split by their surroundings, which gives {total} subclasses{made}.",
        items=tuple(items),
    )


def confusion_section(confusion: np.ndarray, class_names: Sequence[str]) -> Section:
    """Show what is taken for what."""
    others = len(class_names) - figures.MOST
    together = (
        ""
        if others < 2
        else (
            f" The {others} classes with the fewest test pixels are taken together at the end; "
            "right there means to be taken for any of them."
        )
    )
    return Section(
        key="confusion-section",
        title="What is taken for what",
        intro="Where a class is missed, this tells what was seen in its place.",
        items=(
            drawn(
                "confusion",
                "Confusion",
                "A row is an annotated class, a column a predicted one; numbers are percent of "
                "the row's test pixels, so the diagonal is the class's accuracy. Classes stand "
                "in order of their test pixels. Colour grows with the square root, so that small "
                f"confusions show. Grey rows have no test pixel.{together}",
                f"Confusion matrix of {len(class_names)} classes in percent of each row.",
                lambda theme: figures.confusion(confusion, class_names, theme=theme),
            ),
        ),
    )


def training_section(
    history: pd.DataFrame | None, stages: list[tuple[str, bool, float]]
) -> Section:
    """Show the course of the training and its stages; empty where neither was stored."""
    items: list[ReportFigure | ReportTable] = []
    if history is not None and len(history):
        phases = list(dict.fromkeys(history["phase"].astype(str)))
        items.append(
            drawn(
                "curves",
                "Training curves",
                "The training loss (faint: each logged step; bold: its running mean within a "
                "phase) above the learning rate. Dashed lines part the phases. Losses of phases "
                "with different labels, subclasses or classes, do not compare.",
                f"Training loss and learning rate over {plural(len(phases), 'phase')}: "
                f"{', '.join(phases)}.",
                lambda theme: figures.curves(history, theme=theme),
            )
        )
    if stages:
        items.append(
            ReportTable(
                key="stages",
                title="Stages",
                caption="A stage is reused if its inputs and its settings are those of an "
                "earlier run; its seconds are then those of finding it.",
                frame=stage_table(stages),
                formats={"seconds": "seconds"},
            )
        )
    return Section(
        key="training-section",
        title="How it was trained",
        intro="The course of the training and where the time went.",
        items=tuple(items),
    )
