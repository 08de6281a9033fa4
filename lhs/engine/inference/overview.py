"""`overview.html` of `lhs predict`: the images of a folder side by side with their predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lhs.data.images import read_label_picture
from lhs.data.resizing import resized_nearest
from lhs.engine.storage import Storage
from lhs.evaluation.overlay import label_overlay
from lhs.report.content import Picture, ReportPictures, Section
from lhs.report.drawing import css, painted, placed_names
from lhs.report.page import render_section
from lhs.report.predicted import Panels, panels_of
from lhs.report.wording import plural

BESIDE, OVERVIEW = "_side_by_side.png", "overview.html"
MOST_SHOWN = 50
"""Images on the page, so that it stays below 10 MB."""


def stored_panels(storage: Storage, name: str) -> Panels | None:
    """An image's panels; None where an earlier version labelled it, or the picture is damaged."""
    path = storage.path(f"{name}{BESIDE}")
    try:
        return panels_of(storage.read(path)) if storage.exists(path) else None
    except ValueError:
        return None


def write_overview(
    storage: Storage, table: pd.DataFrame, classes: Sequence[str], colours: np.ndarray
) -> None:
    """Write the page, from what is stored: no image is read again.

    Parameters
    ----------
    storage
        The folder of results.
    table
        A row per image and class, as in `pixels.csv`.
    classes, colours
        L names and (L, 3) uint8.
    """
    numbered = [f"{label} {name}" for label, name in enumerate(classes)]
    rows: list[tuple[str, tuple[Picture, ...]]] = []
    names, without = table["image"].unique(), 0
    for name in names:
        if len(rows) == MOST_SHOWN:
            break
        panels = stored_panels(storage, name)
        path = storage.path(f"{name}.png")
        if panels is None or not storage.exists(path):
            without += 1
            continue
        ids = read_label_picture(path, content=io.BytesIO(storage.read(path)))
        rows.append((name, _pictures(name, ids, panels, numbered, colours)))
    notes = [f"The first {len(rows)} of {len(names)} are shown."] * (
        len(rows) + without < len(names)
    )
    notes += [f"{plural(without, 'image')} labelled by an earlier version cannot be shown."] * bool(
        without
    )
    present = [label for label, name in enumerate(classes) if name in set(table["class"])]
    section = Section(
        key="predictions",
        title="Images",
        intro="Label maps and overlays of full size are in the files beside this page.",
        items=(
            ReportPictures(
                key="pixels",
                title="Images, labels, overlay, confidence",
                caption=" ".join(
                    [
                        "The number before a class is its id in the label maps. Confidence is the "
                        "probability of each pixel's label: white is 1, black is 0.",
                        *notes,
                    ]
                ),
                rows=tuple(rows),
                legend=tuple((numbered[label], css(colours[label])) for label in present),
                data=table,
            ),
        ),
    )
    facts = {"results": storage.address(storage.path())}
    html = render_section("Predictions", plural(len(names), "image"), section, facts)
    storage.replace(storage.path(OVERVIEW), html.encode())


def _pictures(
    name: str, ids: np.ndarray, panels: Panels, numbered: Sequence[str], colours: np.ndarray
) -> tuple[Picture, ...]:
    labels = resized_nearest(ids, panels.confidence.shape)
    overlay = label_overlay(panels.image, labels, colours, void=65535)
    sure = np.repeat(panels.confidence[..., None], 3, axis=2)
    present = ", ".join(numbered[label] for label in np.unique(labels).tolist())
    return (
        Picture(panels.image, name, photograph=True, heading="image"),
        Picture(
            painted(labels, colours), f"Labels of {name}: {present}",
            names=placed_names(labels, numbered), heading="labels",
        ),
        Picture(overlay, f"Labels over {name}", photograph=True, heading="overlay"),
        Picture(
            sure, f"Confidence of {name}", photograph=True, heading="confidence",
            note=f"mean {panels.mean:.2f}",
        ),
    )  # fmt: skip
