"""`lhs sweep`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from lhs.cli.options import Group, add_command, add_json, add_settings, whole
from lhs.errors import UserError


def add_commands(commands: Group) -> None:
    """Add the command of this file."""
    text = "one recipe under several settings, side by side"
    command = add_command(commands, "sweep", sweep, text)
    command.add_argument("file", help="Python file with a SWEEP, such as tune/sensitivity.py")
    command.add_argument("--recipe", help="another recipe than the file's")
    command.add_argument("--name", help="another name than the file's")
    add_settings(command, "for all trials")
    command.add_argument(
        "--until", choices=("evaluation", "hierarchy"), default="evaluation",
        help="`hierarchy` trains nothing",
    )  # fmt: skip
    command.add_argument(
        "--trials-at-once", type=whole(1, 4096), metavar="N", help="default: as many as fit"
    )
    command.add_argument(
        "--keep", metavar="FOLDER",
        help="write each finished trial there (see `lhs tables --keep`), skip what it holds",
    )  # fmt: skip
    after = command.add_mutually_exclusive_group()
    after.add_argument("--resume", action="store_true", help="continue a sweep that was stopped")
    after.add_argument(
        "--clean", action="store_true", help="delete its records, close its unfinished runs"
    )
    add_json(command)


def sweep(options: Namespace) -> int:
    """`lhs sweep`."""
    from lhs.loading import refuse_unused
    from lhs.sweeps import Search, read_sweep, search_base, trials_of

    wanted = read_sweep(options.file, options.recipe)
    name = options.name or wanted.name
    recipe = options.recipe or wanted.recipe
    if isinstance(wanted, Search):
        if options.until != "evaluation":
            raise UserError(f"--until {options.until}: a search trains; allowed is evaluation")
        if options.keep:
            raise UserError(f"--keep {options.keep}: a search keeps no runs; allowed for a sweep")
        base = search_base(wanted, options.set, options.recipe)
        configs = [base]
    else:
        trials = trials_of(wanted, options.set, options.recipe)
        configs = [trial.config for trial in trials]
        base = configs[0]
        keep = options.keep or (wanted.protocol.keep if wanted.protocol else "")
        there = next(place for place in (Path(keep), *Path(keep).parents) if place.exists())
        if not there.is_dir():
            raise UserError(f"--keep {keep}: {there} is a file, needed is a folder")
    if options.clean:
        from lhs.engine.storage import Storage
        from lhs.engine.tuning.sweep import clean_sweep

        closed = clean_sweep(Storage(base.storage), name)
        print(f"sweep {name}: deleted, {closed} runs closed; finished stages are kept")
        return 0
    from lhs.engine.checks import check_places
    from lhs.engine.runtime.cluster import connected
    from lhs.training.checking import check_batch_norm

    if options.until == "evaluation":
        refuse_unused(options.set, configs)
        for config in configs:
            check_batch_norm(config)
    # A sweep is a run in MLflow also where it trains nothing.
    check_places(configs)
    with connected():
        from lhs.engine.cache import Stages
        from lhs.engine.graph import annotated_scenes
        from lhs.engine.tuning.results import failure_text, print_results, write_results
        from lhs.engine.tuning.sweep import run_sweep

        if isinstance(wanted, Search):
            from lhs.engine.tuning.search import run_search

            outcome = run_search(
                name, recipe, wanted, base, resume=options.resume, at_once=options.trials_at_once
            )
        else:
            outcome = run_sweep(
                name, recipe, trials, resume=options.resume, until=options.until,
                at_once=options.trials_at_once, keep=keep, protocol=wanted.protocol,
            )  # fmt: skip
        scenes = annotated_scenes(Stages(outcome.storage), base)
        page = write_results(
            outcome, name, recipe, scenes, wanted.metric if isinstance(wanted, Search) else None
        )
    print_results(outcome, page)
    if options.json:
        print(json.dumps({"run_id": outcome.tracker.run_id, "trials": outcome.records}))
    if outcome.failed:
        print(f"lhs: {failure_text(outcome)}", file=sys.stderr)
        return 1
    return 0
