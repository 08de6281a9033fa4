"""Tables of classes in the forms in which people ship them, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from lhs.data.importing.tables import read_table
from lhs.errors import UserError

RED, GREEN = 0xFF0000, 0x00FF01


@pytest.mark.parametrize(
    ("name", "text", "by_id", "by_colour"),
    [
        ("label_colors.txt", "255 0 0\t\tRoof\r\n0 255 1\tA lawn\r\n", None, "both"),
        ("label_colors.txt", "# color (RGB) label\n255 0 0 Roof\n0 255 1 A lawn\n", None, "both"),
        ("labelmap.txt", "Roof:255,0,0::\nA lawn:0,255,1::\n", None, "both"),
        ("class_dict.csv", "name,r,g,b\nRoof,255, 0,0\nA lawn,0,255,1\n", None, "both"),
        ("c.csv", "id,Red,Green,Blue,class\n1,255,0,0,Roof\n7,0,255,1,A lawn\n", (1, 7), "both"),
        ("_classes.csv", "Pixel Value, Class\n1, Roof\n7, A lawn\n", (1, 7), None),
        ("objectInfo.txt", "Idx\tRatio\tName\n1 \t0.1\tRoof\n7\t0.2\tA lawn \n", (1, 7), None),
        ("ids.txt", "1 Roof\n7: A lawn\n", (1, 7), None),
        ("names.txt", "Roof\nA lawn\n", None, None),
        ("labels.json", '["Roof", "A lawn"]', None, None),
        ("labels.json", '{"Roof": [255, 0, 0], "A lawn": "#00ff01"}', None, "both"),
        ("labels.json", '{"Roof": 1, "A lawn": 7}', (1, 7), None),
        ("labels.json", '{"1": "Roof", "7": "A lawn"}', (1, 7), None),
        (
            "config.json",
            '{"version": "1", "labels": [{"name": "Roof", "color": [255, 0, 0], "id": 1},'
            ' {"name": "A lawn", "color": [0, 255, 1], "id": 7}]}',
            (1, 7), "both",
        ),
    ],
)  # fmt: skip
def test_forms(
    name: str, text: str, by_id: tuple[int, int] | None, by_colour: str | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, newline="")
    table = read_table(tmp_path / name)
    assert table.names == ("Roof", "A lawn")
    assert table.by_id == (None if by_id is None else dict(zip(by_id, table.names, strict=True)))
    expected = None if by_colour is None else {RED: "Roof", GREEN: "A lawn"}
    assert table.by_colour == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no class"),
        ("a.txt", "255 0 0 Roof\n0 0 0 Void\n0 0 sea\n", "'0 0 sea', needed: a colour"),
        ("a.txt", "255 0 0 Roof\n256 0 0 sea\n", "three numbers from 0 to 255"),
        ("a.txt", "1 2 3 Roof\n1 2 3 sea\n", "#010203 has the names 'Roof' and 'sea'"),
        ("a.csv", "name,r,g,b\nRoof,1,2\n", "'Roof,1,2', needed: the cells name,r,g,b"),
        ("a.csv", "id,name\nx,Roof\n", "a number for 'id'"),
        ("a.csv", "id,name\n1,Roof\n1,sea\n", "id 1 has the names"),
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "a list or an object"),
        ("a.json", '{"Roof": [1, 2]}', "a colour"),
        ("a.json", '[{"color": [1, 2, 3]}]', "a name"),
        ("a.json", '[{"name": "a", "id": -1}]', "an id"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.txt", "x" * 2**21, "more than"),
    ],
)
def test_what_is_wrong_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nosuch"):
        read_table(tmp_path / "nosuch.txt")
