"""Write reports as HTML pages without external resources; one hashed script sorts tables."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from lhs.report import wording
from lhs.report.content import (
    Picture,
    ReportData,
    ReportFigure,
    ReportHierarchy,
    ReportPictures,
    ReportTable,
    Section,
)
from lhs.report.summary import summary
from lhs.report.tables import differing_settings, settings_table

HEADLINES = (
    ("per_pixel", "Per-pixel accuracy", "labelled test pixels that are right"),
    ("per_class", "Per-class accuracy", "mean over the classes with test pixels"),
    ("mean_iou", "Mean IoU", "overlap of predicted and annotated, mean over classes"),
)


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, how it is set, how long its bar is (0 to 1, None for none), and the
    number that it is sorted by."""

    text: str
    kind: str
    bar: float | None = None
    number: float | None = None


def render_page(report: ReportData) -> str:
    """Write the page of one run.

    Parameters
    ----------
    report
        All that the page shows.

    Returns
    -------
    str
        One HTML document: styles and one script inline, pictures and tables of numbers as data
        URIs, no other resource.
    """
    headlines = []
    for field, label, meaning in HEADLINES:
        value = float(getattr(report.scores, field))
        line = {"label": label, "meaning": meaning, "value": wording.score(value), "baseline": None}
        if report.baseline is not None:
            other = float(getattr(report.baseline, field))
            line["baseline"] = wording.score(other)
            line["change"] = wording.signed(value - other)
            line["direction"] = wording.direction(value - other)
            if field in report.intervals:
                interval = report.intervals[field]
                line["change"] = wording.with_interval(value - other, interval.low, interval.high)
        headlines.append(line)
    return render(
        "page.html",
        report=report,
        headlines=headlines,
        paragraphs=summary(
            report.strategy,
            report.scores,
            report.baseline,
            report.class_names,
            report.seeds,
            report.intervals,
        ),
        settings=table_of(settings_table(report.config)),
        settings_frame=settings_table(report.config),
    )


def render_section(title: str, subtitle: str, section: Section, facts: Mapping[str, str]) -> str:
    """Write a page of one section, such as a hierarchy; `facts` are labels and texts."""
    return render("section.html", title=title, subtitle=subtitle, section=section, facts=facts)


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
    compared = [_compared(dataset, members) for dataset, members in groups.items()]
    return render("comparison.html", count=len(reports), groups=compared)


def _compared(dataset: str, reports: Sequence[ReportData]) -> dict[str, object]:
    columns = []
    for field, _, _ in HEADLINES:
        column = [_cell(getattr(report.scores, field), "score") for report in reports]
        best = max((cell.text for cell in column if cell.bar is not None), default="")
        columns.append([(cell, len(reports) > 1 and cell.text == best) for cell in column])
    names = _distinct([report.title for report in reports])
    by_name = dict(zip(names, reports, strict=True))
    differing = differing_settings({name: report.config for name, report in by_name.items()})
    classes = reports[0].class_names
    by_class = None
    if len(reports) > 1 and all(report.class_names == classes for report in reports):
        accuracies = {name: report.scores.per_class_accuracy for name, report in by_name.items()}
        frame = pd.DataFrame({"class": list(classes), **accuracies})
        by_class = table_of(frame, dict.fromkeys(by_name, "score"))
    return {
        "dataset": dataset,
        "labels": [label for _, label, _ in HEADLINES],
        "rows": [
            {
                "report": report,
                "name": name,
                "cells": cells,
                "seeds": ", ".join(map(str, sorted(set(report.seeds)))) or wording.NOTHING,
            }
            for name, report, *cells in zip(names, reports, *columns, strict=True)
        ],
        "differing": table_of(differing) if len(differing) else None,
        "classes": by_class,
        "single": any(len(set(report.seeds)) < 2 for report in reports),
    }


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
        bar = None if math.isnan(number) else min(max(number, 0.0), 1.0)
        return Cell(wording.score(number), kind, bar, number)
    if kind == "change":
        return Cell(wording.signed(number), f"change {wording.direction(number)}", None, number)
    write = {"count": wording.count, "number": wording.number, "seconds": wording.seconds}[kind]
    return Cell(write(number), kind, None, number)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _picture_uri(picture: Picture | bytes) -> str:
    """A picture, or a figure's PNG, as WebP: photographs with slight loss, a tenth of the size."""
    options: dict[str, Any] = {"lossless": True, "quality": 30, "method": 1}
    if isinstance(picture, bytes):
        image: Image.Image = Image.open(BytesIO(picture))
    else:
        image = Image.fromarray(picture.pixels)
        if picture.photograph:
            options = {"quality": 80}
    with BytesIO() as out:
        image.save(out, format="WEBP", **options)
        return _data_uri("image/webp", out.getvalue())


def _csv_uri(frame: pd.DataFrame) -> str:
    return _data_uri("text/csv", frame.to_csv(index=False).encode())


def _png_size(png: bytes) -> tuple[int, int]:
    """Read width and height from the PNG header, so that the page does not jump as it loads."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def render(template: str, **values: object) -> str:
    """Fill a template of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lhs", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "yaml_uri": lambda text: _data_uri("text/yaml", text.encode()),
        "picture_uri": _picture_uri, "csv_uri": _csv_uri, "png_size": _png_size,
        "table_of": table_of, "percent": wording.share,
    }  # fmt: skip
    for kind in (ReportFigure, ReportPictures, ReportHierarchy):
        environment.tests[kind.__name__] = lambda item, kind=kind: isinstance(item, kind)
    script = (files("lhs.report") / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template).render(
        values | {"script": script, "script_digest": digest}
    )
