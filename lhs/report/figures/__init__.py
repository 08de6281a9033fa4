"""The report's figures: functions from plain arrays to `matplotlib.figure.Figure`.

They use matplotlib's object API only: no pyplot, no global state, safe in threads.
"""

from lhs.report.figures.bars import class_frequencies, per_class_change
from lhs.report.figures.contrasts import contrasts
from lhs.report.figures.history import curves
from lhs.report.figures.matrix import MOST, confusion, confusion_change, learned_w
from lhs.report.figures.pictures import legend
from lhs.report.figures.settings import importance, setting_scores
from lhs.report.figures.style import DARK, LIGHT, NARROW, WIDE, Theme, to_png

__all__ = [
    "DARK", "LIGHT", "MOST", "NARROW", "WIDE", "Theme", "class_frequencies", "confusion",
    "confusion_change", "contrasts", "curves", "importance", "learned_w", "legend",
    "per_class_change", "setting_scores", "to_png",
]  # fmt: skip
