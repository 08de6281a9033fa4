"""Several nodes: what a second one costs here, and a model of up to 64.

(a) `lhs run demo` on a cluster of two raylets of one CPU each, against one raylet of two CPUs, with
    the same hierarchy. Both share this machine: what they differ by is what nodes cost.
(b) A model of `siftflow-lite-s-lc` on 1 to 64 machines like this one, from the costs of its stages
    on a part of the images, measured in the same run: see `modelled`.

The figure goes to `--figure`, the table to stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from reporting import options, report

from lhs.engine.stages.samples import blocks
from lhs.loading import load_config
from lhs.report.figures.style import LIGHT, new_figure, style_axes, to_png

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.faults.nodes import nodes
from tests.faults.runs import environment

NODES = (1, 2, 4, 8, 16, 32, 64)
RECIPE = "siftflow-lite-s-lc"
FEW, MANY = 200, 600
"""Images of the two runs that tell a stage's start from its work."""
STEPS = 12
"""Of each phase of a run that is measured."""


def run(recipe: str, storage: Path, place: dict[str, str], *settings: str) -> dict[str, Any]:
    """Run the program; seconds of its stages, by name, and the last hierarchy's digest."""
    chosen = [f"storage={storage}", *settings]
    command = [sys.executable, "-m", "lhs.run", "run", recipe]
    command += [word for setting in chosen for word in ("--set", setting)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=place)
    found: dict[str, Any] = {}
    for name in storage.glob("stages/*/*/_SUCCESS.json"):
        stage = json.loads(name.read_text())
        found[stage["stage"]] = found.get(stage["stage"], 0.0) + stage["seconds"]
        if stage["stage"] == "hierarchy":
            found["digest"] = stage["facts"]["digest"]
        if stage["stage"] == "model":
            history = pd.read_parquet(name.parent / "history.parquet")
            found["steps"] = history.groupby("phase").seconds.median()
            found["looped"] = float(history.seconds.sum())
    return found


def overhead(scratch: Path) -> dict[str, Any]:
    """Figures (a)."""
    sides: dict[str, dict[str, Any]] = {}
    for name, cpus in (("one raylet", (2,)), ("two raylets", (1, 1))):
        with nodes(*cpus, environment=environment()) as cluster:
            joined = environment(RAY_ADDRESS=cluster.address)
            sides[name] = run("demo", scratch / name.replace(" ", "-"), joined)
    one, two = sides.values()
    stages = [name for name in one if isinstance(one[name], float) and name != "looped"]
    return {
        "stages": {name: [round(side[name], 1) for side in (one, two)] for name in stages},
        "times": sum(two[name] for name in stages) / sum(one[name] for name in stages),
        "same hierarchy": one["digest"] == two["digest"],
    }


def costs(data_root: Path, scratch: Path) -> dict[str, Any]:
    """Starts (s) and work of the stages of `RECIPE` on this machine."""
    phases = ["subclass_new_layers", "subclass_all_layers", "class_last_layer", "class_all_layers"]
    common = [
        f"data.root={data_root}", "data.max_test=40", "report.baseline=none", "report.scenes=0",
        *(f"train.sequential.{phase}.steps={STEPS}" for phase in phases),
    ]  # fmt: skip
    few, many = (
        run(RECIPE, scratch / str(count), environment(), *common, f"data.max_train={count}")
        for count in (FEW, MANY)
    )
    shared = run(
        RECIPE, scratch / "shared", environment(), *common, f"data.max_train={FEW}",
        "train.workers=2", "train.threads=1",
    )  # fmt: skip
    images = {
        name: max(0.0, (many[name] - few[name]) / (MANY - FEW))
        for name in ("samples", "histograms", "hierarchy")
    }
    return {
        "a_training_image": images,
        "starts": {name: max(0.0, few[name] - images[name] * FEW) for name in images}
        | {"model": few["model"] - few["looped"]},
        "a_step": {str(name): float(value) for name, value in few["steps"].items()},
        "a_step_of_two_workers": {
            str(name): float(value) for name, value in shared["steps"].items()
        },
        "a_test_image": few["evaluation"] / 40,
    }


def modelled(cost: dict[str, Any], machines: int) -> dict[str, float]:
    """Seconds of each stage on so many machines.

    Samples and histograms: the start, and the tasks in as many rounds as the machines need.
    Clusters: a task per common class (11 at rho = 0.93), as if all were alike. Training: batches of
    the recipe in as many shares as there are machines, but at least one image per share; beside its
    share of the work a step costs what it cost more here with two workers of one thread than with
    one of two. Scores: one model, on one machine. Networks and storage between machines are not
    in it.
    """
    config = load_config(RECIPE, [])
    train, test = 2488, 200
    seconds = {}
    for name in ("samples", "histograms"):
        tasks = blocks(train * (config.context.variants + 1))
        rounds = -(-tasks // (2 * machines)) * 2 / tasks
        seconds[name] = cost["starts"][name] + cost["a_training_image"][name] * train * rounds
    classes = 11
    rounds = -(-classes // (2 * machines)) * 2 / classes
    seconds["hierarchy"] = (
        cost["starts"]["hierarchy"] + cost["a_training_image"]["hierarchy"] * train * rounds
    )
    batch = config.train.batch_size
    shares = min(machines, batch)
    share = -(-batch // shares) / batch
    trained = cost["starts"]["model"]
    for phase, step in cost["a_step"].items():
        length = getattr(config.train.sequential, phase)
        steps = length.steps or round(length.epochs * (train // batch))
        talk = max(0.0, cost["a_step_of_two_workers"][phase] - step) if shares > 1 else 0.0
        trained += steps * (step * share + talk)
    seconds["model"] = trained
    seconds["evaluation"] = cost["a_test_image"] * test
    return seconds


def draw(table: pd.DataFrame) -> bytes:
    """A PNG: hours of each stage, stacked, against machines."""
    figure = new_figure(7, 3.4, LIGHT, constrained=True)
    axes = figure.add_subplot()
    style_axes(axes, LIGHT, grid="y")
    hours = table / 3600
    names = [str(count) for count in hours.index]
    bottom = hours.iloc[:, 0] * 0
    for shade, name in enumerate(hours):
        shown = "training" if name == "model" else name
        axes.bar(names, hours[name], bottom=bottom, label=shown, color=f"C{shade}")
        bottom = bottom + hours[name]
    for place, whole in enumerate(bottom):
        axes.annotate(
            f"{whole:.2f} h", (place, whole), ha="center", va="bottom", color=LIGHT.ink, fontsize=9
        )
    axes.set_xlabel("machines of two cores", color=LIGHT.muted)
    axes.set_ylabel("hours, modelled", color=LIGHT.muted)
    axes.legend(frameon=False, fontsize=9, labelcolor=LIGHT.ink)
    return to_png(figure)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--figure", type=Path, default=Path("nodes.png"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        figures = {"overhead": overhead(scratch)}
        cost = costs(chosen.data_root, scratch)
    table = pd.DataFrame([modelled(cost, count) for count in NODES], index=list(NODES))
    chosen.figure.write_bytes(draw(table))
    print(table.assign(whole=table.sum(axis=1)).round(0).to_string())
    figures |= {
        "costs": cost,
        "hours": {str(n): float(hours) for n, hours in (table.sum(axis=1) / 3600).items()},
    }
    report(
        "nodes",
        figures,
        {"the same hierarchy on two raylets": (figures["overhead"]["same hierarchy"], "==", True)},
    )


if __name__ == "__main__":
    main()
