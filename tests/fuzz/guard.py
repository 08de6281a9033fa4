"""What bad input may cost, and what it may never do."""

from __future__ import annotations

import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from lhs.errors import UserError

T = TypeVar("T")
EXAMPLES = int(os.environ.get("LHS_FUZZ", "0"))
"""Of each test; 0 is the few of every day, the same each time."""
SECONDS = 20.0


def fuzzed(few: int) -> settings:
    """Settings of a test: `few` examples, or LHS_FUZZ of them."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        # Without the search for an explanation, which takes longer than all else.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def bounded(megabytes: int, folder: Path | None = None) -> Iterator[None]:
    """Fail if the block needs more memory or computing time, writes elsewhere, or starts anything.

    Parameters
    ----------
    megabytes
        That the block may take on top, at its peak.
    folder
        The only place where it may write; None for nowhere.
    """
    before, started = _reset_peak(), time.process_time()
    _watch.done, _watch.folder = [], os.path.realpath(folder) if folder else None
    _watch.on = True
    try:
        with warnings.catch_warnings():
            # As users run it: libraries' warnings of damaged files go to stderr.
            warnings.simplefilter("ignore")
            yield
    finally:
        _watch.on = False
        took, grown = time.process_time() - started, (_peak() - before) / 2**20
    assert not _watch.done
    assert grown <= megabytes, f"{grown:.0f} MB"
    assert took <= SECONDS, f"{took:.1f} s"


def ends_well(call: Callable[[], T], megabytes: int, folder: Path | None = None) -> T | None:
    """What a call gives, within bounds; None where it refuses its input in clear words."""
    message = ""
    with bounded(megabytes, folder):
        try:
            return call()
        except UserError as error:
            message = str(error)
            message.encode()
    assert 0 < len(message) < 100_000
    return None


class _Watch:
    """Hears of every file that is opened to write, every program and every connection."""

    def __init__(self) -> None:
        self.on = False
        self.folder: str | None = None
        self.done: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                     "socket.connect", "socket.bind", "pickle.find_class"):  # fmt: skip
            self.done.append(f"{event} {details}")
        elif (
            event == "open" and (details[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ) or event in ("os.mkdir", "os.truncate"):
            self._made(event, details[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._made(event, details[1])

    def _made(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes):
            return
        place = os.path.realpath(os.fsdecode(path))
        if place == os.devnull:
            return
        if self.folder is None or not (place + "/").startswith(self.folder + "/"):
            self.done.append(f"{event} {place}")


_watch = _Watch()


def _reset_peak() -> int:
    """Bytes now in use; the peak counts from here, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(key)


numbers = st.sampled_from(
    [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1]
)
edits = st.lists(
    st.tuples(
        st.sampled_from(["bit", "number", "cut", "repeat", "insert", "end"]),
        st.floats(0, 1),
        st.integers(0, 64),
        numbers,
    ),
    max_size=5,
)


def edited(data: bytes, changes: list[tuple[str, float, int, int]], most: int = 10**9) -> bytes:
    """Data with some bytes changed, taken out or put in, all within its first `most` bytes."""
    content = bytearray(data)
    for kind, share, size, number in changes:
        place = int(share * max(min(len(content), most) - 1, 0))
        if kind == "bit" and content:
            content[place] ^= 1 << (size % 8)
        elif kind == "number":
            width = (1, 2, 4, 8)[size % 4]
            order = "big" if size % 8 < 4 else "little"
            number %= 256**width
            content[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
        elif kind == "cut":
            del content[place : place + size]
        elif kind == "repeat":
            content[place:place] = content[place : place + size] * (1 + number % 64)
        elif kind == "insert":
            content[place:place] = bytes([number % 256]) * size
        elif kind == "end":
            del content[place:]
    return bytes(content)


values = st.recursive(
    st.none() | st.booleans() | numbers | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([-1, 10**30, "x" * 5000, "\0", "../x", "~nouser/x", "/etc/passwd"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner,
                                                                 max_size=4),
    max_leaves=6,
)  # fmt: skip


def changed_tree(tree: Any, path: list[int], value: Any, action: int) -> None:
    """Change one place of a tree of lists and mappings: put in, take out, or repeat."""
    node = tree
    for depth, number in enumerate(path):
        if not isinstance(node, dict | list) or not node:
            return
        key = list(node)[number % len(node)] if isinstance(node, dict) else number % len(node)
        below = node[key]
        if depth == len(path) - 1 or not isinstance(below, dict | list) or not below:
            if action == 0:
                node[key] = value
            elif action == 1:
                del node[key]
            elif isinstance(node, list):
                node.extend([below] * (number % 50))
            else:
                node[f"{key}x"] = below
            return
        node = below


changes = st.lists(
    st.tuples(st.lists(st.integers(0, 40), min_size=1, max_size=4), values, st.integers(0, 2)),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one module's files."""
    return tmp_path_factory.mktemp("fuzz")
