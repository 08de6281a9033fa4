"""The graph: what each stage depends on and takes, what a plan says, how a stage is added."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhs import run
from lhs.config import Config
from lhs.engine import graph
from lhs.engine.cache import Stages
from lhs.engine.graph import (
    ANNOTATED_HISTOGRAMS,
    DESCRIPTORS,
    EVALUATION,
    HIERARCHY,
    HISTOGRAMS,
    MODEL,
    PSEUDO_LABELS,
    SAMPLE_INDEX,
    SAMPLES,
    SCENES,
    annotated_scenes,
    data_alone,
    uses_pseudo_labels,
)
from lhs.engine.pipeline import Outcome, plan
from lhs.engine.stage import Input, Key, Stage, StageResult, Work
from lhs.engine.stages.training import baseline_of, coarser_of, training_settings
from lhs.engine.storage import Storage
from lhs.loading import build_config
from tests.engine.conftest import NAME, declared, pretend, tiny

LETTERS = {
    PSEUDO_LABELS: "P", SAMPLES: "S", HISTOGRAMS: "H", ANNOTATED_HISTOGRAMS: "A",
    DESCRIPTORS: "D", HIERARCHY: "h", SAMPLE_INDEX: "I", MODEL: "M", EVALUATION: "E",
}  # fmt: skip
"""Of the stages in the table below; `s`: samples of annotated pixels beside pseudo-labels."""
ALL = "PSHhsAIME"
BASELINE = "PSHhAIME"
"""All that depends on the baseline: everything but the samples of annotated pixels."""

LITE = {
    "hierarchy": {"backend": "sklearn"},
    "network": {"name": "lite", "weights": "none"},
    "train": {"strategy": "hierarchical", "gpu": False},
}
PATCHES = {
    "hierarchy": {"backend": "sklearn"},
    "network": {"name": "squeezenet", "weights": "none"},
    "train": {"strategy": "sequential", "gpu": False},
    "unlabelled": {"mode": "pseudo_labels", "train_on_pseudo_labels": False},
}

TABLE: list[tuple[str, Any, str, str]] = [
    # Setting, another value, and whose keys change with it: H with lite on label clusters, and S
    # with a patch network, where only the hierarchy uses pseudo-labels.
    ("description", "other", "", ""),
    ("storage", "elsewhere", "", ""),
    # What the dataset's files hold is in the key of the scenes, which stands still here.
    ("data.root", "elsewhere", "", ""),
    ("data.dataset", "siftflow", "", ""),
    ("data.on_bad_image", "skip", "", ""),
    ("data.allow_empty_classes", True, "", ""),
    ("data.max_train", 7, "", ""),
    ("data.max_test", 7, "", ""),
    ("data.held_out", 2, "", ""),
    ("data.long_side", 64, "", ""),
    ("data.seed", 1, "", ""),
    ("data.stanford.fold", 2, "", ""),
    ("data.stanford.split", "random", "", ""),
    ("data.folder.path", "elsewhere", "", ""),
    ("data.folder.void", 0, "", ""),
    ("data.folder.ids_from", 1, "", ""),
    ("data.folder.scenes", "prefix", "", ""),
    ("data.folder.labels_follow_exif", True, "", ""),
    ("data.folder.range", [0.0, 4095.0], "", ""),
    ("data.synthetic.train", 7, "", ""),
    ("data.synthetic.test", 7, "", ""),
    ("data.synthetic.height", 96, "", ""),
    ("data.synthetic.width", 96, "", ""),
    ("data.synthetic.unlabelled", 0.2, "", ""),
    ("data.synthetic.seed", 1, "", ""),
    ("unlabelled.below", 0.5, "", BASELINE),
    ("unlabelled.stride", 2, "", BASELINE),
    ("unlabelled.train_on_pseudo_labels", True, "", "IME"),
    ("context.superpixel_size", 200, "SHhME", ALL),
    ("context.variants", 2, "SHhME", ALL),
    ("context.seed", 1, "SHhME", ALL),
    ("hierarchy.kind", "scene_names", "hME", "hIME"),
    # Read by random subclasses alone.
    ("hierarchy.like", "scene_names", "", ""),
    ("hierarchy.rho", 0.9, "hME", "hIME"),
    ("hierarchy.region", 33, "HhME", "HhAIME"),
    ("hierarchy.k_scale", 2.0, "hME", "hIME"),
    ("hierarchy.n_star", 40, "hME", "hIME"),
    ("hierarchy.image_clusters", 5, "", ""),
    ("hierarchy.max_fit_samples", 1000, "hME", "hIME"),
    ("hierarchy.seed", 1, "hME", "hIME"),
    ("network.weights", "imagenet", "ME", BASELINE),
    # Also where nothing is read from it, as in stored keys.
    ("network.weights_file", "elsewhere", "ME", BASELINE),
    ("network.head", "pyramid", "ME", ""),
    ("network.channels", 32, "ME", BASELINE),
    ("network.dropout", 0.1, "ME", BASELINE),
    ("train.baseline.new_layers", {"epochs": 3}, "", BASELINE),
    ("train.baseline.all_layers", {"learning_rate": 0.1}, "", BASELINE),
    ("train.sequential.subclass_new_layers", {"epochs": 3}, "", "ME"),
    ("train.sequential.subclass_all_layers", {"steps": 3}, "", "ME"),
    ("train.sequential.class_last_layer", {"learning_rate": 0.1}, "", "ME"),
    ("train.sequential.class_all_layers", {"enabled": False}, "", "ME"),
    ("train.hierarchical.new_layers", {"epochs": 3}, "ME", ""),
    ("train.hierarchical.fixed_w", {"epochs": 3}, "ME", ""),
    ("train.hierarchical.learned_w", {"enabled": False}, "ME", ""),
    # Neither network starts from a coarser one.
    ("train.coarser", {"epochs": 3}, "", ""),
    ("train.max_steps", 9, "ME", BASELINE),
    ("train.batch_size", 4, "ME", BASELINE),
    ("train.micro_batch", 2, "ME", BASELINE),
    # Patch networks train on patches whatever it says.
    ("train.examples", "variants", "ME", ""),
    ("train.sampling", "balanced", "ME", BASELINE),
    ("train.crop_height", 64, "ME", BASELINE),
    ("train.crop_width", 64, "ME", BASELINE),
    ("train.scale_min", 0.9, "ME", ""),
    ("train.scale_max", 1.1, "ME", ""),
    ("train.colour_jitter", 0.1, "ME", BASELINE),
    ("train.class_weights", "inverse_root", "ME", BASELINE),
    ("train.encoder_factor", 0.5, "ME", BASELINE),
    ("train.encoder_statistics", "update", "ME", BASELINE),
    ("train.ema", 0.5, "ME", BASELINE),
    ("train.w_factor", 0.5, "ME", ""),
    ("train.w_weight_decay", 0.5, "ME", ""),
    ("train.flip", 0.0, "ME", BASELINE),
    ("train.alpha", 0.5, "ME", ""),
    ("train.learn_w", "masked", "ME", ""),
    ("train.optimizer", "sgd", "ME", BASELINE),
    ("train.schedule", "steps", "ME", BASELINE),
    ("train.step_size", 10, "ME", BASELINE),
    ("train.momentum", 0.5, "ME", BASELINE),
    ("train.weight_decay", 0.1, "ME", BASELINE),
    ("train.precision", "bfloat16", "ME", BASELINE),
    ("train.compile", True, "ME", BASELINE),
    ("train.workers", 2, "ME", BASELINE),
    ("train.threads", 1, "ME", BASELINE),
    # The order of the patches is drawn from it, the baseline's too.
    ("train.seed", 1, "ME", BASELINE),
    ("train.gpu_share", 0.5, "", ""),
    ("train.accelerator", "H100", "", ""),
    ("train.log_every", 3, "", ""),
    ("train.checkpoint_minutes", 1.0, "", ""),
    ("train.checkpoint_steps", 3, "", ""),
    ("train.restarts", 0, "", ""),
    ("train.cache_mb", 0, "", ""),
    ("evaluation.stride", 4, "", "E"),
    # The baseline labels pixels by it.
    ("evaluation.precision", "bfloat16", "E", BASELINE),
    ("report.baseline", "none", "", ""),
    ("data.cache_gb", 1, "", ""),
    ("report.scenes", 0, "", ""),
    ("tracking.register", True, "", ""),
]
ELSEWHERE = {
    # Other stages come in or go; and what needs a GPU, or another setting beside it.
    "unlabelled.mode", "network.name", "train.strategy", "hierarchy.backend", "train.gpu",
    "train.validate_every", "network.encoder",
    # Refused with a kind other than `file`.
    "hierarchy.file", "hierarchy.subclass_maps",
    # Refused for S, with another strategy's or step's settings.
    "train.subclass_head", "train.subclass_context", "train.optimizer_state",
    "evaluation.class_scores",
}  # fmt: skip


def changed(tree: dict[str, Any], setting: str, value: Any) -> Config:
    *parents, last = setting.split(".")
    whole: dict[str, Any] = json.loads(json.dumps(tree))
    node = whole
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return build_config(whole)


def digests(stages: Stages, config: Config) -> dict[str, str]:
    """The digest of every stage of a run but its scenes, by letter."""
    found = {}
    for stage, its_config, key in stages.needed(EVALUATION, config):
        if stage in LETTERS:
            plain = (
                stage is SAMPLES
                and uses_pseudo_labels(config)
                and not uses_pseudo_labels(its_config)
            )
            found["s" if plain else LETTERS[stage]] = key.digest
    return found


def test_keys_change_with_what_they_depend_on_and_with_nothing_else(
    checked_stages: Stages,
) -> None:
    for tree, column, there in ((LITE, 2, "SHhME"), (PATCHES, 3, ALL)):
        before = digests(checked_stages, build_config(tree))
        assert set(before) == set(there)
        for row in TABLE:
            after = digests(checked_stages, changed(tree, row[0], row[1]))
            moved = {name for name in before if after.get(name, before[name]) != before[name]}
            assert moved == set(row[column]), f"{row[0]} with {tree['network']['name']}"


def test_the_number_of_stages_is_known_before_any_key(checked_stages: Stages) -> None:
    plain = {**PATCHES, "unlabelled": {"mode": "naive"}}
    for tree in (LITE, PATCHES, plain):
        config = build_config(tree)
        listed = list(checked_stages.needed(EVALUATION, config))
        assert checked_stages.count(EVALUATION, config) == len(listed)


def test_the_table_names_every_setting() -> None:
    names = [row[0] for row in TABLE]
    for setting in Config().dotted():
        fitting = [name for name in names if f"{setting}.".startswith(f"{name}.")]
        assert (len(fitting) == 1) != (setting in ELSEWHERE), setting


def test_the_strategy_and_the_network_change_the_training_and_the_pseudo_labels(
    checked_stages: Stages,
) -> None:
    unet = {**LITE, "network": {"name": "smp:unet", "weights": "none"}}
    lite, patches, smp = (
        digests(checked_stages, build_config(tree)) for tree in (LITE, PATCHES, unet)
    )
    for setting, value, tree, before, expected in (
        ("train.strategy", "sequential", LITE, lite, "ME"),
        ("train.strategy", "hierarchical", PATCHES, patches, "ME"),
        ("network.name", "timm:resnet18", LITE, lite, "ME"),
        ("network.name", "smp:unet", LITE, lite, "ME"),
        ("network.encoder", "resnet18", unet, smp, "ME"),
        ("network.encoder", "tf_efficientnet_lite0", unet, smp, ""),
        ("network.name", "overfeat", PATCHES, patches, BASELINE),
        ("unlabelled.mode", "pseudo_labels", LITE, lite, "SHhME"),
        ("unlabelled.mode", "naive", PATCHES, patches, "SHhIME"),
    ):
        after = digests(checked_stages, changed(tree, setting, value))
        assert {k for k in before if after.get(k, before[k]) != before[k]} == set(expected)
    assert set(digests(checked_stages, changed(LITE, "train.strategy", "baseline"))) == set("ME")


def test_variants_are_in_the_key_of_a_network_that_trains_on_them(checked_stages: Stages) -> None:
    """Of a baseline, whose key has no samples and no hierarchy that would say so."""
    crops, variants = (
        {**LITE, "train": {"strategy": "baseline", "gpu": False, "examples": examples}}
        for examples in ("crops", "variants")
    )
    for tree, moved in ((crops, ""), (variants, "ME")):
        before = digests(checked_stages, build_config(tree))
        for setting, value in (("context.variants", 2), ("context.seed", 1)):
            after = digests(checked_stages, changed(tree, setting, value))
            assert {k for k in before if after[k] != before[k]} == set(moved), setting


def test_variants_of_h_move_what_they_change(checked_stages: Stages) -> None:
    lite = digests(checked_stages, build_config(LITE))
    for setting, value, usual, expected in (
        ("train.subclass_context", "crop", "image", "ME"),
        ("train.optimizer_state", "kept", "per_step", "ME"),
        ("evaluation.class_scores", "best_subclass", "w", "E"),
    ):
        after = digests(checked_stages, changed(LITE, setting, value))
        assert {k for k in lite if after[k] != lite[k]} == set(expected), setting
        assert digests(checked_stages, changed(LITE, setting, usual)) == lite
        # Not known to the baseline, nor in the keys of earlier versions.
        baseline = baseline_of(changed(LITE, setting, value))
        assert digests(checked_stages, baseline) == digests(
            checked_stages, baseline_of(build_config(LITE))
        )
        build_config(baseline.model_dump(mode="json"))
        name = setting.rpartition(".")[2]
        assert name not in checked_stages.key(EVALUATION, build_config(LITE)).settings
        assert name not in training_settings(build_config(LITE))
    short = changed(LITE, "train.hierarchical.learned_w.enabled", False).model_dump(mode="json")
    heads = [changed(short, "train.subclass_head", head) for head in ("joint", "auxiliary")]
    before, after = (digests(checked_stages, config) for config in heads)
    assert {k for k in before if after[k] != before[k]} == set("ME")
    # Pseudo-labels are the baseline's, which has no subclasses.
    labelled = changed(LITE, "unlabelled.mode", "pseudo_labels").model_dump(mode="json")
    other = changed(labelled, "evaluation.class_scores", "best_subclass")
    before, after = digests(checked_stages, build_config(labelled)), digests(checked_stages, other)
    assert {k for k in before if after[k] != before[k]} == set("E")


def test_the_scenes_key_is_the_dataset_s(tmp_path: Path) -> None:
    stages = Stages(Storage(str(tmp_path)))

    def key(**changes: object) -> str:
        return stages.key(SCENES, data_alone(tiny(tmp_path, **changes))).digest

    same: list[dict[str, object]] = [
        {"train__seed": 5}, {"data__on_bad_image": "skip"}, {"data__folder": {"path": "x"}},
    ]  # fmt: skip
    for change in same:
        assert key(**change) == key()
    for number in ({"train": 23}, {"height": 96}, {"seed": 4}, {"unlabelled": 0.5}):
        whole = {"train": 24, "test": 8, "height": 64, "width": 80} | number
        assert key(data__synthetic=whole) != key()


def test_hierarchies_that_say_the_same_train_one_network(checked_stages: Stages) -> None:
    """What is known only of the made one: until then each has a training of its own."""
    stages = checked_stages
    configs = [changed(LITE, "hierarchy.k_scale", scale) for scale in (1.0, 1.1, 1.2)]
    keys = [stages.key(MODEL, config) for config in configs]
    assert [key.pending for key in keys] == [("hierarchy",)] * 3
    assert len({key.digest for key in keys}) == 3
    for config, digest in zip(configs, ("same", "same", "other"), strict=True):
        pretend(stages, HIERARCHY, config, digest=digest)
    keys = [stages.key(MODEL, config) for config in configs]
    assert [key.pending for key in keys] == [()] * 3
    assert keys[0].inputs["hierarchy"] == "same"
    assert keys[0].digest == keys[1].digest != keys[2].digest


def test_pseudo_labels_come_from_the_baseline_of_the_report(checked_stages: Stages) -> None:
    config = build_config(PATCHES)
    [labeller] = [one for one in PSEUDO_LABELS.inputs(config) if one.role == "model"]
    assert labeller.other_run
    baseline = checked_stages.key(MODEL, baseline_of(config))
    assert checked_stages.key(PSEUDO_LABELS, config).inputs["model"] == baseline.digest
    names = [stage.name for stage, _, _ in checked_stages.needed(PSEUDO_LABELS, config)]
    assert names == ["scenes", "pseudo_labels"]
    needed = checked_stages.needed(PSEUDO_LABELS, config, other_runs=True)
    names = [stage.name for stage, _, _ in needed]
    assert names == ["scenes", "samples", "sample_index", "model", "pseudo_labels"]


def test_every_fcn_of_an_experiment_starts_from_one_coarser_network(
    checked_stages: Stages,
) -> None:
    tree = json.loads(json.dumps(LITE))
    tree["network"]["name"] = "fcn16s"
    tree["train"]["coarser"] = {"epochs": 2}
    starts = set()
    for strategy, mode in (("hierarchical", "naive"), ("sequential", "pseudo_labels")):
        config = changed(changed_tree(tree, "train.strategy", strategy), "unlabelled.mode", mode)
        for one in (config, baseline_of(config)):
            starts.add(checked_stages.key(MODEL, one).inputs["start"])
    coarser = coarser_of(build_config(tree))
    assert coarser is not None
    assert starts == {checked_stages.key(MODEL, coarser).digest}
    longer = changed(tree, "train.coarser", {"epochs": 3})
    assert checked_stages.key(MODEL, longer).inputs["start"] not in starts


def changed_tree(tree: dict[str, Any], setting: str, value: Any) -> dict[str, Any]:
    return changed(tree, setting, value).model_dump(mode="json")


# What builders see.

FACTS: dict[str, dict[str, Any]] = {
    "scenes": {"problems": {}, "class_pixels": [9] * 8, "void_images": []},
    "samples": {"samples": 3, "class_counts": [3] * 8},
    "hierarchy": {"digest": "d"},
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train__strategy": "baseline"},
        {"network": {"name": "squeezenet", "weights": "none"}, "train__strategy": "baseline"},
        *(
            {
                "network": {"name": network, "weights": "none"},
                "hierarchy__kind": kind,
                "unlabelled": {"mode": "pseudo_labels", "train_on_pseudo_labels": trains},
            }
            for network in ("lite", "squeezenet")
            for kind in ("label_clusters", "scene_names", "image_clusters", "classes", "random")
            for trains in (True, False)
        ),
    ],
    ids=str,
)
def test_builders_see_what_their_stage_declares_and_no_more(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages of a run, with builders that open their scenes and write nothing."""
    config = tiny(tmp_path, train__gpu=False, hierarchy__backend="sklearn", **changes)
    built: list[str] = []

    def build(self: Stages, stage: Stage, key: Key, work: Work) -> StageResult:
        assert work.key not in built
        assert set(work.inputs) == {taken.role for taken in stage.inputs(work.config)}
        assert {taken.key for taken in work.inputs.values()} <= set(built)
        scenes = inspect.getclosurevars(stage.build).nonlocals.get("scenes")
        if scenes is not None:
            opened = scenes(work.stages, work.config)
            read = key.inputs.get("scenes")
            # The last part of a result's path is its key.
            found = opened if isinstance(opened, str) else Path(opened.path).name
            assert stage is EVALUATION or read in (None, found)
        built.append(work.key)
        facts = FACTS.get(stage.name, {})
        path = pretend(self, stage, work.config, **facts)
        return StageResult(stage.name, key.digest, str(path), facts, 1.0, reused=False)

    monkeypatch.setattr(Stages, "_build", build)
    # Instead of scenes with pseudo-labels, their key.
    monkeypatch.setattr(
        graph, "with_pseudo_labels", lambda scenes, storage, made, train_on_pseudo_labels: (
            made.key + ("" if train_on_pseudo_labels else "-annotated")
        ),
    )  # fmt: skip
    stages = Stages(Storage(str(tmp_path)))
    stages.make(EVALUATION, config)
    expected = [key.digest for _, _, key in stages.needed(EVALUATION, config)]
    assert [result.key for result in stages.done] == expected


def test_a_builder_that_takes_more_than_it_declares_is_stopped(tmp_path: Path) -> None:
    stages = Stages(Storage(str(tmp_path)))
    other = declared(lambda path: {}, name="other")

    def build(work: Work, path: str) -> dict[str, Any]:
        return {"key": work.stages.make(other, work.config).key}

    secret = Stage(name="secret", build=build)
    # Though it is there: its key would not follow it.
    made = stages.make(other, Config())
    with pytest.raises(AssertionError, match="secret takes other, which it does not declare"):
        stages.make(secret, Config())
    declaring = Stage(
        name="declaring",
        inputs=lambda config: [Input(role="other", stage=other, config=config)],
        build=build,
    )
    assert stages.make(declaring, Config()).facts == {"key": made.key}


# A stage is added.


def build_brightness(work: Work, path: str) -> dict[str, Any]:
    """The mean of all training images' pixels, above a threshold."""
    scenes = annotated_scenes(work.stages, work.config)
    pixels = np.concatenate([scene.image().ravel() for scene in scenes.split("train")])
    work.storage.write_json(f"{path}/bright.json", (pixels > work.config.context.seed).tolist())
    return {"mean": float(pixels.mean())}


BRIGHTNESS = Stage(
    name="brightness",
    settings=lambda config: {"above": config.context.seed},
    inputs=lambda config: [
        Input(role="scenes", stage=SCENES, config=data_alone(config), key_from=graph.checked_key)
    ],
    build=build_brightness,
)


def test_a_stage_is_a_builder_and_a_declaration(tmp_path: Path) -> None:
    """Found, made, reused, planned and listed like the others, which know nothing of it."""
    config = tiny(tmp_path, data__synthetic={"train": 3, "test": 1, "height": 32, "width": 32})
    stages = Stages(Storage(str(tmp_path)))
    assert stages.key(BRIGHTNESS, config).pending == ("scenes",)
    pretend(stages, SCENES, data_alone(config), problems={}, class_pixels=[9] * 8, void_images=[])
    assert stages.find(BRIGHTNESS, config) is None
    made = stages.make(BRIGHTNESS, config)
    images = [scene.image() for scene in annotated_scenes(stages, config).split("train")]
    assert made.facts["mean"] == pytest.approx(np.mean(images))
    assert stages.storage.list(made.path) == ["_SUCCESS.json", "bright.json"]
    again = Stages(stages.storage)
    assert again.make(BRIGHTNESS, config).reused
    assert [row["stage"] for row in again.table()] == ["scenes", "brightness"]
    assert [s.name for s, _, _ in again.needed(BRIGHTNESS, config)] == ["scenes", "brightness"]
    other = config.model_copy(update={"context": config.context.model_copy(update={"seed": 1})})
    assert again.find(BRIGHTNESS, other) is None
    assert again.find(BRIGHTNESS, baseline_of(config)) is not None


# What a run would make.


def planned(config: Config) -> dict[str, list[str]]:
    """What is said of each stage under each run's title, without keys."""
    said: dict[str, list[str]] = {}
    for line in plan(config, "mine"):
        if not line.startswith(" "):
            said[line] = []
        else:
            said[list(said)[-1]].append(" ".join(line.split()))
    return said


def test_a_plan_says_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    config = tiny(
        tmp_path, train__gpu=False, hierarchy__backend="sklearn", report__baseline="reuse"
    )
    stages = Stages(Storage(str(tmp_path)))
    title = "mine: hierarchical on synthetic"
    unknown = "known once the scenes are made"
    assert planned(config) == {
        title: [
            f"scenes {stages.key(SCENES, data_alone(config)).digest[:12]} to be made",
            f"samples {unknown}", f"histograms {unknown}", f"hierarchy {unknown}",
            "model known once the scenes and the hierarchy are made",
            "evaluation known once the scenes and the hierarchy are made",
        ]
    }  # fmt: skip
    assert not (tmp_path / "stages").exists(), "nothing is made"
    pretend(stages, SCENES, data_alone(config), problems={}, class_pixels=[9] * 8)
    pretend(stages, SAMPLES, config)
    keys = {s.name: k.digest[:12] for s, _, k in stages.needed(EVALUATION, config)}
    once = "known once the hierarchy is made"
    assert planned(config)[title] == [
        f"scenes {keys['scenes']} is there (made in 1.0 s)",
        f"samples {keys['samples']} is there (made in 1.0 s)",
        f"histograms {keys['histograms']} to be made",
        f"hierarchy {keys['hierarchy']} to be made",
        f"model {once}", f"evaluation {once}",
    ]  # fmt: skip
    pretend(stages, HIERARCHY, config, digest="d")
    keys = {s.name: k.digest[:12] for s, _, k in stages.needed(EVALUATION, config)}
    assert planned(config)[title][-2:] == [
        f"model {keys['model']} to be made", f"evaluation {keys['evaluation']} to be made",
    ]  # fmt: skip


def test_a_plan_shows_both_baselines(tmp_path: Path) -> None:
    config = tiny(tmp_path, train__gpu=False, hierarchy__backend="sklearn")
    stages = Stages(Storage(str(tmp_path)))
    pretend(stages, SCENES, data_alone(config), problems={}, class_pixels=[9] * 8)
    first, second = planned(config).items()
    assert first[0] == "mine-baseline: baseline on synthetic"
    assert [line.split()[0] for line in first[1]] == ["scenes", "model", "evaluation"]
    assert second[0] == "mine: hierarchical on synthetic"
    assert second[1][0].endswith("as above")
    assert [line.split()[0] for line in second[1]] == [
        "scenes", "samples", "histograms", "hierarchy", "model", "evaluation",
    ]  # fmt: skip
    labelled = tiny(
        tmp_path, train__gpu=False, hierarchy__backend="sklearn", report__baseline="none",
        unlabelled={"mode": "pseudo_labels"},
    )  # fmt: skip
    [lines] = planned(labelled).values()
    assert [line.split()[0] for line in lines] == [
        "scenes", "model", "pseudo_labels", "samples", "histograms", "hierarchy", "model",
        "evaluation",
    ]  # fmt: skip
    assert lines[1].endswith("to be made")


@pytest.mark.ray
def test_the_command_plans_what_was_run(
    finished: list[Outcome], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / f"{NAME}.yaml"
    recipe.write_text(tiny(folder).yaml())
    before = sorted(path for path in folder.rglob("*") if "mlflow" not in path.name)
    assert run.main(["run", str(recipe), "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        f"{NAME}-baseline: baseline on synthetic", f"{NAME}: hierarchical on synthetic",
    ]  # fmt: skip
    said = {line.split()[1]: line for line in lines if line.startswith(" ")}
    for outcome in finished:
        for result in outcome.stages.done:
            line = said[result.key[:12]]
            assert result.name in line
            assert "is there" in line or "as above" in line
    assert "to be made" not in "".join(lines)
    assert sorted(path for path in folder.rglob("*") if "mlflow" not in path.name) == before
