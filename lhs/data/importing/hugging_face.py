"""Hugging Face datasets on a disk: saved by `save_to_disk`, or a folder of parquet files.

pyarrow alone reads both. `datasets` would map damaged files into memory unchecked, which can end
the process, and copy parquet files into its cache.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lhs.data.images import read_label_picture
from lhs.data.importing.files import inside, some, split_of
from lhs.data.importing.found import Found, Item, Options
from lhs.data.layout import find_files
from lhs.errors import BadImageError, UserError
from lhs.untrusted import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "hugging-face"
IMAGES = {"image", "images", "img", "pixel_values"}
ROWS, KEPT = 16, 4
"""Rows of a parquet file read at a time; readings kept for threads that come a little late."""
_NAME = re.compile(r"\w[\w.-]{0,99}")
"""A split's, of which the names of files are made."""
_PART = re.compile(r"(.+?)-\d+-of-\d+")


def recognise(source: Path, options: Options) -> str | None:
    """Look for what `save_to_disk` writes, or parquet files with two columns of images."""
    try:
        tables = _tables(source)
        if tables and tables[0][1].suffix == ".arrow":
            return f"{len(tables)} Arrow tables saved by save_to_disk"
        columns = _image_columns(tables[0][1]) if tables else []
    except UserError:
        return None
    found = f"{len(tables)} parquet files with images in the columns {some(columns, 10)!r}"
    return found if len(columns) > 1 else None


def read(source: Path, options: Options) -> Found:
    """List the rows of all tables; a split's rows are numbered through.

    Raises
    ------
    UserError
        If there is no table, one is damaged or lacks a column, or `--columns` must say which
        columns hold the images and the masks.
    """
    tables = _tables(source)
    if not tables:
        raise UserError(f"{source}: no dataset saved by save_to_disk and no parquet file")
    image, mask = columns = _columns(tables[0][1], options)
    items, rows_of = [], Counter[str]()
    rows = _Rows(source, columns)
    for name, path in tables:
        for row in range(rows.count(path)):
            items.append(
                Item(
                    f"{name}/{rows_of[name]:06d}",
                    partial(rows.content, path, row, image),
                    partial(rows.label_map, path, row, mask),
                    split_of(name),
                )
            )
            rows_of[name] += 1
    if not items:
        raise UserError(f"{source}: tables without rows")
    return Found(
        NAME,
        recognise(source, options) or "",
        tuple(items),
        void=frozenset(options.void),
        notes=(f"images are the column {image!r}, label maps the column {mask!r}",),
    )


def _tables(source: Path) -> list[tuple[str, Path]]:
    """Each table's split or name, and its file."""
    if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
        return _saved_tables(source)
    found = []
    for path in find_files(source, {".parquet"}):
        part = _PART.fullmatch(path.stem)
        name = part[1] if part else path.stem
        folder = path.parent.name
        found.append((folder if split_of(folder) and not split_of(name) else name, source / path))
    first: dict[str, Path] = {}
    for name, table in found:
        if first.setdefault(name, table.parent) != table.parent:
            raise UserError(
                f"{first[name]} and {table.parent} both hold {name!r}; needed: one of them "
                "as the source"
            )
    return found


def _saved_tables(source: Path) -> list[tuple[str, Path]]:
    """The same of what `save_to_disk` wrote, by its own files."""
    try:
        folders = [source]
        if (source / "dataset_dict.json").is_file():
            splits = parse_json((source / "dataset_dict.json").read_bytes())["splits"]
            folders = [inside(source, source, split) for split in splits]
        tables = []
        for folder in folders:
            state = parse_json((folder / "state.json").read_bytes())
            if state.get("_indices_data_files"):
                raise UserError(
                    f"{folder}: a selection of rows; save it again, by a newer version of datasets"
                )
            name = folder.name if folder != source else str(state.get("_split") or "")
            tables += [
                (name if _NAME.fullmatch(name) else "all", inside(source, folder, file["filename"]))
                for file in state["_data_files"]
            ]
        return tables
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source}: dataset_dict.json or state.json is damaged or missing: {error!r:.300}"
        ) from None


def _columns(path: Path, options: Options) -> tuple[str, str]:
    found = _image_columns(path)
    if options.columns:
        if set(options.columns) <= set(found):
            return options.columns
    elif len(found) == 2 and len(IMAGES.intersection(map(str.lower, found))) == 1:
        image, mask = sorted(found, key=lambda name: name.lower() not in IMAGES)
        return image, mask
    raise UserError(
        f"{path}: say which columns hold the images and their masks, by --columns IMAGE,MASK; "
        f"columns of images are {some(found, 20)!r}"
    )


def _image_columns(path: Path) -> list[str]:
    """Columns of encoded pictures."""
    import pyarrow as pa

    schema = _schema(path)
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        others = {name for name, each in features.items() if each.get("_type") != "Image"}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        others = set()

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and holds_bytes(kind.field(place).type)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    return [each.name for each in schema if each.name not in others and holds_bytes(each.type)]


def _schema(path: Path) -> pa.Schema:
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    with _readable(path):
        if path.suffix != ".arrow":
            return read_schema(path)
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema


def _batches(path: Path, columns: tuple[str, str]) -> Iterator[pa.RecordBatch]:
    """Read a table, a few rows at a time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    if path.suffix != ".arrow":
        with ParquetFile(path, memory_map=True) as file:
            yield from file.iter_batches(ROWS, columns=list(columns))
        return
    with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as stream:
        for batch in stream:
            # Before anything is looked at: places beyond the file end the process.
            batch.validate(full=True)
            yield batch.select(list(columns))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Report what pyarrow raises, nearly anything, with the file's name."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise BadImageError(f"{path}: unreadable table: {error or error!r:.300}") from error


class _Rows:
    """Two columns of many tables, read forward a few rows at a time.

    Parameters
    ----------
    source
        The whole dataset.
    columns
        Of images and of masks.
    """

    def __init__(self, source: Path, columns: tuple[str, str]) -> None:
        self.source, self.columns = source, columns
        self.lock = threading.Lock()
        self.kept: deque[tuple[Path, int, pa.RecordBatch]] = deque(maxlen=KEPT)
        # The table that is being read, and the row that comes next.
        self.path, self.next = source, 0
        self.batches: Iterator[pa.RecordBatch] = iter(())

    def count(self, path: Path) -> int:
        """The number of rows of a table."""
        from pyarrow.parquet import read_metadata

        missing = set(self.columns) - set(_image_columns(path))
        if missing:
            raise UserError(
                f"{path}: no column of images {some(sorted(missing))!r}, as others have"
            )
        with _readable(path):
            if path.suffix == ".arrow":
                return sum(batch.num_rows for batch in _batches(path, self.columns))
            rows, size = read_metadata(path).num_rows, path.stat().st_size
            if not 0 <= rows <= size:
                raise ValueError(f"{rows} rows in {size} bytes")
            return rows

    def content(self, path: Path, row: int, column: str) -> bytes:
        """The encoded picture in a row.

        Raises
        ------
        BadImageError
            If the table is damaged or holds none there.
        """
        with self.lock, _readable(path):
            start, batch = self._batch(path, row)
            cell: Any = batch.column(self.columns.index(column))[row - start].as_py()
        held = cell if isinstance(cell, dict) else {"bytes": cell}
        value, name = held.get("bytes"), held.get("path")
        if value is None and name:
            file = inside(self.source, path.parent, name)
            with _readable(file):
                return file.read_bytes()
        if not value:
            raise BadImageError(f"{path}: row {row}: no picture in column {column!r}")
        return value

    def label_map(self, path: Path, row: int, column: str) -> np.ndarray:
        """The label map in a row: (H, W) int32."""
        content = io.BytesIO(self.content(path, row, column))
        return read_label_picture(f"{path}: row {row}, column {column!r}", content=content)

    def _batch(self, path: Path, row: int) -> tuple[int, pa.RecordBatch]:
        """The rows around one, and the number of the first."""
        for table, start, batch in self.kept:
            if table == path and start <= row < start + batch.num_rows:
                return start, batch
        if path != self.path or row < self.next:
            self.path, self.next, self.batches = path, 0, _batches(path, self.columns)
        for batch in self.batches:
            start, self.next = self.next, self.next + batch.num_rows
            self.kept.append((path, start, batch))
            if row < self.next:
                return start, batch
        raise ValueError(f"no row {row}")
