"""`lhs data get`, `lhs data import`, `lhs data check`, `lhs data show`."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lhs.cli.options import Group, add_command, add_json, add_settings, whole
from lhs.errors import UserError
from lhs.names import DATASETS, DOWNLOADS, IMPORT_FORMATS

if TYPE_CHECKING:
    from lhs.config import Config


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    data = commands.add_parser("data", help="get, import, check and show datasets").add_subparsers(
        required=True, metavar="ACTION"
    )
    getter = add_command(data, "get", get, "download or unpack a dataset, and check it")
    getter.add_argument("dataset", choices=DOWNLOADS)
    getter.add_argument("--archive", metavar="FILE", help="the archive, instead of a download")
    add_import(add_command(data, "import", import_, "write data of a usual format as a folder"))
    checker = add_command(data, "check", check, "read every file and list all that is wrong")
    shower = add_command(data, "show", show, "splits, sizes, classes, scene names")
    for action in (checker, shower):
        action.add_argument("dataset", choices=DATASETS)
        add_settings(action, "as in `lhs run`")
    add_json(shower)
    for action in (getter, checker, shower):
        add_data_root(action)


def add_import(command: argparse.ArgumentParser) -> None:
    """Add the options of `lhs data import`."""
    command.add_argument("source", metavar="SOURCE", help="folder of the data")
    command.add_argument("--out", required=True, metavar="FOLDER", help="to make; may be s3://...")
    command.add_argument("--format", choices=("auto", *IMPORT_FORMATS), default="auto")
    say = command.add_argument_group("what the data may not say")
    say.add_argument(
        "--void", type=values, default=(), metavar="VALUES",
        help="values or colours of pixels that are not labelled, such as 0,255 or '#000000'",
    )  # fmt: skip
    say.add_argument("--classes", type=Path, metavar="FILE", help="a name a line, or a table")
    say.add_argument(
        "--ids-from", type=whole(0, 65535), metavar="N", help="value of the first name in --classes"
    )
    say.add_argument("--suffix", type=ending, metavar="_mask", help="ending of label files' names")
    say.add_argument("--labels", metavar="FOLDER", help="folder of the label files in SOURCE")
    say.add_argument(
        "--labels-follow-exif", choices=("yes", "no"), help="how labels of turned images lie"
    )
    say.add_argument("--background", metavar="CLASS", help="void or a class: outside all polygons")
    say.add_argument("--variable", metavar="NAME", help="name of the array in MATLAB files")
    say.add_argument(
        "--columns", type=columns, metavar="IMAGE,MASK", help="of a Hugging Face dataset"
    )
    split = command.add_argument_group("the split, where the data has no test images")
    split.add_argument("--test", type=share, metavar="SHARE", help="of the images (0.2)")
    split.add_argument("--seed", type=whole(0, 2**31 - 1), default=0)
    split.add_argument(
        "--group", metavar="REGEX", help="images for which it finds the same text stay together"
    )
    command.add_argument("--dry-run", action="store_true", help="say all, write nothing")


def values(text: str) -> tuple[int, ...]:
    """The type of values and colours between commas."""
    try:
        found = [
            int(part[1:], 16) if part.startswith("#") else int(part, 0)
            for part in text.replace(" ", "").split(",")
        ]
    except ValueError:
        found = [2**31]
    if not all(-(2**31) <= value < 2**31 for value in found):
        raise argparse.ArgumentTypeError(f"{text}: allowed are values such as 0,255 or #ff0000")
    return tuple(found)


def ending(text: str) -> str:
    """The type of endings of file names, also given with a picture's suffix."""
    return Path(text).stem if Path(text).suffix in (".png", ".bmp", ".tif", ".mat") else text


def columns(text: str) -> tuple[str, str]:
    """The type of two names."""
    image, comma, mask = text.partition(",")
    if not image or not comma or not mask:
        raise argparse.ArgumentTypeError(f"{text}: allowed are two names, IMAGE,MASK")
    return image, mask


def share(text: str) -> float:
    """The type of shares between 0 and 1."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed are numbers between 0 and 1")
    return found


def add_data_root(command: argparse.ArgumentParser) -> None:
    """Add `--data-root`."""
    command.add_argument("--data-root", metavar="DIR", help="folder of all datasets")


def data_settings(options: Namespace, used: tuple[str, ...] = ("data",)) -> Config:
    """The configuration of a dataset that a command names; settings that are not in the sections
    that it uses are refused."""
    from lhs.loading import load_config

    settings = [f"data.dataset={options.dataset}", *options.set]
    if options.data_root:
        settings.append(f"data.root={options.data_root}")
    config = load_config("demo", settings)
    for setting in options.set:
        if setting.partition("=")[0].partition(".")[0].strip() not in used:
            raise UserError(
                f"--set {setting}: it has no effect here; allowed are settings of {', '.join(used)}"
            )
    return config


def get(options: Namespace) -> int:
    """`lhs data get`."""
    from lhs.data import commands

    return commands.get(options.dataset, options.archive, options.data_root)


def import_(options: Namespace) -> int:
    """`lhs data import`."""
    from lhs.data.importing.command import import_source
    from lhs.data.importing.found import Options

    follow = options.labels_follow_exif
    return import_source(
        options.source,
        options.out,
        format=options.format,
        options=Options(
            void=options.void,
            ids_from=options.ids_from,
            classes=options.classes and options.classes.expanduser(),
            suffix=options.suffix,
            labels=options.labels,
            labels_follow_exif=None if follow is None else follow == "yes",
            background=options.background,
            variable=options.variable,
            columns=options.columns,
        ),
        test=options.test,
        seed=options.seed,
        group=options.group,
        dry_run=options.dry_run,
    )


def check(options: Namespace) -> int:
    """`lhs data check`."""
    from lhs.data import commands

    return commands.check(data_settings(options).data)


def show(options: Namespace) -> int:
    """`lhs data show`."""
    from lhs.data import commands

    return commands.show(data_settings(options).data, as_json=options.json)
