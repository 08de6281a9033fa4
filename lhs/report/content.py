"""The content of a report page: plain values, PNG bytes and DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lhs.evaluation.metrics import Scores
from lhs.report.statistics import Difference


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """One figure with the words that explain it.

    Attributes
    ----------
    key
        Short name, unique on the page; names its file and its anchor.
    title, caption, alt
        Heading; what the reader sees and how to read it; what it shows for those who can't see.
    data
        The numbers that it shows.
    png, png_dark
        The picture on a light and on a dark ground.
    narrow, narrow_dark
        The same for screens as narrow as a phone's; None shows the wide ones everywhere.
    """

    key: str
    title: str
    caption: str
    alt: str
    png: bytes
    data: pd.DataFrame
    png_dark: bytes | None = None
    narrow: bytes | None = None
    narrow_dark: bytes | None = None


@dataclass(frozen=True)
class PlacedName:
    """A class's name on a label map, centred at `x`, `y`: shares of its width and height."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """Pixels (H, W, 3) or (H, W, 4) uint8, in words for those who can't see; photographs are
    stored with slight loss. Clear pixels show the ground."""

    pixels: np.ndarray
    alt: str
    photograph: bool = False
    names: tuple[PlacedName, ...] = ()
    heading: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportPictures:
    """Rows of pictures, each under a heading, with a legend; other fields as in `ReportFigure`.

    Attributes
    ----------
    rows
        Heading and pictures.
    legend
        Names and CSS colours.
    """

    key: str
    title: str
    caption: str
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]
    legend: tuple[tuple[str, str], ...]
    data: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class SubclassPart:
    """A subclass on the page.

    Attributes
    ----------
    id, title
        Its name in the hierarchy's file, and for people.
    samples, share
        Number, and share of its class's.
    around
        Name, CSS colour and share of the classes around its samples, descending.
    rows
        What kind of patches, the photographs, their label maps.
    """

    id: str
    title: str
    samples: int
    share: float
    around: tuple[tuple[str, str, float], ...]
    rows: tuple[tuple[str, Picture, Picture], ...]


@dataclass(frozen=True, kw_only=True)
class ClassPart:
    """A class on the page: CSS colour, number of samples and share of all, its subclasses."""

    name: str
    colour: str
    samples: int
    share: float
    common: bool
    subclasses: tuple[SubclassPart, ...]


@dataclass(frozen=True, kw_only=True)
class ReportHierarchy:
    """A hierarchy whose classes open; the fields as in `ReportFigure`."""

    key: str
    title: str
    caption: str
    classes: tuple[ClassPart, ...]
    data: pd.DataFrame


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
        From column to how it is written: `text` (default), `count`, `score`, `change`, `number`,
        `seconds`; of cells that are a `Difference` also `difference`, and `estimate` of a score
        with its interval.
    folded
        Show only the heading until the reader opens it.
    links
        Addresses that the first cells of the rows lead to, empty ones nowhere; none for no links.
    best
        From column to the row whose cell is marked.
    """

    key: str
    title: str
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False
    links: Sequence[str] = ()
    best: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: a heading, a sentence or two, points, and its figures and tables in
    order."""

    key: str
    title: str
    intro: str
    items: tuple[ReportFigure | ReportTable | ReportPictures | ReportHierarchy, ...]
    points: Sequence[str] = ()


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
    intervals
        Changes of the scores against the baseline, by field of `Scores`.
    config
        Settings, nested or dotted.
    repeat
        What it takes to repeat the run: a label and a text each.
    recipe
        The settings as YAML, for `lhs run`.
    paths
        From a short label (model, hierarchy, tracking store) to the path.
    seeds
        Every seed that the scores rest on.
    notes
        Warnings for the reader, such as images that were skipped. Plain text.
    created
        When the run ended, as text.
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
    intervals: Mapping[str, Difference] = field(default_factory=dict)
    repeat: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    notes: Sequence[str] = ()
    created: str = ""
