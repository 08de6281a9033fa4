"""Make the README's picture of a hierarchy, `docs/hierarchy.jpg`, from the embedded scenes alone.

    python benchmarks/hierarchy_picture.py [CLASS ...]

The hierarchy is that of `lhs run demo`, made in this process, without Ray. A row is a subclass:
what surrounds its samples (mean histogram of labels in the window), and the samples nearest to its
centre, with their label maps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.patches as shapes
import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_array, vstack

from lhs import Hierarchy
from lhs.config import Config
from lhs.context.extraction import histogram_rows, sample_rows
from lhs.data import open_dataset
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.subclass_samples import SubclassSamples
from lhs.engine.tracking.examples import hierarchy_arrays
from lhs.loading import load_config
from lhs.report.content import ClassPart, Section
from lhs.report.figures.style import LIGHT
from lhs.report.hierarchy import hierarchy_section

OUT = Path(__file__).parents[1] / "docs" / "hierarchy.jpg"
CLASSES = ("building", "water")
WIDTH, ROW, HEAD = 8.6, 1.66, 0.42
"""Inches of the picture, of a subclass and of a class's heading."""
BAR = 4.3
LEAST = 0.04
"""Share of a class that is named below a bar."""


def demo_hierarchy(config: Config) -> Section:
    """The section of the demo's hierarchy, as its report shows it."""
    dataset = open_dataset(config.data)
    hierarchy = Hierarchy.from_scenes(dataset, config)
    images, centres, subclasses, histograms = [], [], [], []
    for scene in dataset.split("train"):
        rows = sample_rows(
            scene, 0, superpixel_size=config.context.superpixel_size, seed=config.context.seed,
            void=dataset.void,
        )  # fmt: skip
        counted = histogram_rows(
            dataset, scene, 0, rows.centres, region=config.hierarchy.region, seed=0
        )
        images += [scene.id] * len(rows.centres)
        centres.append(rows.centres)
        subclasses.append(hierarchy.subclass_of(rows.classes, counted))
        histograms.append(csr_array(counted.astype(np.float64)))
    found = SubclassSamples(
        hierarchy, np.array(images), np.concatenate(centres), np.concatenate(subclasses),
        csr_array(vstack(histograms)),
    )  # fmt: skip
    scenes = CheckedScenes(dataset, path="", class_pixels=np.empty(0), skipped={})
    return hierarchy_section(hierarchy_arrays(config, scenes, found))


def picture(parts: Sequence[ClassPart]) -> Figure:
    """Draw the subclasses of some classes."""
    rows = sum(len(part.subclasses) for part in parts)
    height = rows * ROW + len(parts) * HEAD + 0.1
    figure = Figure(figsize=(WIDTH, height), dpi=110, facecolor=LIGHT.surface)
    top = height - 0.05

    def text(x: float, y: float, words: str, size: float, **more: str) -> None:
        options = {"color": LIGHT.ink, "va": "center"} | more
        figure.text(x / WIDTH, y / height, words, fontsize=size, **options)

    def box(x: float, y: float, width: float, tall: float, colour: str) -> None:
        figure.add_artist(
            shapes.Rectangle(
                (x / WIDTH, y / height), width / WIDTH, tall / height, facecolor=colour,
                transform=figure.transFigure, linewidth=0,
            )
        )  # fmt: skip

    for part in parts:
        box(0.15, top - HEAD / 2 - 0.11, 0.22, 0.22, part.colour)
        count = len(part.subclasses)
        text(0.47, top - HEAD / 2, f"{part.name}: {count} subclasses", 14, fontweight="bold")
        top -= HEAD
        for one in part.subclasses:
            text(0.15, top - 0.3, f"{one.id}: {one.title.partition(':')[0]}", 11.5)
            share = f"{100 * one.share:.0f} % of {part.name}, {one.samples:,} samples"
            text(0.15, top - 0.55, share, 10, color=LIGHT.muted)
            left = 0.15
            for _, colour, part_of in one.around:
                box(left, top - 0.87, BAR * part_of, 0.17, colour)
                left += BAR * part_of
            named = [f"{name} {100 * of:.0f} %" for name, _, of in one.around if of >= LEAST]
            text(0.15, top - 1.05, ", ".join(named[:5]), 10, color=LIGHT.muted)
            _, photographs, maps = one.rows[0]
            for place, shown in enumerate((photographs, maps)):
                tall = (ROW - 0.16) / 2
                wide = tall * shown.pixels.shape[1] / shown.pixels.shape[0]
                axes = figure.add_axes(
                    ((WIDTH - 0.15 - wide) / WIDTH, (top - 0.06 - (place + 1) * tall) / height,
                     wide / WIDTH, 0.96 * tall / height)
                )  # fmt: skip
                axes.imshow(shown.pixels, interpolation="nearest" if place else "antialiased")
                axes.set_axis_off()
            top -= ROW
    return figure


def main(classes: Sequence[str]) -> None:
    """Write the picture of some classes of the demo."""
    items = demo_hierarchy(load_config("demo")).items
    by_name = {part.name: part for part in items[0].classes}  # type: ignore[union-attr]
    for part in by_name.values():
        for one in part.subclasses if part.common else ():
            print(f"{one.id:<14}{one.samples:>7}  {one.title}")
    figure = picture([by_name[name] for name in classes])
    figure.savefig(OUT, pil_kwargs={"quality": 88, "optimize": True})
    print(f"written {OUT}, {OUT.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(sys.argv[1:] or CLASSES)
