"""`lhs run`, `lhs hierarchy`, `lhs recipes`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from lhs.cli.options import Group, add_command, add_recipe
from lhs.errors import UserError


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    text = "the whole experiment: scenes to scored report"
    command = add_command(commands, "run", run, text)
    add_recipe(command)
    command.add_argument(
        "--plan",
        action="store_true",
        help="print what would be made and what exists; run nothing",
    )
    text = "up to the label hierarchy only"
    command = add_command(commands, "hierarchy", hierarchy, text)
    add_recipe(command)
    command.add_argument(
        "--export",
        metavar="FOLDER",
        help="also write images and subclass label maps for other trainers into a new folder",
    )
    text = "the named experiments by dataset, with what they need and how long they take"
    add_command(commands, "recipes", recipes, text)


def run(options: Namespace) -> int:
    """`lhs run`."""
    from lhs import loading

    if options.plan and options.json:
        raise UserError("--json: not with --plan, which prints text; leave one of them out")
    config = loading.load_config(options.recipe, options.set)
    loading.refuse_unused(options.set, [config])
    if options.print_config:
        print(config.yaml(), end="")
        return 0
    from lhs.training.checking import check_batch_norm

    check_batch_norm(config)
    run_name = _name_of(options.recipe)
    from lhs.engine.checks import check_places
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.tracking.summary import outcome_json, print_summary

    if not options.plan:
        check_places([config])
    with connected():
        from lhs.engine.pipeline import plan
        from lhs.engine.pipeline import run as run_pipeline

        if options.plan:
            print("\n".join(plan(config, run_name)))
            return 0
        outcomes = run_pipeline(config, run_name)
    print_summary(outcomes, options.recipe, options.set)
    if options.json:
        print(json.dumps(outcome_json(outcomes)))
    return 0


def hierarchy(options: Namespace) -> int:
    """`lhs hierarchy`."""
    from lhs import loading

    config = loading.load_config(options.recipe, options.set)
    if options.print_config:
        print(config.yaml(), end="")
        return 0
    from lhs.engine.cache import Stages
    from lhs.engine.checks import check_places
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.storage import Storage
    from lhs.engine.tracking.summary import hierarchy_json, print_hierarchy

    check_places([config], trained=False)
    if options.export is not None:
        from lhs.hierarchy.export import check_target, export_dataset

        check_target(Path(options.export))
    with connected():
        from lhs.engine.graph import HIERARCHY, annotated_scenes, context_scenes
        from lhs.engine.stages.hierarchy import read_hierarchy
        from lhs.engine.tracking.hierarchy_page import write_hierarchy_page

        stages = Stages(Storage(config.storage))
        # Reports bad images even if the hierarchy exists already.
        annotated_scenes(stages, config)
        result = stages.make(HIERARCHY, config)
        page = write_hierarchy_page(stages, config, _name_of(options.recipe), result)
        if options.export is not None:
            scenes = context_scenes(stages, config)
    print_hierarchy(stages, result, page)
    if options.export is not None:
        made = read_hierarchy(stages.storage, result.path)
        chosen = [*scenes.split("train"), *scenes.split("test")]
        counts = export_dataset(made, chosen, Path(options.export))
        written = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(f"exported  {options.export} ({written} images)")
    if options.json:
        print(json.dumps(hierarchy_json(stages, result) | {"page": page}))
    return 0


def _name_of(recipe: str) -> str:
    """What a recipe's results are called: its name, or that of its file."""
    from lhs import loading

    return recipe if recipe in loading.recipes() else loading.recipe_path(recipe).stem


def recipes(options: Namespace) -> int:
    """`lhs recipes`."""
    from lhs.cli.recipe_list import recipe_lines

    print("\n".join(recipe_lines()))
    return 0
