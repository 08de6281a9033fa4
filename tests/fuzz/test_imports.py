"""Sources with damaged files are imported, or refused with the file's name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.data import images
from lhs.data.importing import writing
from lhs.data.importing.command import import_source
from lhs.data.importing.found import Options
from lhs.data.importing.tables import read_table
from lhs.data.layout import find_files
from tests.data.importing.sources import SOURCES, made
from tests.fuzz.guard import edited, edits, ends_well, fuzzed

MEGABYTES = 100
GIVEN = {
    "two folders": Options(void=(0, 255), ids_from=1),
    "listed": Options(labels="coloured", void=(0x090909,)),
}


class Files(NamedTuple):
    """A source, and the content of each of its files."""

    folder: Path
    contents: dict[Path, bytes]
    options: Options


@pytest.fixture(scope="module")
def sources(place: Path) -> dict[str, Files]:
    found = {}
    for name in SOURCES:
        source = made(name, place / name)
        options = GIVEN.get(name, Options())
        if name == "binary":
            options = Options(classes=place / "binary-names.txt")
        contents = {path: path.read_bytes() for path in sorted(source.folder.rglob("*.*"))
                    if path.is_file()}  # fmt: skip
        found[name] = Files(source.folder, contents, options)
    return found


@pytest.fixture(autouse=True, scope="module")
def _quick():  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 1_000_000)
        # Thousands of times it would hold up the whole machine.
        patch.setattr(writing.os, "sync", lambda: None)
        yield


@pytest.mark.parametrize("name", SOURCES)
@fuzzed(4)
@given(data=st.data())
def test_damaged_sources(name: str, data: st.DataObject, place: Path, sources: dict) -> None:
    folder, contents, options = sources[name]
    out = place / f"{name} out"
    shutil.rmtree(out, ignore_errors=True)
    changed = data.draw(
        st.dictionaries(
            st.sampled_from(sorted(contents)),
            st.tuples(edits, st.sampled_from([99, 10**9])),
            min_size=1,
            max_size=2,
        )
    )
    dry = data.draw(st.booleans())
    try:
        for path, (damage, most) in changed.items():
            # Linked files would change with the copies.
            path.unlink()
            path.write_bytes(edited(contents[path], damage, most))
        done = ends_well(
            lambda: import_source(folder, out, options=options, dry_run=dry), MEGABYTES, place
        )
    finally:
        for path in changed:
            path.unlink()
            path.write_bytes(contents[path])
    assert out.exists() == (done == 0 and not dry)
    assert not list(place.glob(".partial-*"))
    if out.exists():
        report = json.loads((out / "import.json").read_text())
        written = find_files(out / "labels", {".png"})
        assert len(written) == len(find_files(out / "images")) == report["images"]
        for path in written:
            ids = np.unique(images.read_label_picture(out / "labels" / path))
            assert set(ids.tolist()) <= {*range(len(report["classes"])), 255}


TABLES = {
    "label_colors.txt": b"64 128 64\t\tAnimal\n192 0 128\tArchway\n0 0 0\tVoid\n",
    "class_dict.csv": b"name,r,g,b\nAnimal,64,128, 64\nArchway,192,0,128\n",
    "_classes.csv": b"Pixel Value, Class\n0, background\n1, car\n",
    "objectInfo150.txt": b"Idx\tRatio\tName\n1\t0.1\twall\n2\t0.1\tbuilding, edifice\n",
    "labels.json": b'{"labels": [{"name": "a", "color": [1, 2, 3], "id": 4}, {"name": "b"}]}',
    "map.json": b'{"a": [1, 2, 3], "b": "#102030", "3": "c"}',
    "classes.txt": "sky\nsea\ncafé\n".encode(),
}


@fuzzed(40)
@given(st.sampled_from(sorted(TABLES)), edits)
def test_damaged_tables(place: Path, name: str, damage: list) -> None:
    path = place / name
    path.write_bytes(edited(TABLES[name], damage))
    table = ends_well(lambda: read_table(path), 20)
    if table is not None:
        assert table.names
        for values in (table.by_id, table.by_colour):
            assert values is None or all(0 <= value < 2**30 for value in values)
