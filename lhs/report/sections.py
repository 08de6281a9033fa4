"""The sections of a run's page: figures and tables with captions that explain them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import Scores
from lhs.report import figures
from lhs.report.changes import (
    Examples,
    ImageCounts,
    confusion_change,
    examples_pictures,
    images_table,
    matrix_frame,
    row_percents,
)
from lhs.report.content import ReportFigure, ReportTable, Section
from lhs.report.drawing import draw
from lhs.report.statistics import Changes, images_of_classes
from lhs.report.tables import HIGH, LOW, per_class_table, scores_table, stage_table
from lhs.report.wording import plural


def scores_section(
    strategy: str,
    class_names: Sequence[str],
    confusion: np.ndarray,
    own: Scores,
    baseline: Scores | None,
    common: np.ndarray | None,
    *,
    images: ImageCounts | None = None,
    changed: Changes | None = None,
    repetitions: ReportTable | None = None,
) -> Section:
    """The scores beside the baseline's, in all and by class."""
    scores = dict.fromkeys(("accuracy", "IoU", "baseline accuracy", "baseline", strategy), "score")
    counts = dict.fromkeys(("test pixels", "test images"), "count")
    formats = scores | counts | dict.fromkeys(("change", LOW, HIGH), "change")
    by_class = per_class_table(
        class_names, confusion.sum(axis=1), own, baseline, common, changed=changed,
        test_images=None if images is None else images_of_classes(images.counts),
    )  # fmt: skip
    first = "Classes with the most test pixels" if baseline is None else "The largest gains"
    interval = (
        " The interval holds 95 % of 10,000 resamples of the test images: it says how far the "
        "change depends on the images, not how far it depends on the training's seed."
    )
    items: list[ReportFigure | ReportTable] = [
        ReportTable(
            key="scores", title="Scores",
            caption="All scores come from one confusion matrix of counts over the test set; "
            "unannotated pixels never count. Per-class accuracy is the mean over the classes "
            "with test pixels; the last row divides the same sum by all L classes."
            + ("" if changed is None else interval),
            frame=scores_table(strategy, own, baseline, {} if changed is None else changed.scores),
            formats=formats,
        )
    ]  # fmt: skip
    if repetitions is not None:
        items.append(repetitions)
    if baseline is not None:
        items.append(_change_figure(class_names, own, baseline, common, changed, by_class))
    items.append(
        ReportTable(
            key="classes", title="Every class",
            caption=f"{first} come first. Accuracy is the share of a class's pixels that are "
            "found; IoU also counts the pixels that other classes lost to it. A dash stands for a "
            "class without a test pixel. Of a class in few test images little can be said, "
            "whatever its interval.",
            frame=by_class,
            folded=len(class_names) > figures.MOST,
            formats=formats,
        )
    )  # fmt: skip
    return Section(
        key="scores-section", title="What came out",
        intro="The scores as a whole, then class by class.",
        items=tuple(items),
    )  # fmt: skip


def _change_figure(
    class_names: Sequence[str],
    own: Scores,
    baseline: Scores,
    common: np.ndarray | None,
    changed: Changes | None,
    by_class: pd.DataFrame,
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
        interval=None if changed is None else (changed.low, changed.high),
        key="per_class_change", title="Change by class",
        caption="The accuracy of each class less that of the baseline, the largest gain on top; "
        "bars to the left are losses. Classes without a test pixel are left out."
        + ("" if changed is None else " Thin lines are 95 % intervals.")
        + ("" if common is None else kinds),
        alt=f"Bar chart of the change in accuracy per class: {gained} gained, {lost} lost.",
        data=by_class,
    )  # fmt: skip


def examples_section(
    strategy: str,
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
    *,
    examples: Examples | None,
    extremes: Examples | None,
    images: ImageCounts | None,
) -> Section:
    """Test images with their predictions, those that changed most, and a table of all."""
    shown = (
        ("extremes", "Largest gains and losses", extremes),
        ("qualitative", "Some test images", examples),
    )
    items = [
        examples_pictures(key, title, strategy, some, class_names, colours, void)
        for key, title, some in shown
        if some is not None
    ]
    tables = [] if images is None else [images_table(images)]
    return Section(
        key="examples-section", title="What it looks like",
        intro="Numbers hide where the errors lie; these test images show it."
        + (" Those that gained most come first, then those that lost most, then some that are not "
           "picked." if extremes is not None else ""),
        items=(*items, *tables),
    )  # fmt: skip


def confusion_section(
    confusion: np.ndarray, class_names: Sequence[str], baseline: np.ndarray | None = None
) -> Section:
    """The confusion matrix, and its change against the baseline."""
    others = len(class_names) - figures.MOST
    together = (
        f" The {others} classes with the fewest test pixels are one row and column at the end; "
        "right there means to be confused with any of them."
    )
    figure = draw(
        figures.confusion, confusion, class_names,
        key="confusion", title="Confusion",
        caption="A row is an annotated class, a column a predicted one; numbers are "
        "percent of the row's test pixels, so the diagonal is the class's accuracy. "
        "Classes are in order of their test pixels. Colour grows with the square root, "
        "so that small confusions show. Grey rows have no test pixel. Narrow screens show the "
        "most frequent classes." + (together if others > 1 else ""),
        alt=f"Confusion matrix of {len(class_names)} classes in percent of each row.",
        data=matrix_frame(row_percents(confusion), class_names),
    )  # fmt: skip
    change = [] if baseline is None else [confusion_change(confusion, baseline, class_names)]
    return Section(
        key="confusion-section", title="Confusion matrix",
        intro="Where the network misses a class, the matrix shows what it predicts instead.",
        items=(figure, *change),
    )  # fmt: skip


def training_section(
    history: pd.DataFrame | None,
    stages: list[tuple[str, bool, float]],
    learned: Sequence[ReportFigure | ReportTable] = (),
) -> Section:
    """The curves of the training, what was learned, the times of the stages; empty without all."""
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
                data=history,
            )
        )  # fmt: skip
    items += learned
    if stages:
        items.append(
            ReportTable(
                key="stages", title="Stages",
                caption="A stage is reused if its inputs and its settings are those of an "
                "earlier run; its seconds are those that it took when it was made.",
                frame=stage_table(stages),
                formats={"seconds": "seconds"},
            )
        )  # fmt: skip
    return Section(
        key="training-section", title="How it was trained",
        intro="The course of the training and where the time went.",
        items=tuple(items),
    )  # fmt: skip
