"""What every benchmark shares: its options, its last line, its exit code."""

from __future__ import annotations

import argparse
import json
import operator
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

_COMPARISONS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}


def options(description: str | None) -> argparse.ArgumentParser:
    """Give a parser with the options that every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path(os.environ.get("LHS_DATA_ROOT", "~/lhs-data")).expanduser(),
        help="folder of the datasets (default: the program's own data root)",
    )
    return parser


def with_memory_kept() -> None:
    """Start this script again with the allocator's settings of the program's own workers, which
    are read when a process starts."""
    from lhs.engine.stages.training import KEEP_MEMORY

    if not KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})


def report(
    benchmark: str, figures: Mapping[str, Any], bounds: Mapping[str, tuple[Any, str, Any]]
) -> NoReturn:
    """Print one JSON object as the last line, and exit 0 if every bound holds, otherwise 1.

    Parameters
    ----------
    benchmark
        Its name.
    figures
        What was measured, ready for JSON.
    bounds
        (value, comparison, limit) by name; the comparison is one of <=, <, >=, >, ==. A value that
        was not measured is None, and its bound does not hold.
    """
    checked = {
        name: {"value": value, "must be": f"{comparison} {limit}", "limit": limit,
               "holds": value is not None and bool(_COMPARISONS[comparison](value, limit))}
        for name, (value, comparison, limit) in bounds.items()
    }  # fmt: skip
    holds = all(bound["holds"] for bound in checked.values())
    line = {"benchmark": benchmark, "figures": dict(figures), "bounds": checked, "holds": holds}
    print(json.dumps(line), flush=True)
    sys.exit(0 if holds else 1)
