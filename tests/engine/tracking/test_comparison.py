"""Runs by name, id or path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lhs.engine.storage import Storage
from lhs.engine.tracking.comparison import SHOWN, compare_runs, find_runs, storage_in, write_tables
from lhs.engine.tracking.run_files import CONFUSION, FACTS
from lhs.errors import UserError


def test_a_run_is_found_by_the_path_that_it_printed(tmp_path: Path) -> None:
    run = tmp_path / "there" / "runs" / "demo-28c98c35"
    run.mkdir(parents=True)
    storage = Storage(str(tmp_path / "there"))
    for given in ("demo", "28c98c35", f"{run}/report.html", f"{run}/", str(run)):
        assert find_runs(storage, [given]) == ["demo-28c98c35"]
    assert storage_in(["demo", f"{run}/report.html"]) == str(tmp_path / "there")
    assert storage_in(["demo", "a/b"]) is None
    assert storage_in(["~/x/runs/demo-1/report.html"]) == str(Path("~/x").expanduser())
    assert storage_in(["s3://bucket/x/runs/demo-1/report.html"]) == "s3://bucket/x"
    with pytest.raises(UserError, match=f"give --storage {tmp_path}/there"):
        find_runs(Storage(str(tmp_path)), [f"{run}/report.html"])


def test_a_file_where_the_tables_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deep"):
        told = f"^--out {out}: a part of the path is a file, not a folder"
        with pytest.raises(UserError, match=told):
            write_tables(Storage(str(tmp_path)), [], out)


def test_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "demo-28c98c35"
    run.mkdir(parents=True)
    (run / FACTS).write_text('{"title": "de')
    storage = Storage(str(tmp_path))
    for call in (compare_runs, lambda *given: write_tables(*given, tmp_path / "out")):
        with pytest.raises(UserError, match=f"^{run / FACTS}: damaged"):
            call(storage, ["demo"])
    (run / FACTS).write_text('{"title": "demo"}')
    for call, missing in (
        (compare_runs, "dataset, classes, config, stages, run_id, created"),
        (lambda *given: write_tables(*given, tmp_path / "out"), "config, scores"),
    ):
        with pytest.raises(UserError, match=f"damaged .it has no {missing}."):
            call(storage, ["demo"])
    (run / FACTS).write_text(json.dumps(dict.fromkeys(SHOWN, "")))
    (run / CONFUSION).write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    with pytest.raises(UserError, match=f"^{run / CONFUSION}: damaged"):
        compare_runs(storage, ["demo"])
