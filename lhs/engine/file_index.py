"""The storage's index of a dataset's files: digests by path, size and times.

A file that is as the index knows it is not read again. An index that is lost or damaged costs time
alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from lhs.data.contents import MISSING, FileState, file_digests
from lhs.data.dataset import Dataset
from lhs.data.remote import RemotePath, located
from lhs.engine.storage import Storage

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("changed", pa.int64()),
        ("digest", pa.string()),
    ]
)


def current_digests(storage: Storage, dataset: Dataset) -> dict[str, list[str]]:
    """Digests of each scene's files, by scene id; only files that are not as the index knows them
    are read."""
    states, index, started = dataset.file_states(), _read(storage, dataset), time.time_ns()
    unknown = [
        path
        for path, state in states.items()
        if state == MISSING or path not in index or index[path][0] != state
    ]
    found = file_digests([located(path) for path in unknown])
    digests = {path: found[path] if path in found else index[path][1] for path in states}
    if found:
        _write(storage, dataset, index, found, started)
    return {scene.id: [digests[str(path)] for path in scene.files()] for scene in dataset.scenes()}


def remember(storage: Storage, dataset: Dataset, digests: Mapping[str, str], started: int) -> None:
    """Put digests by path into the index; `started` (ns) is when the first file was read."""
    if digests:
        _write(storage, dataset, _read(storage, dataset), digests, started)


def _place(storage: Storage, dataset: Dataset) -> str:
    place = dataset.folder
    folder = str(place) if isinstance(place, RemotePath) else os.path.abspath(place or dataset.name)
    return storage.path("files", f"{hashlib.sha256(folder.encode()).hexdigest()[:16]}.parquet")


def _read(storage: Storage, dataset: Dataset) -> dict[str, tuple[FileState, str]]:
    path = _place(storage, dataset)
    if not storage.exists(path):
        return {}
    try:
        columns = pq.read_table(io.BytesIO(storage.read(path)), schema=_SCHEMA).to_pydict()
    except (pa.ArrowException, OSError):
        # Damaged: every file is digested again.
        return {}
    states = map(FileState, columns["size"], columns["modified"], columns["changed"])
    return dict(zip(columns["path"], zip(states, columns["digest"], strict=True), strict=True))


def _write(
    storage: Storage,
    dataset: Dataset,
    index: dict[str, tuple[FileState, str]],
    digests: Mapping[str, str],
    started: int,
) -> None:
    states = dataset.file_states()
    for path, digest in digests.items():
        # A file written just now may change once more without a change of its times.
        state = states[path] if states[path].settled(started) else MISSING
        index[path] = state, digest
    rows = [(path, *state, digest) for path, (state, digest) in index.items()]
    table = pa.table(dict(zip(_SCHEMA.names, zip(*rows, strict=True), strict=True)), _SCHEMA)
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    path = _place(storage, dataset)
    storage.make_folder(path.rpartition("/")[0])
    storage.replace(path, stream.getvalue())
