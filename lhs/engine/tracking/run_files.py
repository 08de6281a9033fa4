"""A finished run's folder below `runs/`, and the baseline that a run is compared with; without what
draws a page, which takes seconds to import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION, MODEL, has_hierarchy
from lhs.engine.stage import StageResult
from lhs.engine.stages.training import baseline_of
from lhs.engine.storage import Storage

PAGE, FACTS, CONFUSION = "report.html", "run.json", "confusion.npy"


def run_folder(name: str, run_id: str) -> str:
    """The name of a run's folder in `runs/`."""
    return f"{name.replace(' ', '-')}-{run_id[:8]}"


def run_facts(storage: Storage, folder: str, needed: Sequence[str]) -> dict[str, Any]:
    """What a finished run's folder says of it.

    Raises
    ------
    UserError
        If the file is damaged, or lacks one of the keys that are `needed`.
    """

    def parse(content: bytes) -> dict[str, Any]:
        facts = json.loads(content)
        if not isinstance(facts, dict):
            raise ValueError("found no JSON object")
        if missing := [key for key in needed if key not in facts]:
            raise ValueError(f"it has no {', '.join(missing)}")
        return facts

    return storage.parsed(f"{folder}/{FACTS}", parse)


def find_baseline(stages: Stages, config: Config) -> tuple[StageResult | None, str]:
    """The evaluation of the same network trained as baseline, if there is one, and a note."""
    if not has_hierarchy(config) or config.report.baseline == "none":
        return None, ""
    baseline = baseline_of(config)
    if stages.find(MODEL, baseline) is None:
        return None, (
            "No baseline of this network with these settings is in the storage: nothing is "
            "compared. Run the baseline recipe first, or use --set report.baseline=train."
        )
    scored = stages.find(EVALUATION, baseline)
    return scored, "" if scored else (
        "A baseline of this network is trained, but not scored with these settings: nothing is "
        "compared. Run the baseline recipe as well, or use --set report.baseline=train."
    )
