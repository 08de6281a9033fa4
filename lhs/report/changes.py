"""What changed where: by image, by class, in the confusions, in W and in the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import scores
from lhs.report import figures
from lhs.report.content import Picture, ReportFigure, ReportPictures, ReportTable
from lhs.report.drawing import css, draw, painted, placed_names
from lhs.report.wording import plural, score, share, with_interval

BOTH, GAINED, LOST, NEITHER = "#b9c2cc", "#1f66ad", "#e0762f", "#3a3f47"
"""Of pixels in error maps."""
EXTREMES = 3
"""Images with the largest gain and with the largest loss."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Test images with their annotation and predictions.

    Attributes
    ----------
    ids
        Of the images.
    images, truths, predictions, baseline_predictions
        (H, W, 3) uint8, then (H, W) class ids each; the last may be missing.
    """

    ids: Sequence[str]
    images: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    predictions: Sequence[np.ndarray]
    baseline_predictions: Sequence[np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """Counts (N, L, L) of each test image, rows truth, of a run and of its baseline."""

    ids: Sequence[str]
    counts: np.ndarray
    baseline: np.ndarray | None = None

    def table(self) -> pd.DataFrame:
        """A row an image: `image`, `labelled pixels`, `accuracy`, `per class`, and with a baseline
        `baseline accuracy` and `change`; the largest gain first."""
        own = [scores(one) for one in self.counts]
        frame = pd.DataFrame(
            {
                "image": list(self.ids),
                "labelled pixels": self.counts.sum(axis=(1, 2)),
                "accuracy": [one.per_pixel for one in own],
                "per class": [one.per_class for one in own],
            }
        )
        if self.baseline is None:
            return frame
        frame["baseline accuracy"] = [scores(one).per_pixel for one in self.baseline]
        frame["change"] = frame["accuracy"] - frame["baseline accuracy"]
        return frame.sort_values("change", ascending=False, kind="stable", ignore_index=True)

    def extremes(self) -> list[str]:
        """Ids of the images with the largest gain, then of those with the largest loss, the largest
        last; fewer where there are few images."""
        changed = self.table().dropna(subset="change")
        ids = changed["image"].tolist()
        return list(dict.fromkeys([*ids[:EXTREMES], *ids[-EXTREMES:]]))


@dataclass(frozen=True)
class LearnedW:
    """W after the training (L, n), parents (n,) and names of the subclasses."""

    w: np.ndarray
    parents: np.ndarray
    subclass_names: Sequence[str]


def images_table(counts: ImageCounts) -> ReportTable:
    """The table of all test images."""
    return ReportTable(
        key="images", title="Every test image",
        caption="Accuracy is the share of an image's labelled pixels that are right; per class is "
        "the mean over the classes that it holds. A click on a heading sorts.",
        frame=counts.table(),
        formats={"labelled pixels": "count", "change": "change"}
        | dict.fromkeys(("accuracy", "per class", "baseline accuracy"), "score"),
        folded=True,
    )  # fmt: skip


def examples_pictures(
    key: str,
    title: str,
    strategy: str,
    examples: Examples,
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
) -> ReportPictures:
    """Images beside their annotation, predictions, and where these are right."""
    rows, records, present = [], [], set[int]()
    before = examples.baseline_predictions
    for place, image_id in enumerate(examples.ids):
        truth, own = examples.truths[place], examples.predictions[place]
        maps = [("annotation", truth), (strategy, own)]
        if before is not None:
            maps.insert(1, ("baseline", before[place]))
        pictures, rights = label_pictures(
            image_id, examples.images[place], maps, class_names, colours, void
        )
        present |= present_in([labels for _, labels in maps], class_names)
        record: dict[str, Any] = {"image": image_id, **rights}
        errors = _error_map(truth, own, None if before is None else before[place], void)
        pictures.append(Picture(errors, f"Error map of {image_id}", heading="errors"))
        records.append(record)
        heading = image_id
        if strategy in record and "baseline" in record:
            change = with_interval(record[strategy] - record["baseline"], np.nan, np.nan)
            heading = f"{image_id}: {score(record[strategy])} right, {change}"
        rows.append((heading, tuple(pictures)))
    kinds = [("right", BOTH), ("wrong", NEITHER)]
    if before is not None:
        kinds = [("right in both", BOTH), (f"right in {strategy} alone", GAINED),
                 ("right in the baseline alone", LOST), ("wrong in both", NEITHER)]  # fmt: skip
    legend = [(class_names[i], css(colours[i])) for i in sorted(present)]
    return ReportPictures(
        key=key, title=title,
        caption="Below each prediction is the share of annotated pixels that are right. Areas "
        "without colour carry no annotation and count for nothing.",
        rows=tuple(rows),
        legend=(*legend, *((f"errors: {name}", colour) for name, colour in kinds)),
        data=pd.DataFrame(records),
    )  # fmt: skip


def label_pictures(
    image_id: str,
    image: np.ndarray,
    maps: Sequence[tuple[str, np.ndarray]],
    class_names: Sequence[str],
    colours: np.ndarray,
    void: int,
) -> tuple[list[Picture], dict[str, float]]:
    """An image (H, W, 3) beside its label maps (H, W), the annotation first; and which share of the
    annotated pixels is right in each of the others, by name."""
    pictures = [Picture(image, f"Test image {image_id}", photograph=True, heading="image")]
    truth, rights = maps[0][1], dict[str, float]()
    labelled = truth != void
    for name, labels in maps:
        note = ""
        if labels is not truth and labelled.any():
            rights[name] = float((labels == truth)[labelled].mean())
            note = f"{share(rights[name])} right"
        pictures.append(
            Picture(
                painted(labels, colours), f"Label map of {image_id}: {name}",
                names=placed_names(labels, class_names), heading=name, note=note,
            )
        )  # fmt: skip
    return pictures, rights


def present_in(maps: Sequence[np.ndarray], class_names: Sequence[str]) -> set[int]:
    """Ids of the classes that occur in label maps."""
    return {i for labels in maps for i in np.unique(labels).tolist() if i < len(class_names)}


def _error_map(
    truth: np.ndarray, own: np.ndarray, baseline: np.ndarray | None, void: int
) -> np.ndarray:
    right = own == truth
    before = right if baseline is None else baseline == truth
    kinds = np.where(right, np.where(before, 0, 1), np.where(before, 2, 3))
    table = np.array([list(bytes.fromhex(css[1:])) for css in (BOTH, GAINED, LOST, NEITHER)])
    return painted(np.where(truth == void, len(table), kinds), table)


def confusion_change(
    confusion: np.ndarray, baseline: np.ndarray, class_names: Sequence[str]
) -> ReportFigure:
    """The run's confusion matrix less the baseline's."""
    return draw(
        figures.confusion_change, confusion, baseline, class_names,
        key="confusion_change", title="Confusions: change",
        caption="Percent of the row's test pixels in this run less those of the baseline: on the "
        "diagonal gains are good, beside it losses are. Classes as in the matrix above.",
        alt=f"Difference of the confusion matrices of {len(class_names)} classes.",
        data=matrix_frame(row_percents(confusion) - row_percents(baseline), class_names),
    )  # fmt: skip


def row_percents(counts: np.ndarray) -> np.ndarray:
    """Each row of counts in percent of its sum; nan where that is 0."""
    values = np.asarray(counts, float)
    rows = values.sum(axis=1, keepdims=True)
    return np.divide(100 * values, rows, out=np.full_like(values, np.nan), where=rows > 0)


def matrix_frame(
    values: np.ndarray, names: Sequence[str], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """A matrix with the names of its rows in the first column."""
    frame = pd.DataFrame(values, columns=list(names if columns is None else columns))
    frame.insert(0, "annotated" if columns is None else "class", list(names), allow_duplicates=True)
    return frame


def w_figure(
    learned: LearnedW, class_names: Sequence[str], history: pd.DataFrame | None
) -> ReportFigure:
    """W, and how far it went from zeros and ones."""
    count = len(learned.parents)
    return draw(
        figures.learned_w, learned.w, learned.parents, class_names, history,
        key="w", title="W, the layer that sums subclasses",
        caption="Above, W after the training less W before it, where each subclass (column) "
        "counted fully for its class (row) and not for others: subclasses of a class stand side "
        "by side. Below, the mean distance of W's ones from one and of its zeros from zero.",
        alt=f"Matrix of the change of W, {len(class_names)} classes by {count} subclasses, and "
        "curves of its drift.",
        data=matrix_frame(learned.w, class_names, learned.subclass_names),
    )  # fmt: skip


def features_table(variation: pd.DataFrame) -> ReportTable:
    """Variation of the network's features, see `lhs.evaluation.variation`."""
    return ReportTable(
        key="features", title="Variation within classes and subclasses",
        caption="Mean squared distance of samples' features, before the last layer, from the mean "
        "of their class, and of their subclass; then what remains, in shares of the class's, and "
        "what a random split into parts of the same sizes would leave, for any split lowers it. A "
        "hierarchy helps where it leaves less than the random split. Samples are of a few training "
        "images; those of one image are alike, which favours splits that follow images.",
        frame=variation,
        formats={"class": "text", "samples": "count", "subclasses": "count"}
        | dict.fromkeys(("within class", "within subclasses"), "number")
        | dict.fromkeys(("remains", "random split"), "score"),
    )  # fmt: skip


def repetitions_table(changes: Mapping[str, Any]) -> ReportTable:
    """Changes over runs that differ in seed and fold alone, by Student's t."""
    names = {"per_pixel": "per-pixel accuracy", "per_class": "per-class accuracy",
             "mean_iou": "mean IoU"}  # fmt: skip
    count = next(iter(changes.values())).count
    frame = pd.DataFrame(
        [(names[key], one.mean, one.low, one.high) for key, one in changes.items()],
        columns=["score", "change", "95 % from", "95 % to"],
    )
    return ReportTable(
        key="repetitions", title=f"Over {plural(count, 'seed and fold', 'seeds and folds')}",
        caption="The mean change of all runs in this storage with these settings that were "
        "compared with a baseline, this one included, and its interval by Student's t over runs.",
        frame=frame, formats=dict.fromkeys(["change", "95 % from", "95 % to"], "change"),
    )  # fmt: skip
