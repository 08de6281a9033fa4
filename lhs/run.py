"""The command line: `lhs ...`, `python -m lhs.run ...` or `python lhs/run.py ...`."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Callable

if sys.path and os.path.abspath(sys.path[0] or ".") == os.path.dirname(os.path.abspath(__file__)):
    # Run as a script: this folder is no place to import from.
    del sys.path[0]

DATASETS = ("siftflow", "stanford", "barcelona", "lmsun", "synthetic", "folder")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code, 2 for the user's mistakes."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_gone():
            raise
        # What is left unwritten would be tried once more at Python's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of programs that SIGPIPE ends


def _run(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    from lhs.engine import commands

    try:
        return getattr(commands, options.call)(options)
    except KeyboardInterrupt:
        print("lhs: stopped; finished stages are kept and will be reused", file=sys.stderr)
        return 130
    except Exception as error:
        mistake = commands.user_mistake(error)
        if mistake is None:
            raise
        print(f"lhs: {mistake}", file=sys.stderr)
        return 2


def _reader_gone() -> bool:
    """Whether nobody reads the output any more, as in `lhs recipes | head -2`."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return bool(watch.poll(0))


def run_file(path: str) -> None:
    """Run a file of `tune/` as a script: `lhs sweep FILE` with the script's own options."""
    sys.exit(main(["sweep", path, *sys.argv[1:]]))


def parser() -> argparse.ArgumentParser:
    """The commands and their options; knows names only, so that help is quick."""
    top = argparse.ArgumentParser(
        prog="lhs", description="Label hierarchies for scene labeling, on Ray."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", "run", "the whole experiment: scenes to scored report")
    _recipe(run)
    hierarchy = _command(commands, "hierarchy", "hierarchy", "up to the label hierarchy only")
    _recipe(hierarchy)

    data = commands.add_parser("data", help="get, check and show datasets").add_subparsers(
        required=True, metavar="ACTION"
    )
    get = _command(data, "get", "data_get", "download or unpack a dataset, and check it")
    get.add_argument("dataset", choices=DATASETS[:4])
    get.add_argument("--archive", metavar="FILE", help="the archive, instead of a download")
    check = _command(data, "check", "data_check", "read every file and list all that is wrong")
    show = _command(data, "show", "data_show", "splits, sizes, classes, scene names")
    for action in (check, show):
        action.add_argument("dataset", choices=DATASETS)
        action.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="as in `lhs run`"
        )
    show.add_argument("--json", action="store_true", help="one JSON object as the last line")
    for action in (get, check, show):
        action.add_argument("--data-root", metavar="DIR", help="folder of all datasets")

    predict = _command(commands, "predict", "predict", "label images with a trained model")
    predict.add_argument("model", help="model folder or runs:/RUN_ID")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="file, folder, pattern in quotes, or URI"
    )
    predict.add_argument("--out", required=True, metavar="DIR", help="folder or URI for results")
    predict.add_argument(
        "--every", type=int, choices=(1, 2, 4, 8), default=1,
        help="patch networks: score every Nth pixel, interpolate between",
    )  # fmt: skip
    predict.add_argument("--flip", action="store_true", help="look at the mirrored image too")
    predict.add_argument(
        "--scales", type=_scale, nargs="+", default=[1.0], metavar="F",
        help="look at the image at these scales, 0.25 to 4",
    )  # fmt: skip
    predict.add_argument(
        "--superpixels", type=_whole(4, 100_000), nargs="?", const=300, default=0, metavar="PIXELS",
        help="let superpixels of this mean size (300) vote on their label",
    )  # fmt: skip
    predict.add_argument(
        "--centres", type=_whole(4, 100_000), nargs="?", const=300, default=0, metavar="PIXELS",
        help="patch networks: score only the centre of each superpixel of this mean size (300)",
    )  # fmt: skip
    predict.add_argument("--probabilities", action="store_true", help="write them too (.npy)")
    predict.add_argument(
        "--workers", type=_whole(1, 4096), metavar="N", help="models at once; one a GPU, or one"
    )

    export = _command(commands, "export", "export", "a model as one file for other programs")
    export.add_argument("model", help="model folder or runs:/RUN_ID")
    export.add_argument("--format", required=True, choices=("onnx", "torch-export"))
    export.add_argument("--out", metavar="FILE", help="default: model.onnx or model.pt2, here")
    export.add_argument(
        "--size", type=_whole(1, 100_000), nargs=2, metavar=("HEIGHT", "WIDTH"),
        help="for images of this size alone; patch networks need it",
    )  # fmt: skip
    export.add_argument(
        "--check", nargs="+", default=[], metavar="IMAGE",
        help="images on which file and model are compared; default: four procedural scenes",
    )  # fmt: skip

    evaluate = _command(commands, "evaluate", "evaluate", "score a trained model on a test split")
    evaluate.add_argument("model", help="model folder or runs:/RUN_ID")
    evaluate.add_argument("--dataset", required=True, choices=DATASETS)
    evaluate.add_argument("--data-root", metavar="DIR", help="folder of all datasets")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    evaluate.add_argument("--json", action="store_true", help="one JSON object as the last line")

    sweep = _command(commands, "sweep", "sweep", "one recipe under several settings, side by side")
    sweep.add_argument("file", help="Python file with a SWEEP, such as tune/sensitivity.py")
    sweep.add_argument("--recipe", help="another recipe than the file's")
    sweep.add_argument("--name", help="another name than the file's")
    sweep.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="for all trials"
    )
    sweep.add_argument(
        "--until", choices=("evaluation", "hierarchy"), default="evaluation",
        help="`hierarchy` trains nothing",
    )  # fmt: skip
    sweep.add_argument(
        "--trials-at-once", type=_whole(1, 4096), metavar="N", help="default: as many as fit"
    )
    after = sweep.add_mutually_exclusive_group()
    after.add_argument("--resume", action="store_true", help="go on with a sweep that was stopped")
    after.add_argument("--clean", action="store_true", help="forget it; close what it left running")
    sweep.add_argument("--json", action="store_true", help="one JSON object as the last line")

    _command(commands, "recipes", "recipes", "the named experiments, a line each")

    report = _command(commands, "report", "report", "one page that compares finished runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="MLflow run id or run name")
    report.add_argument("--storage", metavar="DIR", help="where the runs lie")

    tables = _command(commands, "tables", "tables", "the paper's tables, our scores beside its own")
    tables.add_argument("runs", nargs="+", metavar="RUN", help="as in `lhs report`")
    tables.add_argument("--storage", metavar="DIR", help="where the runs lie")
    tables.add_argument("--out", metavar="DIR", default="tables", help="default: tables, here")
    return top


def _whole(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: allowed are {least} to {most}")
        return int(text)

    return whole


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.25 <= scale <= 4:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 0.25 to 4")
    return scale


def _command(group, name: str, call: str, text: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    command = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(call=call)
    return command


def _recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "recipe", nargs="?", default="demo", help="name (see `lhs recipes`) or YAML file"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, such as hierarchy.rho=0.95; may be given again",
    )
    command.add_argument("--json", action="store_true", help="one JSON object as the last line")
    command.add_argument(
        "--print-config", action="store_true", help="print the resolved YAML, run nothing"
    )


if __name__ == "__main__":
    sys.exit(main())
