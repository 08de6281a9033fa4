"""`lhs data get`, `lhs data check`, `lhs data show`."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import TYPE_CHECKING

from lhs.cli.options import Group, add_command, add_json, add_settings
from lhs.names import DATASETS, DOWNLOADS

if TYPE_CHECKING:
    from lhs.config import Config


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    data = commands.add_parser("data", help="get, check and show datasets").add_subparsers(
        required=True, metavar="ACTION"
    )
    getter = add_command(data, "get", get, "download or unpack a dataset, and check it")
    getter.add_argument("dataset", choices=DOWNLOADS)
    getter.add_argument("--archive", metavar="FILE", help="the archive, instead of a download")
    checker = add_command(data, "check", check, "read every file and list all that is wrong")
    shower = add_command(data, "show", show, "splits, sizes, classes, scene names")
    for action in (checker, shower):
        action.add_argument("dataset", choices=DATASETS)
        add_settings(action, "as in `lhs run`")
    add_json(shower)
    for action in (getter, checker, shower):
        add_data_root(action)


def add_data_root(command: argparse.ArgumentParser) -> None:
    """Add `--data-root`."""
    command.add_argument("--data-root", metavar="DIR", help="folder of all datasets")


def data_settings(options: Namespace) -> Config:
    """The configuration of a dataset that a command names."""
    from lhs.loading import load_config

    settings = [f"data.dataset={options.dataset}", *options.set]
    if options.data_root:
        settings.append(f"data.root={options.data_root}")
    return load_config("demo", settings)


def get(options: Namespace) -> int:
    """`lhs data get`."""
    from lhs.data import commands

    return commands.get(options.dataset, options.archive, options.data_root)


def check(options: Namespace) -> int:
    """`lhs data check`."""
    from lhs.data import commands

    return commands.check(data_settings(options).data)


def show(options: Namespace) -> int:
    """`lhs data show`."""
    from lhs.data import commands

    return commands.show(data_settings(options).data, as_json=options.json)
