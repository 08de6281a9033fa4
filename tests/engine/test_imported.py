"""What `lhs data import` writes goes through a short run with its hierarchy."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lhs.run import main
from tests.data.importing.sources import SOURCES, made
from tests.data.importing.test_command import run_import

SMALL = (
    "context.superpixel_size=30", "context.variants=0", "hierarchy.region=15", "hierarchy.n_star=2",
    "train.max_steps=3", "train.crop_height=64", "train.crop_width=64", "train.batch_size=2",
    "network.weights=none", "network.channels=8", "report.scenes=1", "report.baseline=none",
)  # fmt: skip


DAILY = ("two folders",)


@pytest.mark.ray
@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in SOURCES],
)
def test_each_format_is_trained_on(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], cluster: None,
    trained_here: None,
) -> None:  # fmt: skip
    source = made(name, tmp_path / "source")
    assert run_import(source, tmp_path / "out") == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])[3:]
    given = [text for text in words[1::2] if not text.startswith("train.")]
    settings = [*given, *SMALL, f"storage={tmp_path / 'storage'}"]
    arguments = [word for text in settings for word in ("--set", text)]
    assert main(["run", "folder", *arguments]) == 0
    assert "per_pixel" in capsys.readouterr().out
