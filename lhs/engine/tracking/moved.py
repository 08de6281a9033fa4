"""A storage that was moved or copied with its database of runs, which holds absolute addresses.

MLflow has no call that changes where the files of an experiment or of a run are, so this changes
its SQLite database. Files are looked for, and written, beside the database.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import sqlalchemy

from lhs.errors import UserError

logger = logging.getLogger("lhs")

FOLDER = "mlartifacts"
"""Of the files of all runs, beside the database."""
LOCKED = 60
"""Seconds to wait while another command writes the database."""
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables of MLflow's database, and their columns with addresses of files."""


def artifact_place(uri: str) -> str | None:
    """The address of the folder for files of runs beside an SQLite database; None for others."""
    file = uri.removeprefix("sqlite:///")
    # `file:` begins SQLite's own addresses, with options at their end.
    if file == uri or file.startswith("file:"):
        return None
    return (Path(file).absolute().parent / FOLDER).as_uri()


def moved_from(address: str | None, place: str) -> str:
    """The folder's old address in that of a file or folder below it; empty if that is not elsewhere
    than `place`, or not one that `artifact_place` made."""
    above, part, below = (address or "").rpartition(f"/{FOLDER}")
    old = above + part
    if not above.startswith("file:") or not (below == "" or below[0] == "/") or old == place:
        return ""
    try:
        # The same folder by another name, such as a link's.
        same = os.path.samefile(_path(old).parent, _path(place).parent)
    except OSError:
        same = False
    return "" if same else old


def keep_experiment_here(uri: str, experiment: str, address: str) -> None:
    """Let an experiment's new runs keep their files beside the database, and say so, if `address`,
    where they would, is elsewhere."""
    place = artifact_place(uri)
    if place is None or not (old := moved_from(address, place)):
        return
    with _changing(uri) as database:
        _set(database, "experiments", "artifact_location", place, "experiment_id", experiment)
    folder = _path(place).parent
    logger.warning(
        f"the runs in {folder} were moved here from {_path(old).parent}: files of new runs are "
        f"kept here, nothing is written there. MLflow looks for files of the older runs there "
        f"until you call `lhs mend --storage {folder}`"
    )


def keep_run_here(uri: str, run_id: str, address: str) -> None:
    """The same for a run that is continued: its files are below `address`."""
    place = artifact_place(uri)
    if place is not None and (old := moved_from(address, place)):
        with _changing(uri) as database:
            here = place + address.removeprefix(old)
            _set(database, "runs", "artifact_uri", here, "run_uuid", run_id)


def mend(uri: str) -> tuple[int, int]:
    """Let MLflow find the files of all runs beside the database, where they were moved or copied.

    Returns
    -------
    int, int
        Runs whose address was changed, and runs left as they are because their files are still
        only in the old place.

    Raises
    ------
    UserError
        If the store is no SQLite file.
    """
    place = artifact_place(uri)
    if place is None or not os.path.isfile(uri.removeprefix("sqlite:///")):
        raise UserError(
            f"lhs mend: the runs are in {uri}; allowed is an SQLite file, such as mlflow.db in a "
            "storage folder: name the folder with --storage, and unset MLFLOW_TRACKING_URI"
        )
    changed = left = 0
    with _changing(uri) as database:
        there = sqlalchemy.inspect(database).get_table_names()
        for table, column in [(t, c) for t, columns in ADDRESSES.items() for c in columns]:
            if table not in there:
                continue
            rows = database.execute(sqlalchemy.text(f"SELECT rowid, {column} FROM {table}"))
            for row, address in rows.fetchall():
                old = moved_from(address, place)
                if not old:
                    continue
                here = place + address.removeprefix(old)
                if table != "experiments" and not _path(here).exists() and _path(address).exists():
                    left += table == "runs"
                    continue
                _set(database, table, column, here, "rowid", row)
                changed += table == "runs"
    return changed, left


@contextmanager
def _changing(uri: str) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(uri, connect_args={"timeout": LOCKED})
    try:
        with engine.begin() as database:
            yield database
    finally:
        engine.dispose()


def _set(
    database: sqlalchemy.Connection, table: str, column: str, value: str, key: str, row: str | int
) -> None:
    # Names of tables and columns are this file's own.
    command = sqlalchemy.text(f"UPDATE {table} SET {column} = :value WHERE {key} = :row")
    database.execute(command, {"value": value, "row": row})


def _path(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))
