"""The last lines of a command: a small table, the paths, and how to open them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.stage import StageResult

if TYPE_CHECKING:
    from lhs.engine.pipeline import Outcome
    from lhs.engine.tracking.tracker import Tracker


def print_summary(outcomes: list[Outcome], recipe: str, settings: Sequence[str]) -> None:
    """Print the scores side by side, stages, paths, and the commands that may follow.

    Parameters
    ----------
    outcomes
        Of the run.
    recipe, settings
        The run's recipe and single settings, as typed.
    """
    last = outcomes[-1]
    columns = {one.config.train.strategy: one.evaluation.scores for one in outcomes}
    if len(outcomes) == 1 and last.baseline is not None:
        columns = {"baseline": last.baseline.scores, **columns}
    print()
    rows = [
        [score, *(f"{scores.headline()[score]:.4f}" for scores in columns.values())]
        for score in last.evaluation.scores.headline()
    ]
    _print_table(["", *columns], rows, (18, *[14] * len(columns)))
    print(f"(one seed: {last.config.train.seed}; a single run is no proof of a difference)")
    print()
    print_stages(last.stages)
    for name, path in _outcome(last)["paths"].items():
        if path is not None:
            print(f"{name:<10}{path}")
    print("\n".join(compare_lines(last.tracker)))
    for command in next_commands(outcomes, recipe, settings):
        print(f"next      {command}")


def next_commands(outcomes: list[Outcome], recipe: str, settings: Sequence[str]) -> list[str]:
    """Three commands that make sense after a run: label photos, compare, repeat with another
    seed."""
    last = outcomes[-1]
    model = _outcome(last)["paths"]["model"]
    place = [] if last.config.storage == Config().storage else ["--storage", last.config.storage]
    kept = [one for one in settings if not one.startswith("train.seed=")]
    again = [word for one in (*kept, f"train.seed={last.config.train.seed + 1}")
             for word in ("--set", one)]  # fmt: skip
    return [
        f'lhs predict {shlex.quote(model)} "photos/*.jpg" --out labelled',
        shlex.join(["lhs", "report", *(one.tracker.run_id for one in outcomes), *place]),
        shlex.join(["lhs", "run", recipe, *again]),
    ]


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    """Print a table: drawn on a terminal, otherwise plain, its columns as wide as given."""
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(*head[:1], box=box.SIMPLE_HEAD)
        for name in head[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    for row in [head, *rows] if any(head) else rows:
        cells = zip(row[1:], widths[1:], strict=True)
        print(f"{row[0]:<{widths[0]}}" + "".join(f"{cell:>{width}}" for cell, width in cells))


def compare_lines(tracker: Tracker) -> list[str]:
    """How to open the runs of a run's experiment in MLflow."""
    experiment = tracker.client.get_run(tracker.run_id).info.experiment_id
    # Without its end MLflow opens on an empty page for language models.
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    if tracker.uri.startswith(("http://", "https://")):
        return [f"compare   {tracker.uri.rstrip('/')}{page}"]
    return [
        f"compare   mlflow ui --backend-store-uri {tracker.uri}",
        f"          then open http://127.0.0.1:5000{page}",
    ]


def print_stages(stages: Stages) -> None:
    """Print a line per stage: made or reused, seconds."""
    rows = [
        [stage.name, "reused" if stage.reused else "made", f"{stage.seconds:.1f} s"]
        for stage in stages.done
    ]
    _print_table(["", "", ""], rows, (13, 7, 11))
    print()


def outcome_json(outcomes: list[Outcome]) -> dict[str, Any]:
    """The object that `lhs run --json` prints: the experiment's, its baseline's inside it."""
    last = outcomes[-1]
    tree = _outcome(last)
    if len(outcomes) > 1:
        tree["baseline"] = _outcome(outcomes[0])
    elif last.baseline is not None:
        tree["baseline"] = {"scores": last.baseline.scores.as_dict()}
    return tree


def _outcome(outcome: Outcome) -> dict[str, Any]:
    address = outcome.stages.storage.address
    hierarchy = outcome.hierarchy
    return {
        "name": outcome.name,
        "strategy": outcome.config.train.strategy,
        "seed": outcome.config.train.seed,
        "scores": outcome.evaluation.scores.as_dict(),
        "run_id": outcome.tracker.run_id,
        "tracking_uri": outcome.tracker.uri,
        "paths": {
            "report": outcome.report,
            "model": address(f"{outcome.model.path}/model"),
            "hierarchy": None if hierarchy is None else address(f"{hierarchy.path}/hierarchy.json"),
        },
        "seconds": outcome.stages.seconds(),
        "reused": [stage.name for stage in outcome.stages.done if stage.reused],
    }


def print_hierarchy(stages: Stages, result: StageResult, page: str) -> None:
    """Print the common classes with their numbers of subclasses, stages, the file, its page."""
    facts = hierarchy_json(stages, result)
    print()
    for name, count in facts["subclasses_per_class"].items():
        print(f"{name:<18}{count:>4} subclasses")
    line = f"{facts['common_classes']} common classes, {facts['subclasses']} subclasses in all"
    if "samples" in facts:
        line += f", {facts['samples']} samples"
        line += f", {facts['mean_superpixel_size']:.1f} pixels a superpixel"
    print(line)
    print()
    print_stages(stages)
    print(f"hierarchy {facts['path']}")
    print(f"page      {page}")


def hierarchy_json(stages: Stages, result: StageResult) -> dict[str, Any]:
    """The object that `lhs hierarchy --json` prints."""
    # A hierarchy that the user gives is made of no samples.
    samples = [stage.facts for stage in stages.done if stage.name == "samples"][:1]
    return {
        **result.facts,
        **{key: facts[key] for facts in samples for key in ("samples", "mean_superpixel_size")},
        "path": stages.storage.address(f"{result.path}/hierarchy.json"),
        "seconds": stages.seconds(),
        "reused": [stage.name for stage in stages.done if stage.reused],
    }
