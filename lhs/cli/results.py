"""`lhs report`, `lhs tables`, `lhs mend`."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lhs.cli.options import Group, add_command
from lhs.errors import UserError

if TYPE_CHECKING:
    from lhs.engine.storage import Storage


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    pages = add_command(commands, "report", report, "one page that compares finished runs")
    pages.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="name, MLflow run id, or the path of a report that a run printed",
    )  # fmt: skip
    text = "the paper's tables, our scores beside its own; or the tables of a folder of kept runs"
    paper = add_command(commands, "tables", tables, text)
    paper.add_argument(
        "runs", nargs="+", metavar="RUN", help="as in `lhs report`; or a folder of kept runs"
    )
    paper.add_argument("--out", metavar="DIR", help="default: tables, here")
    paper.add_argument(
        "--keep", metavar="FOLDER", help="write each run as FOLDER/DATASET/RUN.json instead"
    )
    paper.add_argument(
        "--page",
        metavar="FILE",
        help="a folder's tables: also put them into this Markdown page, and a figure beside it",
    )
    text = "after a storage was moved or copied: let MLflow find the files of its older runs"
    moved = add_command(commands, "mend", mend, text)
    for command in (pages, paper, moved):
        command.add_argument("--storage", metavar="DIR", help="where the runs are stored")


def _storage(options: Namespace) -> Storage:
    from lhs.config import Config
    from lhs.engine.storage import Storage
    from lhs.engine.tracking.comparison import storage_in

    given = options.storage
    place = given or storage_in(getattr(options, "runs", [])) or Config().storage
    storage = Storage(place, "--storage" if given else "storage")
    if given and storage.local and not os.path.isdir(storage.root):
        there = os.path.exists(storage.root)
        told = "found a file, needed is a folder" if there else "no such folder"
        raise UserError(f"--storage {given}: {told}")
    return storage


def report(options: Namespace) -> int:
    """`lhs report`."""
    from lhs.engine.tracking.comparison import compare_runs

    print(compare_runs(_storage(options), options.runs))
    return 0


def _evidence(folder: Path, page: str | None) -> int:
    from lhs.report.contrasts import read_evidence
    from lhs.report.evidence_tables import evidence_tables, page_with

    evidence = read_evidence(folder)
    found = evidence_tables(evidence)
    print("\n".join(f"## {dataset}\n\n{text}\n" for dataset, text in found.items()))
    if page:
        from lhs.report.figures import contrasts, to_png

        path = Path(os.path.expanduser(page))
        figure = contrasts({dataset: one.contrasts for dataset, one in evidence.items()})
        try:
            text = path.read_text(encoding="utf-8")
            path.write_text(page_with(text, found), encoding="utf-8")
            path.with_suffix(".png").write_bytes(to_png(figure))
        except OSError as error:
            raise UserError(f"--page {page}: {error.strerror}") from None
        print(f"written   {path}\nwritten   {path.with_suffix('.png')}")
    return 0


def tables(options: Namespace) -> int:
    """`lhs tables`."""
    folder = Path(os.path.expanduser(options.runs[0]))
    kept_runs = len(options.runs) == 1 and folder.is_dir() and not options.keep
    if options.out and (kept_runs or options.keep):
        why = "with --keep" if options.keep else "on a folder of kept runs; see --page"
        raise UserError(f"--out {options.out}: has no effect {why}; leave it out")
    if kept_runs:
        return _evidence(folder, options.page)
    if options.page:
        raise UserError(f"--page {options.page}: allowed with one folder of kept runs")
    if options.keep:
        from lhs.engine.tracking.keeping import keep_runs

        kept = Path(os.path.expanduser(options.keep))
        for path in keep_runs(_storage(options), options.runs, kept):
            print(f"kept      {path}")
        return 0
    from lhs.engine.tracking.comparison import write_tables

    out = Path(os.path.expanduser(options.out or "tables"))
    files = write_tables(_storage(options), options.runs, out)
    print(files[0].read_text(encoding="utf-8"))
    for path in files:
        print(f"written   {path}")
    return 0


def mend(options: Namespace) -> int:
    """`lhs mend`."""
    from lhs.engine.tracking.moved import mend as mend_store
    from lhs.engine.tracking.tracker import check_store, tracking_uri

    uri = tracking_uri(_storage(options))
    check_store(uri)
    changed, left = mend_store(uri)
    print(f"mended    {changed} run{'s' * (changed != 1)} in {uri}")
    if left:
        print(f"left      {left} whose files are only in the old place: move these, and call again")
    return 0
