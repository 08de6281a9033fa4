"""A headless Chromium, Debian's, for pages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serving import free_port

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium (Debian's package `chromium`)"
)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@contextmanager
def opened(width: int = 2200, height: int = 1000) -> Iterator[Any]:
    """A page of a browser of its own; what goes wrong in its scripts fails the test."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": width, "height": height})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert errors == []


def serious(page: Any) -> list[str]:
    """What axe calls serious or critical on a page: each rule, and the first element it is of."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in {"serious", "critical"}
    ]


@contextmanager
def mlflow_ui(store: str) -> Iterator[str]:
    """`mlflow ui` on a store, as the end of a sweep tells people to call it; its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        # Half a minute and a gigabyte less.
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    try:
        address, limit = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5)
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < limit, "the server does not answer"
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def compare_runs(store: str, runs: list[str], experiment: str, picture: Path) -> str:
    """The words on MLflow's page that compares runs, once it shows them; a picture of it."""
    names = ",".join(f'"{run}"' for run in runs)
    with mlflow_ui(store) as address, opened(height=1600) as page:
        page.goto(f'{address}/#/compare-runs?runs=[{names}]&experiments=["{experiment}"]')
        page.get_by_text("test/per_pixel").first.wait_for(timeout=60_000)
        page.screenshot(path=str(picture), full_page=True)
        return str(page.inner_text("body"))
