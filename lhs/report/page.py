"""Write reports as HTML pages without external resources; one hashed script sorts tables."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from lhs.report.statistics import Difference
from lhs.report.summary import summary
from lhs.report.tables import settings_table, with_ends

HEADLINES = (
    ("per_pixel", "Per-pixel accuracy", "labelled test pixels that are right"),
    ("per_class", "Per-class accuracy", "mean over the classes with test pixels"),
    ("mean_iou", "Mean IoU", "overlap of predicted and annotated, mean over classes"),
)


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, how it is set, how long its bar is (0 to 1, None for none), the
    number that it is sorted by, where it leads, and whether it is the best of its column."""

    text: str
    kind: str
    bar: float | None = None
    number: float | None = None
    href: str = ""
    best: bool = False


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


def table_of(
    table: ReportTable | pd.DataFrame, formats: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Rows of cells as the templates write them; `formats` as in `ReportTable`."""
    if not isinstance(table, ReportTable):
        table = ReportTable(key="", title="", caption="", frame=table, formats=formats or {})
    frame = table.frame
    kinds = [table.formats.get(str(column), "text") for column in frame.columns]
    rows = [
        [_cell(value, kind) for value, kind in zip(row, kinds, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    for row, href in zip(rows, table.links, strict=False):
        row[0] = replace(row[0], href=href)
    for column, place in table.best.items():
        number = list(frame.columns).index(column)
        rows[place][number] = replace(rows[place][number], best=True)
    heads = [Cell(str(column), kind) for column, kind in zip(frame.columns, kinds, strict=True)]
    return {"heads": heads, "rows": rows}


def _cell(value: object, kind: str) -> Cell:
    if kind == "text":
        return Cell(str(value), kind)
    if kind in ("difference", "estimate"):
        return _interval_cell(value, kind)
    number = float(value)  # type: ignore[arg-type]
    if kind == "score":
        bar = None if math.isnan(number) else min(max(number, 0.0), 1.0)
        return Cell(wording.score(number), kind, bar, number)
    if kind == "change":
        return Cell(wording.signed(number), f"change {wording.direction(number)}", None, number)
    write = {"count": wording.count, "number": wording.number, "seconds": wording.seconds}[kind]
    return Cell(write(number), kind, None, number)


def _interval_cell(value: object, kind: str) -> Cell:
    if not isinstance(value, Difference):
        return Cell(wording.NOTHING, kind, None, math.nan)
    if kind == "estimate":
        bar = None if math.isnan(value.mean) else min(max(value.mean, 0.0), 1.0)
        text = wording.estimate(value.mean, value.low, value.high)
        return Cell(text, "score", bar, value.mean)
    text = wording.with_interval(value.mean, value.low, value.high)
    return Cell(text, f"difference {wording.direction(value.mean)}", None, value.mean)


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
    return _data_uri("text/csv", with_ends(frame).to_csv(index=False).encode())


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
