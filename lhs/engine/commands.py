"""What each command does; results go to stdout, the course of the work to stderr."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path

from lhs import loading
from lhs.config import Config
from lhs.errors import UserError
from lhs.loading import load_config


def run(options: Namespace) -> int:
    """`lhs run`."""
    config = load_config(options.recipe, options.set)
    if options.print_config:
        print(config.yaml(), end="")
        return 0
    from lhs.engine.cluster import connected
    from lhs.engine.summary import outcome_json, print_summary

    with connected():
        from lhs.engine.pipeline import run as run_pipeline

        outcomes = run_pipeline(config, _run_name(options.recipe))
    print_summary(outcomes)
    if options.json:
        print(json.dumps(outcome_json(outcomes)))
    return 0


def hierarchy(options: Namespace) -> int:
    """`lhs hierarchy`."""
    config = load_config(options.recipe, options.set)
    if options.print_config:
        print(config.yaml(), end="")
        return 0
    from lhs.engine.cluster import connected
    from lhs.engine.stages import Stages
    from lhs.engine.storage import Storage
    from lhs.engine.summary import hierarchy_json, print_hierarchy

    with connected():
        from lhs.engine.filling import labelled_scenes
        from lhs.engine.pipeline import make_hierarchy
        from lhs.engine.scenes import checked_scenes

        stages = Stages(Storage(config.storage))
        scenes = checked_scenes(stages, config.data)
        around, _ = labelled_scenes(stages, config, scenes)
        _, result = make_hierarchy(stages, config, around)
    print_hierarchy(stages, result)
    if options.json:
        print(json.dumps(hierarchy_json(stages, result)))
    return 0


def _run_name(recipe: str) -> str:
    return Path(recipe).stem if recipe not in loading.recipes() else recipe


def _data_config(options: Namespace) -> Config:
    settings = [f"data.dataset={options.dataset}", *options.set]
    if options.data_root:
        settings.append(f"data.root={options.data_root}")
    return load_config("demo", settings)


def data_get(options: Namespace) -> int:
    """`lhs data get`."""
    from lhs.data.commands import get

    return get(options.dataset, options.archive, options.data_root)


def data_check(options: Namespace) -> int:
    """`lhs data check`."""
    from lhs.data.commands import check

    return check(_data_config(options).data)


def data_show(options: Namespace) -> int:
    """`lhs data show`."""
    from lhs.data.commands import show, summary

    config = _data_config(options).data
    code = show(config)
    if options.json:
        print(json.dumps(summary(config)))
    return code


def predict(options: Namespace) -> int:
    """`lhs predict`."""
    from lhs.engine.cluster import connected
    from lhs.engine.models import model_folder

    with connected(), model_folder(options.model) as folder:
        from lhs.engine.looks import Looks
        from lhs.engine.predicting import predict_files

        looks = Looks(
            every=options.every,
            flip=options.flip,
            scales=tuple(options.scales),
            superpixels=options.superpixels,
            centres=options.centres,
            probabilities=options.probabilities,
        )
        return predict_files(folder, options.images, options.out, looks, options.workers)


def export(options: Namespace) -> int:
    """`lhs export`."""
    from lhs.engine.exporting import export_file
    from lhs.engine.models import model_folder

    size = tuple(options.size) if options.size else None
    with model_folder(options.model) as folder:
        return export_file(folder, options.format, options.out, size, options.check)


def evaluate(options: Namespace) -> int:
    """`lhs evaluate`."""
    from lhs.engine.cluster import connected
    from lhs.engine.models import model_folder

    config = _data_config(options)
    with connected(), model_folder(options.model) as folder:
        from lhs.engine.evaluation import evaluate_folder
        from lhs.engine.resources import wants_gpu

        wanted = config.evaluation
        evaluation = evaluate_folder(
            folder, config.data, wants_gpu("auto"), wanted.every, wanted.precision
        )
    for name, value in evaluation.scores.headline().items():
        print(f"{name:<18} {value:.4f}")
    if options.json:
        print(json.dumps(evaluation.scores.as_dict() | {"counts": evaluation.counts.tolist()}))
    return 0


def sweep(options: Namespace) -> int:
    """`lhs sweep`."""
    from lhs.sweeps import Search, read_sweep, search_base, trials_of

    wanted = read_sweep(options.file)
    name = options.name or wanted.name
    recipe = options.recipe or wanted.recipe
    if isinstance(wanted, Search):
        if options.until != "evaluation":
            raise UserError(f"--until {options.until}: a search trains; allowed is evaluation")
        base = search_base(wanted, options.set, options.recipe)
    else:
        trials = trials_of(wanted, options.set, options.recipe)
        base = trials[0].config
    if options.clean:
        from lhs.engine.storage import Storage
        from lhs.engine.sweep import clean_sweep

        closed = clean_sweep(Storage(base.storage), name)
        print(f"sweep {name}: forgotten, {closed} runs closed; finished stages are kept")
        return 0
    from lhs.engine.cluster import connected

    with connected():
        from lhs.engine.plan import check_scenes
        from lhs.engine.sweep import run_sweep
        from lhs.engine.sweep_results import print_results, write_results

        if isinstance(wanted, Search):
            from lhs.engine.search import run_search

            outcome = run_search(
                name, recipe, wanted, base, resume=options.resume, at_once=options.trials_at_once
            )
        else:
            outcome = run_sweep(
                name, recipe, trials, resume=options.resume, until=options.until,
                at_once=options.trials_at_once,
            )  # fmt: skip
        [(scenes, _)] = check_scenes(outcome.storage, [base])
        page = write_results(
            outcome, name, recipe, scenes, wanted.metric if isinstance(wanted, Search) else None
        )
    print_results(outcome, page)
    if options.json:
        print(json.dumps({"run_id": outcome.tracker.run_id, "trials": outcome.records}))
    return 0


def recipes(options: Namespace) -> int:
    """`lhs recipes`."""
    known = loading.recipes()
    width = max(len(name) for name in known)
    for name in known:
        print(f"{name:<{width}}  {load_config(name).description}")
    return 0


def report(options: Namespace) -> int:
    """`lhs report`."""
    from lhs.engine.reporting import compare_runs
    from lhs.engine.storage import Storage

    storage = Storage(options.storage or Config().storage)
    print(compare_runs(storage, options.runs))
    return 0


def tables(options: Namespace) -> int:
    """`lhs tables`."""
    from lhs.engine.reporting import write_tables
    from lhs.engine.storage import Storage

    storage = Storage(options.storage or Config().storage)
    files = write_tables(storage, options.runs, Path(os.path.expanduser(options.out)))
    print(files[0].read_text(encoding="utf-8"))
    for path in files:
        print(f"written   {path}")
    return 0


def user_mistake(error: BaseException) -> UserError | None:
    """The user's own mistake inside what Ray made of it, or None."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's own wrapper is a UserError too, with a traceback for its text.
        if isinstance(current, UserError) and getattr(current, "cause", None) is None:
            return current
        failures = getattr(current, "worker_failures", None)
        waiting += failures.values() if isinstance(failures, dict) else []
        waiting += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
