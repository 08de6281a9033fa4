"""`lhs view` in a real browser: its labels, probabilities and files are those of `lhs predict`."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs import run
from lhs.engine.inference.prediction import predict_files
from lhs.engine.runtime import cluster as ray_cluster
from lhs.evaluation.description import DESCRIPTION
from lhs.evaluation.model import load_model
from tests.browser import needs_chromium, opened
from tests.data.builders import noise_image
from tests.engine.inference.test_exporting import saved
from tests.serving import free_port

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason='no Gradio (pip install "lhs[view]")'
)
NAMES = ["<b>sky</b> ${1+1} {{value}}", "sea", "sand"]
WAIT = 120_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a class whose name is code to careless pages."""
    folder = saved(tmp_path / "model", "lite")
    tree = json.loads((folder / DESCRIPTION).read_text())
    colours = [[200, 30, 30], [30, 200, 30], [30, 30, 200]]
    (folder / DESCRIPTION).write_text(json.dumps(tree | {"classes": NAMES, "colours": colours}))
    return folder


@pytest.fixture
def address(folder: Path, tmp_path: Path) -> Iterator[str]:
    """A running `lhs view`; its temporary files go with it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "lhs", "view", str(folder), "--port", str(free_port())]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)}
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", said)
    assert found, said
    yield found[1]
    assert any(scratch.rglob("turned.png")), "the upload lies there"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    process.stdout.close()
    assert not any(scratch.glob("lhs-view-*"))


def test_without_gradio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run.main(["view", str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'lhs: lhs view needs Gradio: pip install "lhs[view]"\n'


@needs_gradio
@needs_chromium
@pytest.mark.thorough
def test_the_page_shows_and_saves_what_predict_writes(
    folder: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned clockwise by 90 degrees.
    photo = tmp_path / "turned.png"
    Image.fromarray(noise_image(3, 160, 120)).save(photo, exif=exif)
    out = tmp_path / "out"
    monkeypatch.setattr(ray_cluster, "_later", ExitStack())
    assert predict_files(folder, [str(photo)], str(out)) == 0
    with Image.open(out / "turned.png") as picture:
        labels, colours = np.array(picture), np.array(picture.convert("RGB"))
    assert labels.shape == (120, 160)
    assert len(np.unique(labels)) > 1
    probabilities = load_model(folder).predict(photo).probabilities

    with opened(1400) as page:
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        upload = page.locator("#given input[type=file]")
        upload.wait_for(state="attached", timeout=WAIT)
        upload.set_input_files(photo)
        image = page.locator("#labelled img")
        image.wait_for(timeout=WAIT)

        def displayed() -> np.ndarray:
            content = page.request.get(image.get_attribute("src")).body()
            return np.array(Image.open(io.BytesIO(content)).convert("RGB"))

        overlay = np.array(Image.open(out / "turned_overlay.png"))
        np.testing.assert_array_equal(displayed(), overlay)

        for share_x, share_y in ((0.2, 0.3), (0.7, 0.8)):
            box = image.bounding_box()
            place = {"x": box["width"] * share_x, "y": box["height"] * share_y}
            pattern = r"x = \d+, y = \d+:"
            before = re.findall(pattern, page.locator("#pixel").inner_text())
            image.click(position=place)
            # Its place: the rest changes while it is drawn.
            page.wait_for_function(
                "([pattern, old]) => { const found = document.querySelector('#pixel').innerText"
                ".match(pattern); return found && found[0] !== old; }",
                arg=[pattern, before[0] if before else ""], timeout=WAIT,
            )  # fmt: skip
            said = page.locator("#pixel").inner_text()
            x, y, label, probability = re.search(
                r"x = (\d+), y = (\d+): (\d+) .*, probability ([\d.]+)", said
            ).groups()  # type: ignore[union-attr]
            assert (int(x), int(y)) == pytest.approx((160 * share_x, 120 * share_y), abs=1)
            assert int(label) == labels[int(y), int(x)]
            expected = probabilities[int(label), int(y), int(x)]
            assert float(probability) == pytest.approx(expected, abs=6e-4)
            assert f"{label} {NAMES[int(label)]}" in said

        with page.expect_download() as saved_map:
            page.click("#download")
        assert saved_map.value.suggested_filename == "turned.png"
        assert Path(saved_map.value.path()).read_bytes() == (out / "turned.png").read_bytes()

        legend = page.locator("#legend").inner_text()
        assert [name for name in NAMES if name in legend] == [
            name for label, name in enumerate(NAMES) if label in labels
        ]
        before = image.get_attribute("src")
        number = page.locator("input[type=number]")
        number.fill("1")
        number.blur()
        limit = time.monotonic() + WAIT / 1000
        while image.get_attribute("src") == before and time.monotonic() < limit:
            page.wait_for_timeout(100)
        np.testing.assert_array_equal(displayed(), colours)
        assert [one for one in elsewhere if not one.startswith((address, "blob:", "data:"))] == []
