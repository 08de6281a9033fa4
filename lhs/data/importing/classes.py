"""Which class each value of a source's label maps is, or what must be said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lhs.data.importing.found import Found, Options
from lhs.data.importing.tables import colour_text, read_table
from lhs.errors import UserError

VOID_NAMES = {"void", "unlabelled", "unlabeled", "ignore"}
"""Classes of a table that are taken as void, and told; compared in lower case."""
MOST = 65_535
_SHOWN = 40


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their ids, and where each value goes.

    Attributes
    ----------
    names
        The L class names.
    ids
        From value to class id, -1 for void.
    notes
        What was decided by a rule, a line each.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int]
    notes: tuple[str, ...] = ()


def value_text(value: int, colours: bool) -> str:
    """A value as people write it: a number, or #rrggbb."""
    return colour_text(value) if colours else str(value)


def table_lines(counts: Mapping[int, int], colours: bool, classes: Classes | None) -> list[str]:
    """The values of all label maps, a line each.

    Parameters
    ----------
    counts
        Pixels of each value.
    colours
        Whether values are colours.
    classes
        Where they go; None where that is not known.
    """
    values = list(classes.ids) if classes else sorted(counts)
    total = max(sum(counts.values()), 1)
    head = f"{'value':>8}  {'class':<24} {'pixels':>15} {'share':>8}  void"
    lines = [head if classes else head[:-6]]
    shown = values if classes else values[:_SHOWN]
    for value in shown:
        pixels, id = counts.get(value, 0), classes.ids[value] if classes else -1
        if id < 0 and not pixels:
            continue
        name = classes.names[id] if classes and id >= 0 else "" if classes else "?"
        line = f"{value_text(value, colours):>8}  {name:<24} {pixels:>15,} {pixels / total:>8.3%}"
        lines.append(f"{line}  {'yes' if id < 0 else ''}".rstrip() if classes else line)
    if len(shown) < len(values):
        lines.append(f"and {len(values) - len(shown)} more values")
    return lines


def resolve(found: Found, counts: Mapping[int, int], options: Options) -> Classes:
    """Find the class of each value.

    Parameters
    ----------
    found
        The source.
    counts
        Pixels of each value in all label maps.
    options
        What the command was told.

    Raises
    ------
    UserError
        If values have no class, with their pixels, or names or numbers are not known; the message
        names the option to give.
    """
    void = found.void | set(options.void)
    names = _names(found, [value for value in sorted(counts) if value not in void], options)
    notes = [
        f"--void {value_text(value, found.colours)}: no pixel has it"
        for value in options.void
        if value not in counts
    ]
    for value, name in names.items():
        if name.lower() in VOID_NAMES and value not in void:
            void |= {value}
            notes.append(
                f"{value_text(value, found.colours)} is void, as its class is called {name!r}"
            )
    kept = {value: name for value, name in names.items() if value not in void}
    outside = {value: n for value, n in counts.items() if value not in kept and value not in void}
    if outside:
        raise UserError(_outside(found, outside, kept))
    order = tuple(dict.fromkeys(kept.values()))
    if not 2 <= len(order) <= MOST:
        raise UserError(
            f"{len(order)} classes ({', '.join(order[:3])}); needed are 2 to {MOST}: look at "
            "`--classes` and `--void`"
        )
    bad = next((name for name in order if name != name.strip() or not name.isprintable()), None)
    if bad is not None:
        raise UserError(f"class name {bad!r}: allowed is one line of text without outer spaces")
    ids = {value: order.index(name) for value, name in kept.items()}
    return Classes(order, ids | dict.fromkeys(sorted(void), -1), tuple(notes))


def _names(found: Found, present: list[int], options: Options) -> Mapping[int, str]:
    """Class names by value."""
    path = options.classes or found.classes
    table = read_table(path) if path else None
    if table is None and found.names is not None:
        if options.ids_from is not None:
            raise UserError(f"--ids-from: {found.format} has ids of its own; leave it out")
        return found.names
    if table is None:
        what = "colours" if found.colours else "values"
        form = "`R G B name` a line" if found.colours else "a name a line"
        values = ", ".join(value_text(value, found.colours) for value in present[:10])
        more = f" and {len(present) - 10} more" if len(present) > 10 else ""
        raise UserError(
            f"the names of the {len(present)} {what} {values}{more} are not known: give "
            f"`--classes FILE`, {form}, and `--void` for those that stand for not labelled"
        )
    given = table.by_colour if found.colours else table.by_id
    if given is not None:
        if options.ids_from is not None:
            raise UserError(f"--ids-from: {path} has ids or colours of its own; leave it out")
        return given
    if found.colours or table.by_colour is not None:
        kind, other = ("colours", "none") if found.colours else ("ids", "colours and no ids")
        raise UserError(
            f"the label pictures show {kind}, but {path} has {other}; give a table that has them "
            "with `--classes FILE`"
        )
    if present == [0, 255] and len(table.names) == 2 and options.ids_from is None:
        return dict(zip(present, table.names, strict=True))
    if options.ids_from is None and present and present[0] != 0:
        raise UserError(
            f"{path} has {len(table.names)} names without ids, and the smallest value is "
            f"{present[0]}: is its first name value 0 or {present[0]}? Give `--ids-from 0` or "
            f"`--ids-from {present[0]}`"
        )
    return dict(enumerate(table.names, start=options.ids_from or 0))


def _outside(found: Found, outside: Mapping[int, int], kept: Mapping[int, str]) -> str:
    most = sorted(outside, key=lambda value: -outside[value])
    shown = ", ".join(
        f"{value_text(value, found.colours)} ({outside[value]:,} pixels)" for value in most[:10]
    )
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    what = "colours" if found.colours else "values"
    text = f"{len(most)} {what} have no class: {shown}{more}. "
    if not found.colours and kept and most == [max(kept) + 1] and min(kept) == 0:
        return text + (
            f"If ids count from 1 and 0 is void, give `--ids-from 1 --void 0`; if {most[0]} is "
            f"void, `--void {most[0]}`; else a name for it in `--classes FILE`"
        )
    if found.colours and len(most) > 10:
        text += "JPEG label pictures do not keep their colours. "
    values = ",".join(value_text(value, found.colours) for value in sorted(most)[:10])
    values = f"'{values}'" if found.colours else values
    return (
        text + f"If they stand for not labelled, give `--void {values}`, else name them in "
        "`--classes FILE`"
    )
