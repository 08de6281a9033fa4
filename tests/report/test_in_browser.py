"""The pages in a real browser: they load, sort, open by keyboard, and fit their screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhs.report.comparison import render_comparison
from lhs.report.content import ReportData
from lhs.report.page import render_page
from lhs.report.sweep import render_sweep
from tests.browser import needs_chromium, opened, serious
from tests.report.test_sensitivity import trial

CUT = """[...document.querySelectorAll(".scroll")].filter(
    (one) => one.scrollWidth > one.clientWidth + 1).length"""
SMALL = """[...document.querySelectorAll("body *")].filter(
    (one) => one.innerText && parseFloat(getComputedStyle(one).fontSize) < 12).length"""
pytestmark = [needs_chromium, pytest.mark.thorough]


@pytest.fixture(scope="module")
def path(report: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(report), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def comparison(compared: Any, side_by_side: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    other = {"network.name": "encoder"}
    runs = [compared("low", 0, 5), compared("high", 0, 9, settings=other)]
    path.write_text(render_comparison(runs, side_by_side), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "sweep.html"
    trials = [
        trial(number, 0.8 + number / 100, hierarchy__rho=rho, train__seed=number % 2)
        for number, rho in enumerate((0.93, 0.93, 0.95, 0.95))
    ]
    trials.append(trial(5, hierarchy__rho=0.97, train__seed=0))
    page = render_sweep(
        title="a sweep", subtitle="of trials", recipe="demo", trials=trials, agreement=None,
        paths={"sweep": "/there"}, created="today", metric="per_pixel",
        importance={"hierarchy.rho": 0.9, "train.seed": 0.1},
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (400, "light"),
        (1400, "dark"),
        pytest.param(400, "dark", marks=pytest.mark.slow),
        pytest.param(1400, "light", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("page", ["path", "comparison", "sweep"])
def test_all_loads_and_nothing_is_cut_off(
    page: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(page)
    with opened(width) as tab:
        tab.emulate_media(color_scheme=scheme)
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("requestfailed", lambda request: said.append(request.url[:80]))
        tab.goto(path.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        loaded = "[...document.images].every((one) => one.complete && one.naturalWidth > 0)"
        assert tab.evaluate(loaded)
        assert said == []
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        if width == 400:
            assert tab.evaluate(CUT) == 0
        assert tab.evaluate(SMALL) == 0
        assert serious(tab) == []


def test_faults_would_be_seen() -> None:
    with opened() as tab:
        tab.set_content('<img src="data:,"><p style="color: #bbb">faint</p>')
        faults = {fault.partition(":")[0] for fault in serious(tab)}
        assert faults >= {"image-alt", "color-contrast"}


def test_a_class_opens_by_keyboard(path: Path) -> None:
    with opened() as page:
        page.goto(path.as_uri())
        page.focus("details.class summary")
        assert not page.is_visible("details.class .subclass")
        page.keyboard.press("Enter")
        assert page.is_visible("details.class .subclass")
        page.keyboard.press("Enter")
        assert not page.is_visible("details.class .subclass")


def test_tables_sort_by_keyboard_and_missing_scores_stay_last(path: Path) -> None:
    with opened() as page:
        page.goto(path.as_uri())
        table = page.locator("#classes table")

        def column(number: int) -> list[str]:
            return list(table.locator(f"tbody tr > :nth-child({number})").all_inner_texts())

        heads = table.locator("thead th").all_inner_texts()
        pixels = heads.index("test pixels") + 1
        accuracy = heads.index("accuracy") + 1
        table.locator("thead button").nth(pixels - 1).press("Enter")
        assert [int(text) for text in column(pixels)] == sorted(map(int, column(pixels)))[::-1]
        assert table.locator("thead th").nth(pixels - 1).get_attribute("aria-sort") == "descending"
        table.locator("thead button").nth(accuracy - 1).click()
        table.locator("thead button").nth(accuracy - 1).click()
        values = column(accuracy)
        numbers = np.array([float(text) for text in values[:-1]])
        assert (np.diff(numbers) >= 0).all()
        assert column(1)[-1] == "moon", "it has no test pixel"


def test_the_data_of_a_table_can_be_saved(path: Path, tmp_path: Path) -> None:
    with opened() as page:
        page.goto(path.as_uri())
        with page.expect_download() as saved:
            page.click("#scores .data a")
        saved.value.save_as(tmp_path / "scores.csv")
        assert saved.value.suggested_filename == "scores.csv"
        assert (tmp_path / "scores.csv").read_text().startswith("score,baseline,")
