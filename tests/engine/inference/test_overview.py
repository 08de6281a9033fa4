"""The page of a folder of predictions, also in a real browser; and images to try a model on."""

from __future__ import annotations

import base64
import csv
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs import run
from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.engine.inference import overview
from lhs.engine.inference.demo import write_demo_images
from lhs.engine.runtime import cluster as ray_cluster
from lhs.engine.storage import Storage
from tests.browser import needs_chromium, opened, serious
from tests.data.builders import noise_image, save_image
from tests.engine.inference.test_exporting import saved
from tests.engine.inference.test_kept_results import labelled
from tests.engine.inference.test_kept_results import out as out


@pytest.fixture
def page(out: Storage, tmp_path: Path) -> Path:
    names = ("<b>x", "b & c", "tall")
    sizes = ((30, 40), (30, 60), (90, 20))
    for label, (name, size) in enumerate(zip(names, sizes, strict=True)):
        labelled(out, save_image(tmp_path / f"{name}.png", noise_image(label, *size)), label=label)
    return Path(out.path("overview.html"))


def test_every_image_is_shown_also_those_of_earlier_calls(page: Path) -> None:
    html = page.read_text()
    assert re.findall(r"<h4>(.*)</h4>", html) == ["&lt;b&gt;x", "b &amp; c", "tall"]
    assert html.count('src="data:image/webp;base64,') == 3 * 4
    assert "0 sky" in html
    assert "mean 0.80" in html
    (table,) = re.findall(r'href="data:text/csv;base64,([^"]+)"', html)
    rows = list(csv.DictReader(base64.b64decode(table).decode().splitlines()))
    assert [(row["image"], row["class"]) for row in rows] == [
        ("<b>x", "sky"), ("b & c", "sea"), ("tall", "sand"),
    ]  # fmt: skip


def test_a_long_list_is_cut(
    page: Path, out: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_SHOWN", 2)
    labelled(out, save_image(tmp_path / "z.png"))
    html = page.read_text()
    assert html.count("<h4>") == 2
    assert "The first 2 of 4 are shown." in html


@needs_chromium
@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1400])
def test_it_needs_no_network_and_fits_the_screen(page: Path, width: int) -> None:
    with opened(width) as browser:
        said: list[str] = []
        browser.on("console", lambda message: said.append(message.text))
        browser.on("request", lambda request: said.append(request.url))
        browser.goto(page.as_uri())
        assert [one[:80] for one in said if not one.startswith("data:")] == [page.as_uri()[:80]]
        loaded = "[...document.images].every((one) => one.complete && one.naturalWidth > 0)"
        assert browser.evaluate(loaded)
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        tops = "[...document.querySelector('.pictures').children].map((one) => one.offsetTop)"
        assert len(set(browser.evaluate(tops))) == (1 if width == 1400 else 4)
        for scheme in ("light", "dark"):
            browser.emulate_media(color_scheme=scheme)
            assert serious(browser) == []


def test_three_scenes_to_try(tmp_path: Path) -> None:
    paths = write_demo_images(str(tmp_path / "out"))
    scenes = open_dataset(DataConfig(dataset="synthetic")).split("test")
    assert [Path(path).parent.name for path in paths] == ["demo"] * 3
    for path in paths:
        first = next(scene for scene in scenes if scene.name == Path(path).stem)
        np.testing.assert_array_equal(np.array(Image.open(path)), first.image())


@pytest.mark.thorough
def test_predict_demo_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_cluster, "_later", ExitStack())
    folder, out = saved(tmp_path / "model", "lite"), tmp_path / "out"
    assert run.main(["predict", str(folder), "--demo", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[3] == f"3 images labelled, 0 not readable; results in {out}"
    assert printed[4] == f"look at {out}/overview.html"
    names = sorted(path.stem for path in (out / "demo").iterdir())
    assert [line.split(":")[0] for line in printed[:3]] == names
    assert all((out / f"{name}_side_by_side.png").is_file() for name in names)
