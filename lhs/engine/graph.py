"""The paper as a graph of stages: what is made, from what, in which order. Read this file first.

==========  =====================================================================================
section 2   scenes -> samples -> histograms of the labels around them
section 3   histograms, scene names or image descriptors -> hierarchy -> its random control;
            or the user's file -> hierarchy
section 4   scenes, hierarchy -> model; for patch networks sample index between the two
section 4.4 model of a baseline -> pseudo-labels of unlabelled pixels, added to the scenes
section 5   model -> evaluation
==========  =====================================================================================

`lhs run` makes `EVALUATION`, `lhs hierarchy` makes `HIERARCHY`, and every stage first makes its
inputs. Keys, a sweep's plan, `--plan` and the lookup of the baseline all come from these
declarations. A new stage is a file with its builder, and its declaration here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lhs.config import IMAGE_KINDS, Config, UnlabelledConfig
from lhs.engine.cache import Stages
from lhs.engine.stage import Input, Stage, Work
from lhs.engine.stages.checked_scenes import (
    CheckedScenes,
    changed_scenes,
    checked_key,
    checked_scenes,
)
from lhs.engine.stages.descriptors import build_descriptors, descriptor_settings, descriptor_weights
from lhs.engine.stages.evaluation import build_evaluation, evaluation_settings
from lhs.engine.stages.given_hierarchy import file_sources
from lhs.engine.stages.hierarchy import build_hierarchy, digest_of, hierarchy_settings
from lhs.engine.stages.pseudo_labels import (
    build_pseudo_labels,
    pseudo_label_settings,
    with_pseudo_labels,
)
from lhs.engine.stages.sample_index import build_sample_index, order_seed
from lhs.engine.stages.samples import build_histograms, build_samples, region_setting
from lhs.engine.stages.scenes import build_scenes, dataset_digest
from lhs.engine.stages.training import (
    baseline_of,
    build_model,
    coarser_of,
    diverged,
    network_weights,
    training_settings,
)

# Conditions on a configuration, and configurations made from it.


def uses_pseudo_labels(config: Config) -> bool:
    """Whether a baseline labels the pixels that people did not (paper section 4.4)."""
    return config.unlabelled.mode == "pseudo_labels"


def has_hierarchy(config: Config) -> bool:
    """Whether the network learns subclasses."""
    return config.train.strategy != "baseline"


def trains_on_pseudo_labels(config: Config) -> bool:
    """Whether the network also trains on the baseline's labels."""
    return uses_pseudo_labels(config) and config.unlabelled.train_on_pseudo_labels


def annotated(config: Config) -> Config:
    """The same experiment on what people annotated."""
    return config.model_copy(update={"unlabelled": UnlabelledConfig()})


def data_alone(config: Config) -> Config:
    """The part that the scenes depend on."""
    return Config(data=config.data, storage=config.storage)


# The scenes that a stage reads.


def annotated_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """With the labels of people alone."""
    made = stages.make(SCENES, data_alone(config))
    settings = config.data
    return stages.once(settings.model_dump_json(), lambda: checked_scenes(settings, made))


def context_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """For the hierarchy: with pseudo-labels, if the configuration asks for them."""
    if uses_pseudo_labels(config):
        return _pseudo_labelled(stages, config, True)
    return annotated_scenes(stages, config)


def training_scenes(stages: Stages, config: Config) -> CheckedScenes:
    """For the training: with pseudo-labels, if the network trains on them. If only the hierarchy
    uses them, label maps are the annotated ones and `Scene.context_label_map` has both."""
    if uses_pseudo_labels(config):
        return _pseudo_labelled(stages, config, trains_on_pseudo_labels(config))
    return annotated_scenes(stages, config)


def _pseudo_labelled(stages: Stages, config: Config, train_on_pseudo_labels: bool) -> CheckedScenes:
    scenes, made = annotated_scenes(stages, config), stages.make(PSEUDO_LABELS, config)
    return stages.once(
        f"{made.key} {train_on_pseudo_labels}",
        lambda: with_pseudo_labels(
            scenes, stages.storage, made, train_on_pseudo_labels=train_on_pseudo_labels
        ),
    )


def _build(
    builder: Callable[[Work, CheckedScenes, str], dict[str, Any]],
    scenes: Callable[[Stages, Config], CheckedScenes],
) -> Callable[[Work, str], dict[str, Any]]:
    return lambda work, path: builder(work, scenes(work.stages, work.config), path)


# Inputs of stages.


def _annotated_inputs(config: Config) -> list[Input]:
    return [Input(role="scenes", stage=SCENES, config=data_alone(config), key_from=checked_key)]


def _context_inputs(config: Config) -> list[Input]:
    if uses_pseudo_labels(config):
        return [Input(role="scenes", stage=PSEUDO_LABELS, config=config)]
    return _annotated_inputs(config)


def _training_inputs(config: Config) -> list[Input]:
    if uses_pseudo_labels(config) and not trains_on_pseudo_labels(config):
        # The key says that it trains only on what people annotated.
        return [Input(role="scenes", stage=PSEUDO_LABELS, config=config, key_suffix="-annotated")]
    return _context_inputs(config)


def _hierarchy(config: Config) -> list[Input]:
    if not has_hierarchy(config):
        return []
    return [Input(role="hierarchy", stage=HIERARCHY, config=config, key_from=digest_of)]


def _histogram_inputs(config: Config, samples: Config) -> list[Input]:
    inputs = [Input(role="samples", stage=SAMPLES, config=samples)]
    if uses_pseudo_labels(config):
        inputs.append(Input(role="pseudo_labels", stage=PSEUDO_LABELS, config=config))
    return inputs


def _hierarchy_inputs(config: Config) -> list[Input]:
    settings = config.hierarchy
    if settings.kind == "file":
        return _context_inputs(config)
    if settings.kind == "random":
        like = settings.model_copy(update={"kind": settings.like})
        source = config.model_copy(update={"hierarchy": like})
        return [Input(role="like", stage=HIERARCHY, config=source)]
    if settings.kind == "label_clusters":
        return [
            Input(role="samples", stage=SAMPLES, config=config, in_key=False),
            Input(role="histograms", stage=HISTOGRAMS, config=config),
        ]
    inputs = [Input(role="samples", stage=SAMPLES, config=config)]
    if settings.kind in IMAGE_KINDS:
        inputs.append(Input(role="descriptors", stage=DESCRIPTORS, config=config))
    return inputs


def _sample_index_inputs(config: Config) -> list[Input]:
    """Samples to train on, with what the hierarchy assigns subclasses by beside label maps."""
    on_both = trains_on_pseudo_labels(config)
    only_context = uses_pseudo_labels(config) and not on_both
    rows = Input(role="rows", stage=SAMPLES, config=config if on_both else annotated(config))
    if has_hierarchy(config) and config.hierarchy.kind == "label_clusters":
        stage = ANNOTATED_HISTOGRAMS if only_context else HISTOGRAMS
        rows = Input(role="rows", stage=stage, config=config)
    inputs = [rows, *_hierarchy(config)]
    if only_context and config.hierarchy.kind in ("random", "file"):
        # Regions are found, and windows counted, in label maps with pseudo-labels.
        inputs.append(Input(role="pseudo_labels", stage=PSEUDO_LABELS, config=config))
    return inputs


def _model_inputs(config: Config) -> list[Input]:
    inputs = [*_training_inputs(config), *_hierarchy(config)]
    if config.network.patches:
        inputs.append(Input(role="sample_index", stage=SAMPLE_INDEX, config=config))
    coarser = coarser_of(config)
    if coarser is not None:
        inputs.append(Input(role="start", stage=MODEL, config=coarser))
    return inputs


def _pseudo_label_inputs(config: Config) -> list[Input]:
    baseline = baseline_of(config)
    # Its scores on held-out images are not used here.
    train = baseline.train.model_copy(update={"validate_every": None})
    baseline = baseline.model_copy(update={"train": train})
    model = Input(role="model", stage=MODEL, config=baseline, other_run=True)
    return [*_annotated_inputs(config), model]


# The stages.

SCENES = Stage(name="scenes", sources=dataset_digest, build=build_scenes, stale=changed_scenes)

PSEUDO_LABELS = Stage(
    name="pseudo_labels",
    settings=pseudo_label_settings,
    inputs=_pseudo_label_inputs,
    build=_build(build_pseudo_labels, annotated_scenes),
)

SAMPLES = Stage(
    name="samples",
    settings=lambda config: config.context.model_dump(mode="json"),
    inputs=_context_inputs,
    build=_build(build_samples, context_scenes),
)

HISTOGRAMS = Stage(
    name="histograms",
    settings=region_setting,
    inputs=lambda config: _histogram_inputs(config, config),
    build=_build(build_histograms, context_scenes),
)

ANNOTATED_HISTOGRAMS = Stage(
    # Around samples of annotated pixels, counted over annotations and pseudo-labels.
    name="histograms",
    settings=region_setting,
    inputs=lambda config: _histogram_inputs(config, annotated(config)),
    build=_build(build_histograms, context_scenes),
)

DESCRIPTORS = Stage(
    name="descriptors",
    settings=descriptor_settings,
    sources=descriptor_weights,
    inputs=_context_inputs,
    build=_build(build_descriptors, context_scenes),
)

HIERARCHY = Stage(
    name="hierarchy",
    settings=hierarchy_settings,
    sources=file_sources,
    inputs=_hierarchy_inputs,
    build=_build(build_hierarchy, context_scenes),
)

SAMPLE_INDEX = Stage(
    name="sample_index",
    settings=order_seed,
    inputs=_sample_index_inputs,
    build=_build(build_sample_index, training_scenes),
)

MODEL = Stage(
    name="model",
    version=3,
    settings=training_settings,
    sources=network_weights,
    inputs=_model_inputs,
    build=_build(build_model, training_scenes),
    stale=diverged,
)

EVALUATION = Stage(
    name="evaluation",
    settings=evaluation_settings,
    inputs=lambda config: [
        *_annotated_inputs(config),
        Input(role="model", stage=MODEL, config=config),
    ],
    build=_build(build_evaluation, annotated_scenes),
)
