"""Finished runs of a storage as files for a repository; see `lhs.report.evidence`."""

from __future__ import annotations

from pathlib import Path

from lhs.engine.cache import SUCCESS
from lhs.engine.stages.evaluation import read_image_counts
from lhs.engine.storage import Storage
from lhs.engine.tracking.comparison import find_runs
from lhs.engine.tracking.provenance import run_digests, stage_paths
from lhs.engine.tracking.run_files import run_facts
from lhs.loading import stored_config
from lhs.report.evidence import KeptRun, write_run

PLACES = ("storage", "data.root", "data.cache_gb", "tracking.register")
"""Settings that say nothing outside the machine that ran."""
KEPT = ("title", "dataset", "classes", "config", "stages")
"""What a run's facts must hold to be kept."""


def keep_runs(storage: Storage, runs: list[str], folder: Path) -> list[Path]:
    """Write runs, named as in `compare_runs`, below a folder; returns the files.

    Raises
    ------
    UserError
        As of `compare_runs`, for an evaluation of an earlier version, or if the folder cannot be
        written.
    """
    return [
        write_run(folder, kept_run(storage, name))
        for name in dict.fromkeys(find_runs(storage, runs))
    ]


def kept_run(storage: Storage, name: str) -> KeptRun:
    """A run, by the name of its folder below `runs/`, with the counts of its test images."""
    facts = run_facts(storage, storage.path("runs", name), KEPT)
    stages = {row["stage"]: row for row in facts["stages"]}
    paths = stage_paths(storage, facts["stages"])
    model = storage.read_json(f"{paths['model']}/{SUCCESS}")
    settings = stored_config(facts["config"]).dotted()
    images, counts = read_image_counts(storage, paths["evaluation"], len(facts["classes"]))
    return KeptRun(
        run=name,
        # A trial's name goes on with its seed and fold.
        variant=facts["title"].split()[0],
        dataset=facts["dataset"],
        classes=facts["classes"],
        settings={key: value for key, value in settings.items() if key not in PLACES},
        digests=run_digests(storage, paths["scenes"], paths["model"]),
        versions=model["facts"].get("versions", {}),
        device=model["facts"].get("device", ""),
        seconds={stage: row["seconds"] for stage, row in stages.items()},
        steps=model["facts"]["steps"],
        evaluation=stages["evaluation"]["key"],
        images=images,
        counts=counts,
    )
