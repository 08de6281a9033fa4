"""JSON and YAML from untrusted sources, read within bounds.

Both formats can exhaust a machine: nesting as deep as the file is long, text that expands to a
million times its length, numbers that take minutes.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

MAX_YAML = 100_000
MAX_DEPTH = 20
# A Python list takes 20 times the memory of its two characters.
MAX_LISTS = 1_000_000


def parse_json(content: bytes) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If it is not UTF-8 or not JSON, nested too deep, or has more than `MAX_LISTS` lists and
        mappings.
    """
    if content.count(b"[") + content.count(b"{") > MAX_LISTS:
        raise ValueError(f"more than {MAX_LISTS} lists and mappings")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values: no custom tags, no anchors and aliases, no key twice.

    An alias is the same object twice, so that a change in one place would change the other;
    and a few of them expand to more than fits into memory. Of a key given twice PyYAML keeps the
    last value without a word.

    Raises
    ------
    ValueError
        If it is not such YAML, longer than `MAX_YAML` characters, or nested deeper than
        `MAX_DEPTH`; the message says where, on one line.
    """
    if len(text) > MAX_YAML:
        raise ValueError(f"{len(text)} characters; allowed are {MAX_YAML}")
    try:
        depth = 0
        event: Any
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError(
                    f"line {event.start_mark.line + 1}: anchors (&) and aliases (*) are not "
                    "allowed; write the value out"
                )
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(
                    f"line {event.start_mark.line + 1}: nested deeper than the {MAX_DEPTH} levels "
                    "allowed"
                )
        _check_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        tree = yaml.safe_load(text)
        _check_numbers(tree)
        return tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(shortened(f"{place}{error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise ValueError(shortened(" ".join(str(error).split()))) from None
    # Its constructors trust that a tag fits its text: `!!int ''`, the 99th of a month.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(shortened(str(error) or repr(error))) from None


def _check_keys(node: yaml.Node | None) -> None:
    """Refuse mappings with the same key twice."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        _check_keys(value)
        if isinstance(key, yaml.ScalarNode):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise ValueError(
                    f"lines {lines[name]} and {line}: {shortened(repr(key.value), 60)} is given "
                    "twice; allowed is once"
                )
            lines[name] = line


def _check_numbers(tree: Any) -> None:
    """Python refuses to print whole numbers of thousands of digits, which messages would."""
    if isinstance(tree, int) and tree.bit_length() > 256:
        raise ValueError("a whole number of more than 77 digits")
    if isinstance(tree, dict):
        tree = [*tree, *tree.values()]
    if isinstance(tree, list | tuple | set):
        for branch in tree:
            _check_numbers(branch)


def shortened(text: str, most: int = 200) -> str:
    """A text for a message: its start, where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
