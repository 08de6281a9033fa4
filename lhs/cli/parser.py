"""The parser of all commands; imports nothing heavy, so that help is quick."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn

import lhs
from lhs.cli import data, experiments, models, results, sweeps

START = """\
start here:
  lhs run demo               the whole experiment on embedded scenes, some minutes
  lhs run demo --plan        what it would make, and what is there already
  lhs COMMAND --help         the options of a command
"""


class Parser(argparse.ArgumentParser):
    """Suggests the nearest name where one is unknown."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake, and end with code 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"[^', ]+", wrong[2]), n=1)
            message += "".join(f"; did you mean {name}?" for name in near)
        super().error(message)


def parser() -> argparse.ArgumentParser:
    """The parser of `lhs`; in its options `call` is the function of the command."""
    top = Parser(
        prog="lhs",
        description="Label hierarchies for scene labeling, on Ray.",
        epilog=START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"lhs {lhs.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for group in (experiments, data, models, sweeps, results):
        group.add_commands(commands)
    return top
