"""Fixtures for the whole suite: the real datasets, where there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lhs.data import Dataset, open_dataset
from lhs.data.archive import unpack
from lhs.data.catalogue import KNOWN
from lhs.errors import UserError

# A busy machine is no fault of a test's.
settings.register_profile("lhs", deadline=None)
settings.load_profile("lhs")

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
TESTS = Path(__file__).parent
EXPERIMENT = re.compile(r"finished: list\[Outcome\]|outcome: Outcome|prepared: SimpleNamespace")
"""Fixtures of tests/engine/conftest.py that are a whole experiment."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs by `-m` alone, and begin with Ray where two processes share the tests:
    the long files would run alone at the end."""
    # Not in pytest's own options: a `-m` on the command line would take that one's place.
    left_out = {mark for mark in SEPARATE if mark not in config.option.markexpr}
    apart = [item for item in items if left_out & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=apart)
    away = set(apart)
    items[:] = [item for item in items if item not in away]
    if hasattr(config, "workerinput"):
        first = _experiment_files()
        ray = {item.path for item in items if item.get_closest_marker("ray")}
        items.sort(key=lambda item: (item.path not in first, item.path not in ray))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """File by file, but all that looks at the one experiment in one process: it is made once."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    together = {path.relative_to(TESTS.parent).as_posix() for path in _experiment_files()}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "the experiment" if file in together else file

    return Scheduling(config, log)


def _experiment_files() -> set[Path]:
    files = (TESTS / "engine").rglob("test_*.py")
    return {path for path in files if EXPERIMENT.search(path.read_text(encoding="utf-8"))}
