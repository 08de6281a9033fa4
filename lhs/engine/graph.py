"""The paper as a graph of stages: what is made, from what, in which order. Read this file first.

==========  =====================================================================================
section 2   scenes -> samples -> histograms of the labels around them
section 3   histograms, scene names or images' descriptors -> hierarchy
section 4   scenes, hierarchy -> model; for patch networks targets between the two
section 4.4 a baseline's model -> filled label maps, which take the scenes' place
section 5   model -> evaluation
==========  =====================================================================================

`lhs run` makes `EVALUATION`, `lhs hierarchy` makes `HIERARCHY`, and every stage makes first what it
takes. Keys, a sweep's plan, `--plan` and the lookup of the baseline all come from these
declarations. A new stage is a file with its builder, and its declaration here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lhs.config import IMAGE_KINDS, Config, UnlabelledConfig
from lhs.engine.cache import Stages
from lhs.engine.stage import Input, Stage, Work
from lhs.engine.stages.descriptors import build_descriptors, descriptor_settings, descriptor_weights
from lhs.engine.stages.evaluation import build_evaluation, evaluation_settings
from lhs.engine.stages.hierarchy import build_hierarchy, digest_of, hierarchy_settings
from lhs.engine.stages.pseudo_labels import ANNOTATED, build_filled, filled_settings, with_fill
from lhs.engine.stages.sample_index import build_targets, order_seed
from lhs.engine.stages.samples import build_histograms, build_samples, region_setting
from lhs.engine.stages.scenes import (
    CheckedScenes,
    build_scenes,
    checked_key,
    checked_scenes,
    dataset_digest,
    mended,
)
from lhs.engine.stages.training import (
    baseline_of,
    build_model,
    coarser_of,
    network_weights,
    training_settings,
)

# Which result is meant: conditions on a configuration, and configurations made from it.


def is_filled(config: Config) -> bool:
    """Whether a baseline labels what people did not (paper section 4.4)."""
    return config.unlabelled.mode == "filled"


def has_hierarchy(config: Config) -> bool:
    """Whether the network learns subclasses."""
    return config.train.strategy != "baseline"


def trains_on_fill(config: Config) -> bool:
    """Whether the network also trains on what the baseline labelled."""
    return is_filled(config) and config.unlabelled.train_on_filled == "yes"


def annotated(config: Config) -> Config:
    """The same experiment on what people annotated."""
    return config.model_copy(update={"unlabelled": UnlabelledConfig()})


def data_alone(config: Config) -> Config:
    """All that the scenes depend on."""
    return Config(data=config.data, storage=config.storage)


# The scenes that a stage looks at.


def annotated_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """As people annotated them."""
    made = stages.make(SCENES, data_alone(config))
    settings = config.data
    return stages.once(settings.model_dump_json(), lambda: checked_scenes(settings, made))


def context_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """What the hierarchy is made from: with filled label maps, where that is asked for."""
    return (
        _with_fill(stages, config, True) if is_filled(config) else annotated_scenes(stages, config)
    )


def learned_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """What the network trains on: filled label maps, annotated ones, or annotated ones whose
    surroundings are filled."""
    if not is_filled(config):
        return annotated_scenes(stages, config)
    return _with_fill(stages, config, trains_on_fill(config))


def _with_fill(stages: Stages, config: Config, trains: bool) -> CheckedScenes:
    scenes, made = annotated_scenes(stages, config), stages.make(FILLED, config)
    return stages.once(
        f"{made.key} {trains}",
        lambda: with_fill(scenes, stages.storage, made, trains_on_fill=trains),
    )


def _build(
    builder: Callable[[Work, CheckedScenes, str], dict[str, Any]],
    scenes: Callable[[Stages, Config], CheckedScenes],
) -> Callable[[Work, str], dict[str, Any]]:
    return lambda work, path: builder(work, scenes(work.stages, work.config), path)


# What stages take.


def _scenes(config: Config) -> list[Input]:
    return [Input(role="scenes", stage=SCENES, config=data_alone(config), told=checked_key)]


def _context(config: Config) -> list[Input]:
    if is_filled(config):
        return [Input(role="scenes", stage=FILLED, config=config)]
    return _scenes(config)


def _learned(config: Config) -> list[Input]:
    if is_filled(config) and not trains_on_fill(config):
        return [Input(role="scenes", stage=FILLED, config=config, suffix=ANNOTATED)]
    return _context(config)


def _filled(config: Config) -> list[Input]:
    return [Input(role="filled", stage=FILLED, config=config)] if is_filled(config) else []


def _hierarchy(config: Config) -> list[Input]:
    if not has_hierarchy(config):
        return []
    return [Input(role="hierarchy", stage=HIERARCHY, config=config, told=digest_of)]


def _hierarchy_inputs(config: Config) -> list[Input]:
    if config.hierarchy.kind == "label_clusters":
        return [
            Input(role="samples", stage=SAMPLES, config=config, implied=True),
            Input(role="histograms", stage=HISTOGRAMS, config=config),
        ]
    inputs = [Input(role="samples", stage=SAMPLES, config=config)]
    if config.hierarchy.kind in IMAGE_KINDS:
        inputs.append(Input(role="descriptors", stage=DESCRIPTORS, config=config))
    return inputs


def _target_inputs(config: Config) -> list[Input]:
    """Samples of what the network learns, with histograms where its hierarchy goes by those."""
    learned = config if trains_on_fill(config) else annotated(config)
    rows = Input(role="rows", stage=SAMPLES, config=learned)
    if has_hierarchy(config) and config.hierarchy.kind == "label_clusters":
        both_annotated = is_filled(config) and not trains_on_fill(config)
        stage = LEARNED_HISTOGRAMS if both_annotated else HISTOGRAMS
        rows = Input(role="rows", stage=stage, config=config)
    return [rows, *_hierarchy(config)]


def _model_inputs(config: Config) -> list[Input]:
    inputs = [*_learned(config), *_hierarchy(config)]
    if config.network.patches:
        inputs.append(Input(role="targets", stage=TARGETS, config=config))
    coarser = coarser_of(config)
    if coarser is not None:
        inputs.append(Input(role="start", stage=MODEL, config=coarser))
    return inputs


def _filled_inputs(config: Config) -> list[Input]:
    baseline = baseline_of(config)
    # Nobody looks at its scores on held-out images here.
    train = baseline.train.model_copy(update={"validate_every": None})
    baseline = baseline.model_copy(update={"train": train})
    return [*_scenes(config), Input(role="model", stage=MODEL, config=baseline, apart=True)]


# The stages.

SCENES = Stage(name="scenes", sources=dataset_digest, build=build_scenes, stale=mended)

FILLED = Stage(
    name="filled",
    settings=filled_settings,
    inputs=_filled_inputs,
    build=_build(build_filled, annotated_scenes),
)

SAMPLES = Stage(
    name="samples",
    settings=lambda config: config.context.model_dump(mode="json"),
    inputs=_context,
    build=_build(build_samples, context_scenes),
)

HISTOGRAMS = Stage(
    name="histograms",
    settings=region_setting,
    inputs=lambda config: [Input(role="samples", stage=SAMPLES, config=config), *_filled(config)],
    build=_build(build_histograms, context_scenes),
)

LEARNED_HISTOGRAMS = Stage(
    # Samples of annotated pixels, among filled surroundings.
    name="histograms",
    settings=region_setting,
    inputs=lambda config: [
        Input(role="samples", stage=SAMPLES, config=annotated(config)),
        *_filled(config),
    ],
    build=_build(build_histograms, context_scenes),
)

DESCRIPTORS = Stage(
    name="descriptors",
    settings=descriptor_settings,
    sources=descriptor_weights,
    inputs=_context,
    build=_build(build_descriptors, context_scenes),
)

HIERARCHY = Stage(
    name="hierarchy",
    settings=hierarchy_settings,
    inputs=_hierarchy_inputs,
    build=_build(build_hierarchy, context_scenes),
)

TARGETS = Stage(
    name="targets",
    settings=order_seed,
    inputs=_target_inputs,
    build=_build(build_targets, learned_scenes),
)

MODEL = Stage(
    name="model",
    version=3,
    settings=training_settings,
    sources=network_weights,
    inputs=_model_inputs,
    build=_build(build_model, learned_scenes),
)

EVALUATION = Stage(
    name="evaluation",
    settings=evaluation_settings,
    inputs=lambda config: [*_scenes(config), Input(role="model", stage=MODEL, config=config)],
    build=_build(build_evaluation, annotated_scenes),
)
