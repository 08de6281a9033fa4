"""Which stages the trials of a sweep need: each distinct one is made once, before they start."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lhs.config import IMAGE_KINDS, Config
from lhs.engine.clustering import hierarchy_slice, hierarchy_stage
from lhs.engine.descriptors import descriptor_slice, descriptor_stage
from lhs.engine.filling import filled_slice, labelled_scenes, learned_key
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
    filled: str | None
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
    filled = descriptors = hierarchy = targets = None
    around = learned = scenes
    if config.unlabelled.mode == "filled":
        around = filled = stage_key("filled", *filled_slice(config, scenes))
        learned = learned_key(filled, config.unlabelled.train_on_filled == "yes")
    samples, histograms = _rows(config, around, filled)
    learns = config.train.strategy != "baseline"
    if learns:
        if config.hierarchy.kind in IMAGE_KINDS:
            descriptors = stage_key("descriptors", *descriptor_slice(config, around))
        rows = histograms or samples
        hierarchy = stage_key("hierarchy", *hierarchy_slice(config, rows, descriptors))
    else:
        histograms = None
    if config.network.patches:
        trained_on = samples, histograms
        if learned != around:
            trained_on = _rows(config, scenes, filled)
        rows = trained_on[1] or trained_on[0]
        targets = stage_key("targets", *target_slice(config, rows, hierarchy))
    training = stage_key("model", *training_slice(config, learned, hierarchy, targets))
    sampled = learns or config.network.patches
    return Needs(
        scenes, filled, samples if sampled else None, histograms, hierarchy, training, descriptors
    )


def _rows(config: Config, scenes: str, filled: str | None) -> tuple[str, str | None]:
    """Keys of samples, and of their histograms where the hierarchy is made of those."""
    samples = stage_key("samples", *sample_slice(config, scenes))
    if config.hierarchy.kind != "label_clusters":
        return samples, None
    return samples, stage_key("histograms", *histogram_slice(config, samples, filled))


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
    for name in ("filled", "samples", "histograms", "descriptors", "hierarchy"):
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

    Filled maps, samples, histograms and descriptors one after the other, since each takes the whole
    cluster; hierarchies side by side.

    Returns
    -------
    list of list of StageResult
        For each trial its scenes, filled maps, samples, histograms, descriptors and hierarchy, as
        far as it has them.
    """
    made: dict[str, StageResult] = {}
    around: dict[str, CheckedScenes] = {need.scenes: checked for need, (checked, _)
                                        in zip(needs, scenes, strict=True)}  # fmt: skip
    for config, (annotated, _), need in zip(configs, scenes, needs, strict=True):
        if need.filled is not None and need.filled not in made:
            stages = Stages(storage)
            around[need.filled], _ = labelled_scenes(stages, config, annotated)
            made[need.filled] = stages.done[-1]
        if need.samples is None:
            continue
        checked = around[need.filled or need.scenes]
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
        samples, checked = made[need.samples], around[need.filled or need.scenes]
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
            *(
                made[key]
                for key in (n.filled, n.samples, n.histograms, n.descriptors, n.hierarchy)
                if key
            ),
        ]
        for (_, result), n in zip(scenes, needs, strict=True)
    ]
