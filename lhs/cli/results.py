"""`lhs report`, `lhs tables`."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lhs.cli.options import Group, add_command

if TYPE_CHECKING:
    from lhs.engine.storage import Storage


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    pages = add_command(commands, "report", report, "one page that compares finished runs")
    pages.add_argument("runs", nargs="+", metavar="RUN", help="MLflow run id or run name")
    text = "the paper's tables, our scores beside its own"
    paper = add_command(commands, "tables", tables, text)
    paper.add_argument("runs", nargs="+", metavar="RUN", help="as in `lhs report`")
    paper.add_argument("--out", metavar="DIR", default="tables", help="default: tables, here")
    for command in (pages, paper):
        command.add_argument("--storage", metavar="DIR", help="where the runs are stored")


def _storage(options: Namespace) -> Storage:
    from lhs.config import Config
    from lhs.engine.storage import Storage

    return Storage(options.storage or Config().storage)


def report(options: Namespace) -> int:
    """`lhs report`."""
    from lhs.engine.tracking.comparison import compare_runs

    print(compare_runs(_storage(options), options.runs))
    return 0


def tables(options: Namespace) -> int:
    """`lhs tables`."""
    from lhs.engine.tracking.comparison import write_tables

    files = write_tables(_storage(options), options.runs, Path(os.path.expanduser(options.out)))
    print(files[0].read_text(encoding="utf-8"))
    for path in files:
        print(f"written   {path}")
    return 0
