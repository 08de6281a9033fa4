"""The parser of all commands; imports nothing heavy, so that help is quick."""

from __future__ import annotations

import argparse

from lhs.cli import data, experiments, models, results, sweeps


def parser() -> argparse.ArgumentParser:
    """The parser of `lhs`; in its options `call` is the function of the command."""
    top = argparse.ArgumentParser(
        prog="lhs", description="Label hierarchies for scene labeling, on Ray."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for group in (experiments, data, models, sweeps, results):
        group.add_commands(commands)
    return top
