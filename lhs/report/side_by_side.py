"""Settings side by side: figures, tables and pictures of the pages of comparisons and sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import scores
from lhs.report import figures
from lhs.report.changes import label_pictures, present_in
from lhs.report.compared import (
    HEADLINES,
    Setting,
    best,
    chosen,
    class_changes,
    difference,
    distinct,
)
from lhs.report.content import ReportFigure, ReportPictures, ReportTable
from lhs.report.drawing import css, draw
from lhs.report.statistics import Difference, images_of_classes
from lhs.report.wording import plural

MOST = 4
"""Settings in pictures and in figures of classes."""
IMAGES = 6
"""Test images on the page."""
Items = list[ReportFigure | ReportTable | ReportPictures]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Test images with their annotation and the prediction of several settings.

    Attributes
    ----------
    ids, images, truths
        Of the images: (H, W, 3) uint8, then (H, W) class ids.
    predictions
        By a setting's name, (H, W) class ids of each image.
    colours, void
        (L, 3) uint8; the id of unlabelled pixels.
    """

    ids: Sequence[str]
    images: Sequence[np.ndarray]
    truths: Sequence[np.ndarray]
    predictions: Mapping[str, Sequence[np.ndarray]]
    colours: np.ndarray
    void: int


Load = Callable[[Sequence[Setting], Sequence[str]], SideBySide | None]
"""Reads the images of some ids with the predictions of settings; None where they are gone."""


def setting_items(settings: Sequence[Setting], load: Load, prefix: str = "") -> Items:
    """Scores with intervals, differences from the first setting, by class and by image.

    Parameters
    ----------
    settings
        At least one; the first one is what the others are compared with.
    load
        Reads test images.
    prefix
        Of the items' keys.
    """
    items: Items = [_scores_table(settings, prefix)]
    if len(settings) > 1:
        items.insert(0, _scores_figure(settings, prefix))
        items.append(_difference_table(settings, prefix))
    shown = chosen(settings, "per_pixel", MOST)
    items += [
        _class_figure(shown[0], other, number, prefix) for number, other in enumerate(shown[1:], 1)
    ]
    items.append(_class_table(settings, shown, prefix))
    frame = image_frame(settings)
    if frame is not None:
        pictures = load(shown, frame["image"].tolist()[:IMAGES])
        if pictures is not None and pictures.ids:
            items.append(_pictures(pictures, settings, prefix))
        items.append(_images_table(frame, settings, prefix))
    return items


def _scores_figure(settings: Sequence[Setting], prefix: str) -> ReportFigure:
    panels = {
        label: [(one.values(field), *one.interval(field)) for one in settings]
        for field, label in HEADLINES.items()
    }
    rows = [
        (one.name, label, value)
        for field, label in HEADLINES.items()
        for one in settings
        for value in one.values(field)
    ]
    return draw(
        figures.setting_scores, [one.name for one in settings], panels,
        key=f"{prefix}setting_scores", title="Scores of the settings",
        caption="A diamond is the mean of a setting's runs, small dots are its runs. Lines are "
        "95 % intervals: by Student's t over runs where a setting has several, otherwise of 10,000 "
        "resamples of the test images. The best of each score is coloured. Whether two settings "
        "differ is said by the interval of their difference, below, not by whether lines overlap.",
        alt=f"{plural(len(settings), 'setting')} with their scores and intervals.",
        data=pd.DataFrame(rows, columns=["setting", "score", "value"]),
    )  # fmt: skip


def _scores_table(settings: Sequence[Setting], prefix: str) -> ReportTable:
    columns: dict[str, list[Any]] = {
        "setting": [one.name for one in settings],
        "runs": [len(one.runs) for one in settings],
    }
    for field, label in HEADLINES.items():
        columns[label] = [
            Difference(
                float(np.mean(one.values(field))), *one.interval(field), math.nan, len(one.runs)
            )
            for one in settings
        ]
    frame = pd.DataFrame(columns)
    marked = {label: best(settings, field) for field, label in HEADLINES.items()}
    return ReportTable(
        key=f"{prefix}setting_table", title="Settings and their scores", frame=frame,
        caption="Means over runs with their 95 % intervals, as in the figure."
        + (" The best of each column is bold." if len(settings) > 1 else ""),
        formats={"runs": "count"} | dict.fromkeys(HEADLINES.values(), "estimate"),
        best={k: v for k, v in marked.items() if v is not None} if len(settings) > 1 else {},
    )  # fmt: skip


def _difference_table(settings: Sequence[Setting], prefix: str) -> ReportTable:
    first, rows = settings[0], []
    for other in settings[1:]:
        found = {label: difference(other, first, field) for field, label in HEADLINES.items()}
        rests_on = next(iter(found.values()))[1]
        row = {label: gap for label, (gap, _) in found.items()}
        rows.append({"setting": other.name, **row, "interval rests on": rests_on})
    return ReportTable(
        key=f"{prefix}differences", title="Differences from the first setting",
        frame=pd.DataFrame(rows).astype(object),
        caption=f"Scores less those of {first.name}, with 95 % intervals: by Student's t over "
        "pairs of runs of one seed and fold where there are two or more, otherwise by the "
        "bootstrap over test images, which says nothing of other seeds. Folds are not independent "
        "of each other.",
        formats=dict.fromkeys(HEADLINES.values(), "difference"),
    )  # fmt: skip


def _class_figure(first: Setting, other: Setting, number: int, prefix: str) -> ReportFigure:
    names = first.first.class_names
    before, after = (scores(one.confusion).per_class_accuracy for one in (first, other))
    changed = class_changes(other, first)
    frame = pd.DataFrame({"class": names, first.name: before, other.name: after})
    frame["change"] = after - before
    if changed is not None:
        frame["95 % from"], frame["95 % to"] = changed.low, changed.high
    return draw(
        figures.per_class_change, names, before, after, None,
        interval=None if changed is None else (changed.low, changed.high),
        key=f"{prefix}class_change_{number}",
        title=f"By class: {other.name} against {first.name}",
        caption=f"The accuracy of each class in {other.name} less that in {first.name}. Classes "
        "without a test pixel are left out."
        + ("" if changed is None else " Thin lines are 95 % intervals over test images."),
        alt=f"Bar chart of the change in accuracy of {plural(len(names), 'class', 'classes')}.",
        data=frame,
    )  # fmt: skip


def _class_table(settings: Sequence[Setting], shown: Sequence[Setting], prefix: str) -> ReportTable:
    first = settings[0]
    columns: list[tuple[str, object, str]] = [("class", list(first.first.class_names), "text")]
    images = first.first.images
    if first.ids is not None and images is not None:
        columns.append(("test images", images_of_classes(images.counts), "count"))
    columns.append(("test pixels", first.first.confusion.sum(axis=1), "count"))
    accuracy = {one.name: scores(one.confusion).per_class_accuracy for one in settings}
    columns += [(name, values, "score") for name, values in accuracy.items()]
    for other in shown[1:]:
        change, changed = accuracy[other.name] - accuracy[first.name], class_changes(other, first)
        unknown = np.full(len(change), np.nan)
        ends = (unknown, unknown) if changed is None else (changed.low, changed.high)
        cells = [
            Difference(float(mean), float(low), float(high), math.nan, 0)
            for mean, low, high in zip(change, *ends, strict=True)
        ]
        columns.append((f"{other.name}: change", cells, "difference"))
    frame = pd.DataFrame({place: list(values) for place, (_, values, _) in enumerate(columns)})  # type: ignore[call-overload]
    frame.columns = pd.Index(distinct([name for name, _, _ in columns]))
    kinds = [kind for _, _, kind in columns]
    return ReportTable(
        key=f"{prefix}classes", title="Every class", folded=len(frame) > figures.MOST,
        frame=frame.sort_values("test pixels", ascending=False, kind="stable", ignore_index=True),
        caption="Accuracy of each class, all runs of a setting together, the class with the most "
        "test pixels first. "
        + (f"Changes are against {first.name}, with 95 % intervals over test images where these "
           "are known. " if len(shown) > 1 else "")
        + "Of a class in few test images little can be said, whatever its interval.",
        formats=dict(zip(frame.columns, kinds, strict=True)),
    )  # fmt: skip


def image_frame(settings: Sequence[Setting]) -> pd.DataFrame | None:
    """A row a test image: `image`, `labelled pixels`, the share that is right in each setting (mean
    over its runs) and their `spread`, the largest first; None where test images are not the same,
    or are not known."""
    first = settings[0]
    if len(settings) < 2 or first.ids is None or any(one.ids != first.ids for one in settings):
        return None
    images = first.first.images
    assert images is not None
    pixels = images.counts.sum(axis=(1, 2))
    found = np.array([_right(one) for one in settings])
    frame = pd.DataFrame(
        [first.ids, pixels, *found, np.ptp(found, axis=0)],
        index=["image", "labelled pixels", *(one.name for one in settings), "spread"],
    ).T.infer_objects()
    return frame.sort_values("spread", ascending=False, kind="stable", ignore_index=True)


def _right(setting: Setting) -> np.ndarray:
    """The share of labelled pixels that is right in each image, nan without one."""
    counts = [run.images.counts for run in setting.runs.values() if run.images is not None]
    total = np.sum(counts, axis=0)
    pixels = total.sum(axis=(1, 2)).astype(float)
    right = np.einsum("nll->n", total)
    return np.divide(right, pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)


def _images_table(frame: pd.DataFrame, settings: Sequence[Setting], prefix: str) -> ReportTable:
    return ReportTable(
        key=f"{prefix}images", title="Every test image", frame=frame, folded=True,
        caption="The share of an image's labelled pixels that is right, mean over a setting's "
        "runs, and the difference between its best and its worst setting. A click on a heading "
        "sorts.",
        formats={"labelled pixels": "count", "spread": "score"}
        | dict.fromkeys((one.name for one in settings), "score"),
    )  # fmt: skip


def _pictures(shown: SideBySide, settings: Sequence[Setting], prefix: str) -> ReportPictures:
    names = settings[0].first.class_names
    rows, records, present = [], [], set[int]()
    for place, image_id in enumerate(shown.ids):
        maps = [("annotation", shown.truths[place])]
        maps += [(name, some[place]) for name, some in shown.predictions.items()]
        pictures, rights = label_pictures(
            image_id, shown.images[place], maps, names, shown.colours, shown.void
        )
        present |= present_in([labels for _, labels in maps], names)
        records.append({"image": image_id, **rights})
        rows.append((image_id, tuple(pictures)))
    several = any(len(one.runs) > 1 for one in settings)
    left = len(settings) - len(shown.predictions)
    return ReportPictures(
        key=f"{prefix}pictures", title="Images on which settings differ most",
        caption="Below each prediction is the share of annotated pixels that are right. Areas "
        "without colour carry no annotation and count for nothing."
        + (" Of a setting with several runs the first is shown." if several else "")
        + (f" {plural(left, 'other setting is', 'other settings are')} left out: shown are the "
           "first and those with the highest per-pixel accuracy." if left else ""),
        rows=tuple(rows),
        legend=tuple((names[i], css(shown.colours[i])) for i in sorted(present)),
        data=pd.DataFrame(records),
    )  # fmt: skip
