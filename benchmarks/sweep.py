"""What a sweep costs besides its trainings.

(a) The five settings of the paper's Table 2 on SIFTFlow, up to their hierarchies: as one sweep, as
    one setting alone, and as five independent runs, each with an empty storage.
(b) What a trial costs but for its training loop, by a sweep of five short trainings of `lite` on
    Stanford Background: processes, Ray Train's start, scores of 20 test images, report, MLflow.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pandas as pd
from reporting import options, report

from lhs.engine.runtime.cluster import connected
from lhs.sweeps import Sweep, Trial, grid, read_sweep, trials_of

SENSITIVITY = Path(__file__).parents[1] / "tune" / "sensitivity.py"


def hierarchies(trials: list[Trial]) -> float:
    """Seconds of a sweep up to the hierarchies, in an empty storage."""
    from lhs.engine.tuning.sweep import run_sweep

    started = time.perf_counter()
    run_sweep("measured", "Table 2", trials, until="hierarchy")
    return time.perf_counter() - started


def table_2(data_root: Path, scratch: Path) -> dict[str, float]:
    """Figures (a)."""
    sweep = read_sweep(str(SENSITIVITY))
    assert isinstance(sweep, Sweep)
    common = [f"data.root={data_root}"]
    shared = trials_of(sweep, [*common, f"storage={scratch / 'shared'}"])
    together = hierarchies(shared)
    alone = []
    for number, changes in enumerate(sweep.trials):
        single = Sweep(name=sweep.name, recipe=sweep.recipe, trials=[changes])
        place = scratch / f"alone-{number}"
        alone.append(hierarchies(trials_of(single, [*common, f"storage={place}"])))
    return {
        "one_setting_seconds": alone[0],
        "five_as_a_sweep_seconds": together,
        "five_independent_seconds": sum(alone),
        "sweep_per_setting": together / alone[0],
    }


def machinery(data_root: Path, scratch: Path) -> dict[str, float]:
    """Figures (b)."""
    from lhs.engine.tuning.sweep import run_sweep

    sweep = Sweep(
        name="machinery",
        recipe="stanford-lite-baseline",
        trials=grid({"train.seed": [0, 1, 2, 3, 4]}),
    )
    storage = scratch / "machinery"
    settings = ["data.max_train=64", "data.max_test=20", "train.max_steps=8"]
    trials = trials_of(sweep, [*settings, f"data.root={data_root}", f"storage={storage}"])
    started = time.perf_counter()
    outcome = run_sweep("machinery", sweep.recipe, trials)
    seconds = time.perf_counter() - started
    loops = [
        pd.read_parquet(storage / "stages" / "model" / record["keys"]["model"] / "history.parquet")
        for record in outcome.records
    ]
    trained = sum(float(loop["seconds"].sum()) for loop in loops)
    return {
        "sweep_seconds": seconds,
        "training_loops_seconds": trained,
        "machinery_per_trial_seconds": (seconds - trained) / len(trials),
    }


def main() -> None:
    chosen = options(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch, connected():
        figures = machinery(chosen.data_root, Path(scratch))
        figures |= table_2(chosen.data_root, Path(scratch))
    report(
        "sweep",
        figures,
        {
            "five settings against one": (figures["sweep_per_setting"], "<=", 1.5),
            "seconds a trial besides training": (
                figures["machinery_per_trial_seconds"],
                "<=",
                20.0,
            ),
        },
    )


if __name__ == "__main__":
    main()
