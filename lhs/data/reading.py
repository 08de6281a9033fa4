"""Apply a function to every scene of a dataset, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lhs.data.progress import shown

Part = TypeVar("Part")
Result = TypeVar("Result")
_AHEAD = 64


def map_scenes(
    function: Callable[[Part], Result], scenes: Sequence[Part], *, task: str
) -> Iterator[Result]:
    """Apply a function to scenes in threads; decoders and numpy work outside Python's lock.

    Parameters
    ----------
    function
        Of one scene, or of another part of a dataset.
    scenes
        In the order of the results.
    task
        What is being done, for its progress.

    Yields
    ------
    Result
        One for each scene, in their order. Few results wait at a time, so memory does not grow
        with the number of scenes.
    """
    workers = min(len(os.sched_getaffinity(0)), 32) if hasattr(os, "sched_getaffinity") else 4
    with ThreadPoolExecutor(workers) as pool, shown(task, len(scenes)) as show:
        for start in range(0, len(scenes), _AHEAD):
            yield from pool.map(function, scenes[start : start + _AHEAD])
            show(min(start + _AHEAD, len(scenes)))
