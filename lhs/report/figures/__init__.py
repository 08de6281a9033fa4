"""The report's figures: functions from plain arrays to `matplotlib.figure.Figure`.

They use matplotlib's object API only: no pyplot, no global state, safe in threads.
"""

from lhs.report.figures.bars import class_frequencies, per_class_change
from lhs.report.figures.history import curves
from lhs.report.figures.matrix import MOST, confusion
from lhs.report.figures.pictures import label_overlay, legend, qualitative, subclass_patches
from lhs.report.figures.style import DARK, LIGHT, Theme, to_png

__all__ = [
    "DARK", "LIGHT", "MOST", "Theme", "class_frequencies", "confusion", "curves", "label_overlay",
    "legend", "per_class_change", "qualitative", "subclass_patches", "to_png",
]  # fmt: skip
