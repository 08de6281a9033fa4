"""Copies on a node's disk: made once, bounded, and errors of the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lhs.data import file_cache
from lhs.data.file_cache import GB, cache_folder, kept_copy, set_bound
from lhs.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "cache"))
    before = file_cache.bound()
    yield
    set_bound(before)


def copies() -> list[Path]:
    return sorted(cache_folder().glob("??/*"))


def put(name: str, size: int = 100, *, unused_for: float = 0) -> Path:
    place = kept_copy(name, size, lambda: b"x" * size)
    last = time.time() - unused_for
    os.utime(place, (last, last))
    return place


def test_a_copy_is_made_once_and_is_another_of_another_version() -> None:
    calls = []

    def fetch() -> bytes:
        calls.append(1)
        return b"abc"

    place = kept_copy("one", 3, fetch)
    assert kept_copy("one", 3, fetch) == place
    assert place.read_bytes() == b"abc"
    assert kept_copy("one, changed", 3, fetch) != place
    assert len(calls) == 2


def test_a_copy_that_was_cut_off_is_made_again() -> None:
    put("one").write_bytes(b"x")
    assert put("one").stat().st_size == 100


def test_those_used_longest_ago_go_first_and_those_in_use_stay() -> None:
    set_bound(1000 / GB)
    old = [put(f"old {n}", unused_for=1000 - n) for n in range(8)]
    used = [put(f"used {n}") for n in range(2)]
    kept_copy("old 0", 100, lambda: b"")
    put("new")
    left = copies()
    # 900 bytes at most with the new one: the two that were unused longest are gone.
    assert [place in left for place in old] == [True, False, False, *[True] * 5]
    assert all(place in left for place in used)
    assert sum(place.stat().st_size for place in left) == 900
    for n in range(12):
        put(f"now {n}")
    assert not [place for place in old[1:] if place in copies()]
    # All in use: the bound is exceeded for a minute.
    assert sum(place.stat().st_size for place in copies()) > 1000


def test_threads_count_every_byte() -> None:
    threads = [threading.Thread(target=put, args=(f"{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int((cache_folder() / "bytes").read_text()) == 2000


def test_a_fetch_that_fails_leaves_nothing() -> None:
    def fetch() -> bytes:
        raise UserError("the store is gone")

    with pytest.raises(UserError, match="the store is gone"):
        kept_copy("one", 3, fetch)
    assert not copies()


def test_a_folder_that_cannot_be_made_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LHS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"data\.cache_gb = .*LHS_CACHE"):
        put("one")
