"""Stages that the trials of a sweep share: each distinct one is made once, before they start."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import (
    DESCRIPTORS,
    HIERARCHY,
    HISTOGRAMS,
    MODEL,
    PSEUDO_LABELS,
    SAMPLES,
    SCENES,
    annotated_scenes,
    has_hierarchy,
)
from lhs.engine.runtime.cluster import start
from lhs.engine.stage import Stage, StageResult
from lhs.engine.storage import is_storage_error
from lhs.errors import UserError

HIERARCHIES_AT_ONCE = 4
"""Hierarchies made at a time: at its end each waits for its largest class alone."""
SHARED = tuple(stage.name for stage in (PSEUDO_LABELS, SAMPLES, HISTOGRAMS, DESCRIPTORS, HIERARCHY))
"""Stages before the training, in the order of the plan's line."""


def plan_text(
    stages: Stages, configs: Sequence[Config], trained: bool, searched: int | None = None
) -> str:
    """A line with the number of distinct results of each stage that the trials need.

    Parameters
    ----------
    stages
        Finds those that exist already.
    configs
        The configuration of each trial.
    trained
        Whether networks are trained.
    searched
        Number of trials of a search, whose settings are not known yet.
    """
    digests: dict[str, set[str]] = {}
    there: dict[str, set[str]] = {}
    for config in configs:
        for stage, its_config, key in stages.needed(MODEL if trained else HIERARCHY, config):
            digests.setdefault(stage.name, set()).add(key.digest)
            if stages.find(stage, its_config) is not None:
                there.setdefault(stage.name, set()).add(key.digest)
    parts = []
    for name in SHARED:
        if name in digests:
            made = len(there.get(name, ()))
            parts.append(f"{len(digests[name])} x {name}" + f" ({made} there already)" * bool(made))
    if searched is not None:
        parts.append(f"up to {searched} x training")
    elif trained:
        parts.append(f"{len({stages.key(MODEL, config).digest for config in configs})} x training")
    return f"{searched or len(configs)} trials: {', '.join(parts) or 'nothing to make'}"


def check_scenes(stages: Stages, configs: Sequence[Config]) -> None:
    """Read each distinct dataset of the trials once."""
    for config in configs:
        annotated_scenes(stages, config)


def make_shared(
    stages: Stages, configs: Sequence[Config], *, trained: bool = True
) -> tuple[list[list[StageResult]], dict[int, str]]:
    """Make the stages up to the hierarchy, each distinct one once.

    One after the other, since each uses the whole cluster; only hierarchies at the same time. If
    nothing is trained, each trial is its hierarchy, as in `lhs hierarchy`: also a baseline's.

    Returns
    -------
    list of list of StageResult
        The results of each trial.
    dict of int to str
        The user errors that stopped some trials' stages, by the trial's place.
    """

    def reason(stage: Stage, config: Config) -> str:
        try:
            stages.make(stage, config)
        except UserError as error:
            if is_storage_error(str(error), stages.storage.uri):
                raise
            return str(error)
        return ""

    last = MODEL if trained else HIERARCHY
    reasons: dict[str, str] = {}
    errors: dict[int, str] = {}
    for place, config in enumerate(configs):
        for stage, its_config, key in stages.needed(last, config):
            if stage.name not in SHARED or stage is HIERARCHY:
                continue
            if key.digest not in reasons:
                reasons[key.digest] = reason(stage, its_config)
            if reasons[key.digest]:
                errors[place] = reasons[key.digest]
                break
    hierarchies = {
        place: stages.key(HIERARCHY, config).digest
        for place, config in enumerate(configs)
        if (has_hierarchy(config) or not trained) and place not in errors
    }
    distinct = {digest: configs[place] for place, digest in hierarchies.items()}
    # Here, not in several threads at once.
    start()
    pool = ThreadPoolExecutor(HIERARCHIES_AT_ONCE)
    try:
        found_out = pool.map(lambda config: reason(HIERARCHY, config), distinct.values())
        reasons |= dict(zip(distinct, found_out, strict=True))
    finally:
        # When stopped, do not wait for what is being made.
        pool.shutdown(wait=False, cancel_futures=True)
    errors |= {place: reasons[digest] for place, digest in hierarchies.items() if reasons[digest]}
    shared = (SCENES.name, *SHARED)
    results = []
    for config in configs:
        found = [
            stages.find(stage, its_config)
            for stage, its_config, _ in stages.needed(last, config)
            if stage.name in shared
        ]
        results.append([result for result in found if result is not None])
    return results, errors
