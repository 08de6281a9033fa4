"""Which stages the trials of a sweep need: each distinct one is made once, before they start."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lhs.config import IMAGE_KINDS, Config
from lhs.engine.clustering import hierarchy_slice, hierarchy_stage
from lhs.engine.descriptors import descriptor_slice, descriptor_stage
from lhs.engine.samples import histogram_slice, histogram_stage, sample_slice, sample_stage
from lhs.engine.scenes import CheckedScenes, checked_scenes
from lhs.engine.stages import SUCCESS, StageResult, Stages, stage_key
from lhs.engine.storage import Storage
from lhs.engine.targets import target_slice
from lhs.engine.training import training_slice

AT_ONCE = 4
"""Hierarchies made at a time: each waits for its largest class at its end."""


@dataclass(frozen=True)
class Needs:
    """Keys of what one trial needs, None for what it does not.

    A training hangs on what its hierarchy says, which is known when that is made; until then
    `training` hangs on the hierarchy's key.
    """

    scenes: str
    samples: str | None
    histograms: str | None
    hierarchy: str | None
    training: str
    descriptors: str | None = None


def check_scenes(
    storage: Storage, configs: Sequence[Config]
) -> list[tuple[CheckedScenes, StageResult]]:
    """The checked scenes of every trial; each distinct dataset is checked once."""
    found: dict[str, tuple[CheckedScenes, StageResult]] = {}
    for config in configs:
        key = config.data.model_dump_json()
        if key not in found:
            stages = Stages(storage)
            found[key] = (checked_scenes(stages, config.data), stages.done[0])
    return [found[config.data.model_dump_json()] for config in configs]


def needs_of(config: Config, scenes: str) -> Needs:
    """What a trial needs, from keys alone: nothing is made."""
    samples = stage_key("samples", *sample_slice(config, scenes))
    histograms = descriptors = hierarchy = targets = None
    learns = config.train.strategy != "baseline"
    if learns:
        rows = samples
        if config.hierarchy.kind == "label_clusters":
            rows = histograms = stage_key("histograms", *histogram_slice(config, samples))
        elif config.hierarchy.kind in IMAGE_KINDS:
            descriptors = stage_key("descriptors", *descriptor_slice(config, scenes))
        hierarchy = stage_key("hierarchy", *hierarchy_slice(config, rows, descriptors))
    if config.network.patches:
        targets = stage_key("targets", *target_slice(config, histograms or samples, hierarchy))
    training = stage_key("model", *training_slice(config, scenes, hierarchy, targets))
    sampled = learns or config.network.patches
    return Needs(scenes, samples if sampled else None, histograms, hierarchy, training, descriptors)


def plan_text(
    storage: Storage, needs: Sequence[Needs], trained: bool, searched: bool = False
) -> str:
    """One line: how many distinct results of each stage so many trials need.

    Parameters
    ----------
    storage
        Where some may lie already.
    needs
        Of each trial.
    trained
        Whether networks are trained.
    searched
        Whether trials differ in their training in ways that are not known yet.
    """
    parts = []
    for name in ("samples", "histograms", "descriptors", "hierarchy"):
        keys = {getattr(need, name) for need in needs} - {None}
        if keys:
            made = sum(storage.exists(storage.path("stages", name, key, SUCCESS)) for key in keys)
            there = f" ({made} there already)" if made else ""
            parts.append(f"{len(keys)} x {name}{there}")
    if searched:
        parts.append(f"up to {len(needs)} x training")
    elif trained:
        parts.append(f"{len({need.training for need in needs})} x training")
    return f"{len(needs)} trials: {', '.join(parts) or 'nothing to make'}"


def make_shared(
    storage: Storage,
    configs: Sequence[Config],
    scenes: Sequence[tuple[CheckedScenes, StageResult]],
    needs: Sequence[Needs],
) -> list[list[StageResult]]:
    """Make the stages up to the hierarchy, each distinct one once.

    Samples, histograms and descriptors one after the other, since each takes the whole cluster;
    hierarchies side by side.

    Returns
    -------
    list of list of StageResult
        For each trial its scenes, samples, histograms, descriptors and hierarchy, as far as it has
        them.
    """
    made: dict[str, StageResult] = {}
    for config, (checked, _), need in zip(configs, scenes, needs, strict=True):
        if need.samples is None:
            continue
        if need.samples not in made:
            made[need.samples] = sample_stage(Stages(storage), config, checked)
        if need.histograms is not None and need.histograms not in made:
            samples = made[need.samples]
            made[need.histograms] = histogram_stage(Stages(storage), config, checked, samples)
        if need.descriptors is not None and need.descriptors not in made:
            made[need.descriptors] = descriptor_stage(Stages(storage), config, checked)
    distinct = {
        need.hierarchy: place for place, need in enumerate(needs) if need.hierarchy is not None
    }

    def make(place: int) -> StageResult:
        need = needs[place]
        assert need.samples is not None
        histograms = None if need.histograms is None else made[need.histograms]
        descriptors = None if need.descriptors is None else made[need.descriptors]
        samples, checked = made[need.samples], scenes[place][0]
        return hierarchy_stage(
            Stages(storage), configs[place], checked, samples, histograms, descriptors
        )

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        made |= dict(zip(distinct, pool.map(make, distinct.values()), strict=True))
    finally:
        # Who is stopped does not wait for what is being made.
        pool.shutdown(wait=False, cancel_futures=True)
    return [
        [
            result,
            *(made[k] for k in (n.samples, n.histograms, n.descriptors, n.hierarchy) if k),
        ]
        for (_, result), n in zip(scenes, needs, strict=True)
    ]
