"""Fixtures for the whole suite: the real datasets, where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lhs.data import Dataset, open_dataset
from lhs.data.archive import unpack
from lhs.data.catalogue import KNOWN
from lhs.errors import UserError

_STEMS = {"siftflow": "SiftFlowDataset", "stanford": "iccv09Data"}
_CACHE = Path.home() / ".cache" / "lhs-tests"


def _archive_of(name: str) -> Path | None:
    """Find a dataset's archive: in $LHS_TEST_ARCHIVES (files or folders), or in ../shared/data."""
    places = os.environ.get("LHS_TEST_ARCHIVES", "")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for place in [Path(p) for p in places.split(os.pathsep) if p] if places else [beside]:
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path.is_file() and path.name.startswith(_STEMS[name]):
                return path
    return None


def _unpacked(name: str) -> Path:
    """Unpack a dataset once into the cache; skip the test where there is no archive."""
    folder = _CACHE / name
    archive = _archive_of(name)
    if archive is None:
        pytest.skip(
            f"no archive {_STEMS[name]}.* in $LHS_TEST_ARCHIVES or in ../shared/data beside the "
            "project"
        )
    if not folder.exists():
        try:
            unpack(archive, folder, needed=KNOWN[name].needed, max_bytes=KNOWN[name].max_bytes)
        except UserError:
            # Another run of the tests may have unpacked it meanwhile.
            if not folder.exists():
                raise
    return folder


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """Give the data root with all of SIFTFlow and Stanford Background."""
    for name in _STEMS:
        _unpacked(name)
    return _CACHE


@pytest.fixture(scope="session")
def real_dataset() -> Callable[[str], Dataset]:
    """Give a function that opens "siftflow" or "stanford"."""

    def opener(name: str) -> Dataset:
        return open_dataset(name, _unpacked(name).parent)

    return opener


SEPARATE = ("cluster", "faults", "slow")
"""Marks of tests that run only where `-m` names them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs by `-m` alone, and begin with the longest file where two run at a time,
    or it would run alone at the end."""
    # Not in pytest's own options: a `-m` on the command line would take that one's place.
    left_out = {mark for mark in SEPARATE if mark not in config.option.markexpr}
    chosen = [item for item in items if not left_out & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name != "test_resume.py")
