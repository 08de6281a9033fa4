"""Options of several commands, and the types of their values."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], int]
"""Runs a command; returns the exit code."""
# argparse has no public name for the type of `add_subparsers`.
Group = Any


def add_command(group: Group, name: str, call: Command, text: str) -> argparse.ArgumentParser:
    """Add a command to a group; `text` is its help."""
    command: argparse.ArgumentParser = group.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.set_defaults(call=call)
    return command


def add_settings(command: argparse.ArgumentParser, text: str) -> None:
    """Add `--set KEY=VALUE`."""
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="one JSON object as the last line")


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add a recipe and its settings."""
    recipe = command.add_argument(
        "recipe",
        nargs="?",
        default="demo",
        help="name (see `lhs recipes`), YAML file, or - for YAML from the standard input",
    )
    # For completion in a shell.
    recipe.completer = _recipes  # type: ignore[attr-defined]
    add_settings(command, "change one setting, such as hierarchy.rho=0.95; may be given again")
    add_json(command)
    command.add_argument(
        "--print-config", action="store_true", help="print the resolved YAML, run nothing"
    )


def _recipes(prefix: str, **_: Any) -> list[str]:
    from lhs.loading import recipes

    return [*recipes(), *glob.glob(f"{glob.escape(prefix)}*")]


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: allowed are {least} to {most}")
        return int(text)

    return parse


def scale(text: str) -> float:
    """The type of factors on an image's sides."""
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.25 <= factor <= 4:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 0.25 to 4")
    return factor
