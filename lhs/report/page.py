"""Write reports as HTML that needs nothing but itself."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import jinja2
import pandas as pd
from PIL import Image

from lhs.report import wording
from lhs.report.content import ReportData, ReportFigure, ReportTable
from lhs.report.summary import summary
from lhs.report.tables import differing_settings, settings_table

HEADLINES = (
    ("per_pixel", "Per-pixel accuracy", "labelled test pixels that are right"),
    ("per_class", "Per-class accuracy", "mean over the classes with test pixels"),
    ("mean_iou", "Mean IoU", "overlap of predicted and annotated, mean over classes"),
)


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, how it is set, and how long its bar is (0 to 1, None for none)."""

    text: str
    kind: str
    bar: float | None = None


def render_page(report: ReportData) -> str:
    """Write the page of one run.

    Parameters
    ----------
    report
        All that the page shows.

    Returns
    -------
    str
        One HTML document: styles inline, pictures as data URIs, no script, no other resource.
    """
    headlines = []
    for field, label, meaning in HEADLINES:
        value = float(getattr(report.scores, field))
        other = None if report.baseline is None else float(getattr(report.baseline, field))
        change = None if other is None else value - other
        headlines.append(
            {
                "label": label,
                "meaning": meaning,
                "value": wording.score(value),
                "baseline": None if other is None else wording.score(other),
                "change": None if change is None else wording.signed(change),
                "direction": None if change is None else wording.direction(change),
            }
        )
    paragraphs = summary(
        report.strategy, report.scores, report.baseline, report.class_names, report.seeds
    )
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            headlines=headlines,
            paragraphs=paragraphs,
            settings=table_of(settings_table(report.config)),
        )
    )


def render_comparison(reports: Sequence[ReportData]) -> str:
    """Write one page that sets several runs side by side, grouped by dataset.

    Parameters
    ----------
    reports
        The runs, in the order they are shown; those with an `href` are linked.

    Returns
    -------
    str
        One HTML document, as self-contained as `render_page`'s.
    """
    groups: dict[str, list[ReportData]] = {}
    for report in reports:
        groups.setdefault(report.dataset, []).append(report)
    return (
        environment()
        .get_template("comparison.html")
        .render(
            count=len(reports),
            groups=[_compared(dataset, members) for dataset, members in groups.items()],
        )
    )


def _compared(dataset: str, reports: Sequence[ReportData]) -> dict[str, object]:
    fields = [field for field, _, _ in HEADLINES]
    values = {f: [float(getattr(r.scores, f)) for r in reports] for f in fields}
    written = {f: [wording.score(value) for value in column] for f, column in values.items()}
    best = {
        f: max((text for text in column if text != wording.NOTHING), default="")
        for f, column in written.items()
    }
    names = _distinct([report.title for report in reports])
    rows = []
    for index, report in enumerate(reports):
        cells = [
            {
                "text": written[f][index],
                "bar": _bar(values[f][index]),
                "best": len(reports) > 1 and written[f][index] == best[f],
            }
            for f in fields
        ]
        seeds = ", ".join(map(str, sorted(set(report.seeds)))) or wording.NOTHING
        rows.append({"report": report, "name": names[index], "cells": cells, "seeds": seeds})
    differing = differing_settings(
        {name: report.config for name, report in zip(names, reports, strict=True)}
    )
    return {
        "dataset": dataset,
        "labels": [label for _, label, _ in HEADLINES],
        "rows": rows,
        "differing": table_of(differing) if len(differing) else None,
        "classes": _classes_compared(names, reports),
        "single": any(len(set(report.seeds)) < 2 for report in reports),
    }


def _classes_compared(
    names: Sequence[str], reports: Sequence[ReportData]
) -> dict[str, object] | None:
    classes = reports[0].class_names
    if len(reports) < 2 or any(report.class_names != classes for report in reports):
        return None
    columns = {
        name: report.scores.per_class_accuracy for name, report in zip(names, reports, strict=True)
    }
    frame = pd.DataFrame({"class": list(classes), **columns})
    return table_of(frame, dict.fromkeys(names, "score"))


def _distinct(titles: Sequence[str]) -> list[str]:
    return [
        title if titles.count(title) == 1 else f"{title} ({titles[: i + 1].count(title)})"
        for i, title in enumerate(titles)
    ]


def table_of(
    table: ReportTable | pd.DataFrame, formats: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Rows of cells as the templates write them; `formats` as in `ReportTable`."""
    frame = table.frame if isinstance(table, ReportTable) else table
    formats = table.formats if isinstance(table, ReportTable) else formats or {}
    kinds = [formats.get(str(column), "text") for column in frame.columns]
    rows = [
        [_cell(value, kind) for value, kind in zip(row, kinds, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    heads = [Cell(str(column), kind) for column, kind in zip(frame.columns, kinds, strict=True)]
    return {"heads": heads, "rows": rows}


def _cell(value: object, kind: str) -> Cell:
    if kind == "text":
        return Cell(str(value), kind)
    number = float(value)  # type: ignore[arg-type]
    if kind == "score":
        return Cell(wording.score(number), kind, _bar(number))
    if kind == "change":
        return Cell(wording.signed(number), f"change {wording.direction(number)}")
    return Cell({"count": wording.count, "seconds": wording.seconds}[kind](number), kind)


def _bar(value: float) -> float | None:
    return None if math.isnan(value) else min(max(value, 0.0), 1.0)


def _data_uri(png: bytes, photographs: bool) -> str:
    kind, content = "png", png
    if photographs:
        with Image.open(BytesIO(png)) as picture, BytesIO() as out:
            picture.convert("RGB").save(out, format="WEBP", quality=85)
            kind, content = "webp", out.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _png_size(png: bytes) -> tuple[int, int]:
    """Read width and height from the PNG header, so that the page does not jump as it loads."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def environment() -> jinja2.Environment:
    """The templates of all pages."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("lhs", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"data_uri": _data_uri, "png_size": _png_size, "table_of": table_of}
    made.tests["figure"] = lambda item: isinstance(item, ReportFigure)
    return made
