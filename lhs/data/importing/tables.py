"""Tables of classes as people ship them: names alone, or names with ids or colours."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhs.data.archive import file_errors
from lhs.data.layout import read_lines
from lhs.errors import UserError
from lhs.untrusted import parse_json, shortened

MAX_BYTES = 2**20
_NAMES = ("name", "class", "label", "class_name", "classname", "category")
_IDS = ("pixel value", "id", "idx", "index", "value", "class_id", "label_id")
_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))
_COLOUR = r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})"
_COLOUR_FIRST = re.compile(rf"{_COLOUR}[\s,:]+(\S.*)")
_COLOUR_LAST = re.compile(rf"(\S.*?)[\s,:]+{_COLOUR}[\s,:]*")
_ID_FIRST = re.compile(r"(\d{1,8})(?:\s*[,:]\s*|\s+)(\S.*)")


@dataclass(frozen=True)
class Table:
    """Classes of a file, in its order.

    Attributes
    ----------
    path
        The file.
    names
        Of all rows.
    by_id, by_colour
        Names by id and by colour (0xRRGGBB), where the file has these.
    """

    path: Path
    names: tuple[str, ...]
    by_id: Mapping[int, str] | None = None
    by_colour: Mapping[int, str] | None = None


Row = tuple[str, int | None, int | None]
"""Name, id and colour."""


def read_table(path: Path) -> Table:
    """Read a table of classes.

    Parameters
    ----------
    path
        Text with a name a line; `R G B name` or `name R G B` a line (`label_colors.txt`); `id name`
        a line; a CSV with a first line such as `name,r,g,b` (`class_dict.csv`), `Pixel Value,
        Class` (`_classes.csv`) or with tabs (`objectInfo150.txt`); or JSON (`labels.json`): a list
        of names or of objects with `name` and `id`, `color` or both, alone or under `labels`,
        `classes` or `categories`, or one object from name to colour or id, or from id to name.

    Raises
    ------
    UserError
        If it is none of these, or gives an id or a colour two names.
    """
    with file_errors(f"reading {path}"):
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: more than {MAX_BYTES} bytes; a table of classes is shorter")
        rows = _json_rows(path) if path.suffix.lower() == ".json" else _text_rows(path)
    if not rows:
        raise UserError(f"{path}: no class in this file")
    return Table(
        path,
        tuple(name for name, _, _ in rows),
        _names_by(path, "id", ((id, name) for name, id, _ in rows)),
        _names_by(path, "colour", ((colour, name) for name, _, colour in rows)),
    )


def colour_text(colour: int) -> str:
    """A colour 0xRRGGBB as #rrggbb."""
    return f"#{colour:06x}"


def _names_by(
    path: Path, kind: str, pairs: Iterable[tuple[int | None, str]]
) -> dict[int, str] | None:
    found: dict[int, str] = {}
    for value, name in pairs:
        if value is None:
            return None
        if found.setdefault(value, name) != name:
            shown = colour_text(value) if kind == "colour" else value
            raise UserError(
                f"{path}: {kind} {shown} has the names {found[value]!r} and {name!r}; allowed is "
                "one"
            )
    return found


def _text_rows(path: Path) -> list[Row]:
    lines = [line for line in read_lines(path) if not line.startswith("# ") and line != "#"]
    if not lines:
        return []
    delimiter = next((mark for mark in "\t,;" if mark in lines[0]), None)
    head = [cell.strip().lower() for cell in lines[0].split(delimiter)] if delimiter else []
    if any(cell in _NAMES for cell in head):
        return _csv_rows(path, lines, delimiter or ",", head)
    for pattern, colour in ((_COLOUR_FIRST, slice(0, 3)), (_COLOUR_LAST, slice(1, 4))):
        found = [pattern.fullmatch(line) for line in lines]
        if sum(map(bool, found)) * 2 > len(lines):
            rows: list[Row] = []
            for match, line in zip(found, lines, strict=True):
                if match is None:
                    raise _wrong(path, line, "a colour R G B and a name")
                cells = match.groups()
                name = cells[3] if colour.start == 0 else cells[0]
                rows.append((name.strip(), None, _colour(path, list(cells[colour]))))
            return rows
    numbered = [_ID_FIRST.fullmatch(line) for line in lines]
    if all(numbered):
        return [(match[2].strip(), int(match[1]), None) for match in numbered if match]
    return [(line, None, None) for line in lines]


def _csv_rows(path: Path, lines: list[str], delimiter: str, head: list[str]) -> list[Row]:
    name = next(head.index(cell) for cell in _NAMES if cell in head)
    ids = next((head.index(cell) for cell in _IDS if cell in head), None)
    three = next((c for c in _COLOURS if set(c) <= set(head)), None)
    rows: list[Row] = []
    for line in lines[1:]:
        cells = [c.strip() for c in next(csv.reader([line], delimiter=delimiter), [])]
        if len(cells) < len(head) or not cells[name]:
            raise _wrong(path, line, f"the cells {delimiter.join(head)}")
        if ids is not None and not cells[ids].isdecimal():
            raise _wrong(path, line, f"a number for {head[ids]!r}")
        colour = _colour(path, [cells[head.index(c)] for c in three]) if three else None
        rows.append((cells[name], None if ids is None else int(cells[ids][:9]), colour))
    return rows


def _json_rows(path: Path) -> list[Row]:
    try:
        tree: Any = parse_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if isinstance(tree, dict):
        inner = (tree[key] for key in ("labels", "classes", "categories") if key in tree)
        tree = next((value for value in inner if isinstance(value, list | dict)), tree)
    if isinstance(tree, dict):
        rows = [_json_entry(path, key, value) for key, value in tree.items()]
    elif isinstance(tree, list):
        rows = [_json_object(path, value) for value in tree]
    else:
        raise _wrong(path, tree, "a list or an object of classes")
    return rows


def _json_entry(path: Path, key: str, value: Any) -> Row:
    if isinstance(value, str) and key.isdecimal() and not value.startswith("#"):
        return value, int(key[:9]), None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**24:
        return key, value, None
    return key, None, _colour(path, value)


def _json_object(path: Path, value: Any) -> Row:
    if isinstance(value, str) and value.strip():
        return value.strip(), None, None
    name = None
    if isinstance(value, dict):
        name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if not name:
        raise _wrong(path, value, "a name, or an object with `name` and `id` or `color`")
    colour = value.get("color", value.get("colour"))
    id = next((value[key] for key in ("id", "value") if key in value), None)
    if id is not None and (not isinstance(id, int) or not 0 <= id < 2**24):
        raise _wrong(path, value, "an id from 0")
    return name, id, None if colour is None else _colour(path, colour)


def _colour(path: Path, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:], 16)
    numbers = [str(number) for number in value] if isinstance(value, list) else []
    if len(numbers) in (3, 4) and all(n.isdecimal() and len(n) < 4 for n in numbers):
        red, green, blue = map(int, numbers[:3])
        if max(red, green, blue) <= 255:
            return red << 16 | green << 8 | blue
    raise _wrong(path, value, "a colour: three numbers from 0 to 255, or #rrggbb")


def _wrong(path: Path, found: Any, needed: str) -> UserError:
    return UserError(f"{path}: found {shortened(repr(found), 100)}, needed: {needed}")
