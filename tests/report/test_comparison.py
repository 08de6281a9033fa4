"""The page of a comparison: datasets apart, seeds together, the best marked, runs linked."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lhs.report.comparison import render_comparison
from tests.report.test_page import Page, assert_stands_alone

Runs = Any


def csv_of(page: Page, key: str) -> pd.DataFrame:
    [link] = [a for a in page.all("a") if a.get("download") == f"{key}.csv"]
    return pd.read_csv(io.BytesIO(base64.b64decode(link["href"].partition(",")[2])))


@pytest.mark.thorough
def test_settings_of_several_seeds_are_one_row_and_the_best_is_marked(
    compared: Runs, side_by_side: Runs
) -> None:
    other = {"network.name": "encoder"}
    runs = [
        *(compared(f"low seed={n}", n, 7 + (n == 2)) for n in range(3)),
        *(compared(f"high seed={n}", n, 9 - (n == 2), settings=other) for n in range(3)),
    ]
    page = Page(render_comparison(runs, side_by_side))
    assert_stands_alone(page)
    assert "6 runs side by side" in page.text
    table = csv_of(page, "setting_table")
    assert table["setting"].tolist() == ["low", "high"]
    assert table["runs"].tolist() == [3, 3]
    assert table["per-pixel accuracy"].tolist() == [
        np.mean([runs[n].scores.per_pixel for n in some]) for some in ((0, 1, 2), (3, 4, 5))
    ]
    best = [attributes for attributes in page.all("td") if "best" in attributes["class"].split()]
    assert len(best) == 3
    assert "Per-pixel accuracy: high is best with 0.8" in page.text
    gap = csv_of(page, "differences")
    assert gap["interval rests on"].tolist() == ["3 pairs of runs"]
    assert gap["per-pixel accuracy"][0] > 0
    assert "network.name lite encoder" in page.text
    assert [a["href"] for a in page.all("a") if "runs/" in a["href"]] == [r.href for r in runs]


@pytest.mark.thorough
def test_classes_and_images_of_single_runs(compared: Runs, side_by_side: Runs) -> None:
    runs = [compared("low", 0, 5), compared("high", 0, 9, settings={"network.name": "encoder"})]
    page = Page(render_comparison(runs, side_by_side))
    classes = csv_of(page, "classes").set_index("class")
    sky = classes.loc["sky"]
    assert (sky["test images"], sky["low"], sky["high"]) == (6, 0.5, 0.9)
    assert np.isclose(sky["high: change"], 0.4)
    # Each image changed by the same: the bootstrap has no width.
    assert np.isclose(sky["high: change 95 % from"], 0.4)
    assert np.isnan(classes.loc["moon", "high: change"])
    images = csv_of(page, "images")
    assert np.allclose(images["spread"], images["high"] - images["low"])
    assert images["spread"].is_monotonic_decreasing
    assert images["image"].str.startswith("<i>").all()
    assert [a["alt"] for a in page.all("img") if a["alt"].startswith("Label map of <i>1: ")]
    assert "6 test images, given these models" in page.text
    assert "can come from the seed alone" in page.text


def test_datasets_stand_apart_and_one_run_is_no_comparison(
    compared: Runs, side_by_side: Runs
) -> None:
    other = compared("else", dataset="<stanford>", images=None)
    page = Page(render_comparison([compared(), other], side_by_side))
    assert_stands_alone(page)
    assert not [a for a in page.all("td") if "best" in a["class"].split()]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "<stanford>" in page.text
    assert "Differences" not in page.text


@pytest.mark.thorough
def test_runs_of_earlier_versions_have_no_intervals_and_no_images(
    compared: Runs, side_by_side: Runs
) -> None:
    runs = [compared("a", 0, 5, images=None),
            compared("b", 0, 9, images=None, settings={"network.name": "encoder"})]  # fmt: skip
    page = Page(render_comparison(runs, side_by_side))
    assert "nothing says how sure its lead over a is" in page.text
    assert csv_of(page, "differences")["interval rests on"].tolist() == ["one pair of runs"]
    assert "differ most" not in page.text


@pytest.mark.thorough
def test_runs_of_one_title_are_numbered(compared: Runs, side_by_side: Runs) -> None:
    runs = [compared(), compared(settings={"network.name": "encoder"})]
    table = csv_of(Page(render_comparison(runs, side_by_side)), "setting_table")
    assert table["setting"].tolist() == ["one (1)", "one (2)"]
