"""The figures show the arrays they were given: bars, order, axes, labels."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lhs.report import figures
from lhs.report.contrasts import Contrast
from lhs.report.statistics import Difference
from lhs.report.wording import MINUS, NOTHING

NAMES = ["sky", "road", "car", "<b>sun</b>", "price in $ and $"]
COLOURS = np.array(
    [[90, 160, 220], [120, 120, 120], [200, 40, 40], [240, 220, 60], [20, 20, 200]], dtype=np.uint8
)
VOID = 255


def bar_lengths(axes, direction):
    sizes = [getattr(bar, f"get_{direction}")() for bar in axes.patches]
    return [size for size in sizes if not math.isnan(size)]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def png_size(figure):
    png = figures.to_png(figure)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) > 500
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_class_frequencies_sorts_both_panels_and_highlights_the_common(theme):
    figure = figures.class_frequencies(
        NAMES,
        np.array([50, 400, 3, 0, 20]),
        ["sky", "road/1", "road/2", "car", "sun", "price"],
        np.array([50, 150, 250, 3, 0, 20]),
        np.array([0, 1, 1, 2, 3, 4]),
        np.array([1]),
        theme=theme,
    )
    top, bottom = figure.axes
    assert bar_lengths(top, "height") == [400, 50, 20, 3]
    assert bar_lengths(bottom, "height") == [250, 150, 50, 20, 3]
    shown = [label.get_text() for label in top.get_xticklabels()]
    assert shown == ["road", "sky", "price in $ and $", "car", "<b>sun</b>"]
    blue = to_rgba(theme.common)
    assert [bar.get_facecolor() == blue for bar in top.patches] == [True] + [False] * 4
    assert [bar.get_facecolor() == blue for bar in bottom.patches] == [True] * 2 + [False] * 4
    assert texts(top) == ["2"], "only the class that was split carries a number"
    assert "1 common with 84.6 % of 473 samples" in top.get_title(loc="left")
    assert top.get_yscale() == "log"
    png_size(figure)


@pytest.mark.thorough
def test_class_frequencies_names_no_bars_of_very_many_classes():
    size = 232
    counts = np.arange(size, 0, -1)
    names = [f"class {i}" for i in range(size)]
    figure = figures.class_frequencies(names, counts, names, counts, np.arange(size), np.arange(7))
    top, bottom = figure.axes
    assert not top.get_xticklabels()
    assert not bottom.get_xticklabels()
    png_size(figure)


def test_class_frequencies_without_a_single_sample_is_drawn():
    nothing = np.zeros(2, dtype=int)
    figure = figures.class_frequencies(
        ["a", "b"], nothing, ["a", "b"], nothing, np.arange(2), np.array([], dtype=int)
    )
    assert (
        figure.axes[0].get_title(loc="left") == f"2 classes: 0 common with {NOTHING} of 0 samples"
    )
    png_size(figure)


def test_per_class_change_is_sorted_signed_and_leaves_absent_classes_out():
    baseline = np.array([0.9, 0.5, 0.25, np.nan, 0.4])
    scores = np.array([0.8, 0.75, 0.25, np.nan, 0.45])
    figure = figures.per_class_change(NAMES, baseline, scores, np.array([1, 4]))
    (axes,) = figure.axes
    assert bar_lengths(axes, "width") == pytest.approx([0.25, 0.05, 0.0, -0.1])
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["road", "price in $ and $", "car", "sky"]
    assert texts(axes) == ["+0.250", "+0.050", "0.000", f"{MINUS}0.100"]
    gain, loss = figures.LIGHT.gain, figures.LIGHT.loss
    edges = [bar.get_edgecolor() for bar in axes.patches]
    assert edges == [to_rgba(gain), to_rgba(gain), to_rgba(gain), to_rgba(loss)]
    solid = [bar.get_facecolor()[3] == 1 for bar in axes.patches]
    assert solid == [True, True, False, False], "common solid, rare pale"
    bottom, top = axes.get_ylim()
    assert bottom > top, "the largest gain stands on top"
    png_size(figure)


def test_per_class_change_without_common_classes_does_not_speak_of_them():
    figure = figures.per_class_change(NAMES, np.zeros(5), np.ones(5), None)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["gain", "loss"]


def test_per_class_change_grows_with_the_classes():
    names = [f"class {i}" for i in range(33)]
    few = figures.per_class_change(names[:8], np.zeros(8), np.ones(8), np.arange(3))
    many = figures.per_class_change(names, np.zeros(33), np.ones(33), np.arange(3))
    assert many.get_figheight() > 2 * few.get_figheight()


def test_per_class_change_draws_the_largest_of_very_many_and_counts_the_rest():
    rng = np.random.default_rng(0)
    change = rng.permutation(np.linspace(-0.4, 0.3, 232))
    names = [f"class {i}" for i in range(232)]
    figure = figures.per_class_change(names, np.full(232, 0.5), 0.5 + change, np.arange(20))
    (axes,) = figure.axes
    lengths = bar_lengths(axes, "width")
    by_size = sorted(change, key=abs, reverse=True)
    assert lengths == pytest.approx(sorted(by_size[:60], reverse=True))
    for label, length in zip(axes.get_yticklabels(), lengths, strict=True):
        assert change[names.index(label.get_text())] == pytest.approx(length)
    assert axes.get_title(loc="left") == (
        f"not drawn: 172 other classes that changed by {abs(by_size[60]):.3f} at most"
    )
    assert figure.get_figheight() < 20


def test_confusion_takes_the_rarest_of_very_many_together():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, (300, 300)) * np.arange(300)[:, None]
    names = [f"class {i}" for i in range(300)]
    (axes,) = figures.confusion(counts, names).axes
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    shown = axes.images[0].get_array()
    most = len(shown) - 1
    assert 40 <= most <= figures.MOST
    assert [t.get_text() for t in axes.get_yticklabels()][-1] == f"{300 - most} others"
    np.testing.assert_allclose(shown.sum(axis=1), 100)
    first, rest = order[0], order[most:]
    assert shown[0, most] == pytest.approx(100 * counts[first, rest].sum() / counts[first].sum())
    inside = counts[np.ix_(rest, rest)].sum() / counts[rest].sum()
    assert shown[most, most] == pytest.approx(100 * inside)


def test_confusion_orders_by_pixels_and_writes_row_percents():
    counts = np.array([[6, 2, 0], [0, 0, 0], [10, 0, 90]])
    figure = figures.confusion(counts, ["car", "moon", "sky"])
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["sky", "car", "moon"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["sky", "car", "moon"]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown[0], [90, 10, 0])
    np.testing.assert_allclose(shown[1], [0, 75, 25])
    assert shown.mask[2].all(), "no test pixel, no percentages"
    assert texts(axes) == ["90", "10", "75", "25"]
    png_size(figure)


@pytest.mark.parametrize("size", [8, 33, 232])
def test_confusion_stays_within_reasonable_pixels(size):
    counts = np.random.default_rng(0).integers(0, 50, (size, size))
    figure = figures.confusion(counts, [f"class {i}" for i in range(size)])
    assert bool(texts(figure.axes[0])) == (size <= 33)
    assert figure.get_figwidth() == figures.WIDE
    assert figure.get_figheight() < 14


def test_confusion_change_is_the_difference_of_row_percents():
    counts, baseline = np.array([[6, 2], [10, 90]]), np.array([[4, 4], [20, 80]])
    (axes,) = figures.confusion_change(counts, baseline, ["car", "sky"]).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["sky", "car"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[10, -10], [-25, 25]])
    assert texts(axes) == ["10", f"{MINUS}10", f"{MINUS}25", "25"]


@pytest.mark.thorough
def test_learned_w_shows_its_distance_from_zeros_and_ones():
    w = np.array([[1.0, 0.2, 0.9], [0.1, 1.1, 0.0]])
    history = pd.DataFrame({"step": [1, 2], "w_from_one": [0, 0.1], "w_from_zero": [0, 0.05]})
    figure = figures.learned_w(w, np.array([0, 1, 0]), ["sky", "sea"], history)
    matrix, curves = figure.axes[0], figure.axes[1]
    # Columns stand by class: those of sky, then that of sea.
    np.testing.assert_allclose(matrix.images[0].get_array(), [[0, -0.1, 0.2], [0.1, 0, 0.1]])
    np.testing.assert_allclose(curves.lines[0].get_ydata(), [0, 0.1])
    png_size(figure)


def test_per_class_change_draws_intervals_beside_the_bars():
    low, high = np.array([-0.2, 0.1, -0.1, np.nan, 0.0]), np.array([0.0, 0.4, 0.1, np.nan, 0.2])
    figure = figures.per_class_change(
        NAMES, np.full(5, 0.5), np.array([0.4, 0.75, 0.5, np.nan, 0.6]), None, interval=(low, high)
    )
    (axes,) = figure.axes
    (lines,) = axes.collections
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    assert ends == [[0.1, 0.4], [0.0, 0.2], [-0.1, 0.1], [-0.2, 0.0]]


@pytest.mark.thorough
@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
def test_no_text_is_smaller_than_12_pixels(width):
    rng = np.random.default_rng(0)
    counts, names = rng.integers(1, 50, (33, 33)), [f"class {i}" for i in range(33)]
    total, parents = counts.sum(axis=1), np.arange(33)
    steps = {"step": range(9), "phase": "all", "loss": 1.0, "learning_rate": 0.1, "w_from_one": 0.1}
    history = pd.DataFrame(steps)
    for figure in (
        figures.confusion(counts, names, width=width),
        figures.confusion_change(counts, counts.T, names, width=width),
        figures.class_frequencies(names, total, names, total, parents, parents[:9], width=width),
        figures.per_class_change(names, rng.random(33), rng.random(33), parents, width=width),
        figures.curves(history, width=width),
        figures.learned_w(rng.random((33, 33)), parents, names, history, width=width),
    ):
        assert figure.get_figwidth() == width
        # A page shows two pixels of a picture as one: 90 of an inch.
        for text in figure.findobj(lambda one: hasattr(one, "get_fontsize")):
            assert not text.get_text() or text.get_fontsize() * 90 / 72 >= 12, text.get_text()


def test_curves_draw_each_phase_and_mark_where_it_begins():
    history = pd.DataFrame(
        {
            "step": [0, 1, 2, 3, 4, 5],
            "phase": ["last"] * 2 + ["all"] * 4,
            "loss": [3.0, 2.0, 1.5, 1.0, 0.8, 0.7],
            "learning_rate": [0.01] * 2 + [0.001] * 4,
        }
    )
    figure = figures.curves(history)
    top, bottom = figure.axes
    assert texts(top) == ["last", "all"]
    drawn = [line for line in top.lines if len(line.get_xdata()) > 2]
    raw = drawn[0]
    np.testing.assert_allclose(raw.get_xdata(), [2, 3, 4, 5])
    np.testing.assert_allclose(raw.get_ydata(), [1.5, 1.0, 0.8, 0.7])
    boundaries = [line.get_xdata()[0] for line in bottom.lines if line.get_linestyle() == "--"]
    assert boundaries == [2]
    png_size(figure)


def test_curves_of_one_single_step_are_drawn():
    history = pd.DataFrame({"step": [0], "phase": ["all"], "loss": [1.0], "learning_rate": [0.1]})
    png_size(figures.curves(history))


def figure_texts(figure):
    return [text.get_text() for text in figure.texts]


def test_legend_shows_the_classes_present_and_no_void():
    figure = figures.legend(NAMES, COLOURS, [0, 3, 4, VOID])
    assert figure_texts(figure) == ["sky", "<b>sun</b>", "price in $ and $"]
    swatches = [artist.get_facecolor()[:3] for artist in figure.get_children()[1:]
                if hasattr(artist, "get_facecolor")]  # fmt: skip
    np.testing.assert_allclose(swatches, COLOURS[[0, 3, 4]] / 255)
    png_size(figure)


def test_legend_without_classes_is_drawn():
    png_size(figures.legend(NAMES, COLOURS, []))


def test_the_same_arrays_give_the_same_bytes():
    def draw() -> Figure:
        return figures.confusion(np.eye(3, dtype=int), ["a", "b", "c"])

    assert figures.to_png(draw()) == figures.to_png(draw())


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
def test_scores_of_settings_have_dots_lines_and_one_best(width):
    panels = {
        "per-pixel accuracy": [([0.5, 0.7], 0.4, 0.8), ([0.9], math.nan, math.nan)],
        "mean IoU": [([0.4], 0.3, 0.5), ([math.nan], math.nan, math.nan)],
    }
    figure = figures.setting_scores(["a", "$b$"], panels, width=width)
    first, second = figure.axes
    assert texts(first) == ["best: 0.900"]
    assert texts(second) == ["best: 0.400"]
    # Runs where there are several, then means.
    assert [line.get_xdata().tolist() for line in first.lines] == [[0.5, 0.7], [0.6], [0.9]]
    [interval] = first.collections
    assert interval.get_segments()[0].tolist() == [[0.4, 0], [0.8, 0]]


def test_importance_has_a_bar_a_setting():
    figure = figures.importance({"train.lr.rate": 0.75, "b": 0.25})
    assert bar_lengths(figure.axes[0], "width") == [0.75, 0.25]
    assert texts(figure.axes[0]) == ["75 %", "25 %"]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "lr.rate"


def contrast(name, score, mean, half, *, primary=False):
    difference = Difference(mean, mean - half, mean + half, 0.5, 5)
    return Contrast(name, score, difference, None, "5 seeds", primary, math.nan)


def test_contrasts_show_each_difference_with_its_interval_below_its_dataset():
    found = {
        "first": [
            contrast("$a$ - b", "per_pixel", 0.01, 0.02, primary=True),
            contrast("$a$ - b", "per_class", -0.03, 0.01, primary=True),
            contrast("c - b", "per_pixel", 0.0, 0.005),
            contrast("c - b", "per_class", 0.02, math.nan),
        ],
        "of one seed": [contrast("a - b", "per_pixel", 0.5, math.nan)],
        "last": [contrast("a - b", "per_class", 0.04, 0.01)],
    }
    figure = figures.contrasts(found)
    pixel, by_class = figure.axes
    names = [label.get_text() for label in pixel.get_yticklabels()]
    assert names == ["first", "$a$ - b", "c - b", "last", "a - b"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["per pixel", "per class"]

    def drawn(axes):
        dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
        ends = [one.get_segments()[0][:, 0] for one in axes.collections]
        return [(place, x, *end) for (x, place), end in zip(dots, ends, strict=True)]

    np.testing.assert_allclose(drawn(pixel), [(1, 0.01, -0.01, 0.03), (2, 0, -0.005, 0.005)])
    np.testing.assert_allclose(drawn(by_class), [(1, -0.03, -0.04, -0.02), (4, 0.04, 0.03, 0.05)])
    colours = [to_rgba(one.get_color()[0]) for one in pixel.collections]
    assert colours == [to_rgba(figures.LIGHT.loss), to_rgba(figures.LIGHT.common)]
    assert pixel.get_ylim()[0] > pixel.get_ylim()[1], "the first on top"
    png_size(figure)
    png_size(figures.contrasts({}))
