"""The content of a report page: plain values, PNG bytes and DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lhs.evaluation.metrics import Scores


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """One figure with the words that explain it.

    Attributes
    ----------
    key
        Short name, unique on the page; names its file and its anchor.
    title, caption, alt
        Heading; what the reader sees and how to read it; what it shows for those who can't see.
    png
        The picture on a light ground.
    png_dark
        The same on a dark ground; None shows the light one everywhere.
    photographs
        Mostly photographs: the page holds them compressed with slight loss, a tenth of the size.
    """

    key: str
    title: str
    caption: str
    alt: str
    png: bytes
    png_dark: bytes | None = None
    photographs: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """One table with the words that explain it.

    Attributes
    ----------
    key
        Short name, unique on the page; names its file and its anchor.
    title, caption
        Heading; how to read it.
    frame
        The numbers, unrounded.
    formats
        From column to how it is written: `text` (default), `count`, `score`, `change`, `seconds`.
    folded
        Show only the heading until the reader opens it.
    """

    key: str
    title: str
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: a heading, a sentence or two, and its figures and tables in order."""

    key: str
    title: str
    intro: str
    items: tuple[ReportFigure | ReportTable, ...]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that one run's page shows.

    Attributes
    ----------
    title, subtitle
        The run's name; one line with dataset, network and strategy.
    dataset
        Name of the dataset: only runs on the same one are compared.
    strategy
        `baseline`, `sequential` or `hierarchical`, as the texts call the run.
    class_names
        The L classes.
    scores
        The run's scores.
    baseline
        The baseline's scores, None where there is none to compare with.
    sections
        Figures and tables.
    config
        Settings, nested or dotted.
    paths
        From a short label (model, hierarchy, tracking store) to the path.
    seeds
        Every seed that the scores rest on.
    notes
        Warnings for the reader, such as images that were skipped. Plain text.
    created
        When the run ended, as text.
    href
        Address of the run's own page, relative to a comparison's; None gives no link.
    """

    title: str
    subtitle: str
    dataset: str
    strategy: str
    class_names: tuple[str, ...]
    scores: Scores
    baseline: Scores | None
    sections: tuple[Section, ...]
    config: Mapping[str, object]
    paths: Mapping[str, str]
    seeds: Sequence[int]
    notes: Sequence[str] = ()
    created: str = ""
    href: str | None = None
