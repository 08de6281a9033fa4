"""Settings without an effect are refused where they are given one by one, and nowhere else."""

import pytest

from lhs import run
from lhs.config import PATCH_NETWORKS, WEIGHTS, Config, dotted_names
from lhs.config.unused import unused
from lhs.errors import UserError
from lhs.loading import load_config, recipes, refuse_unused

BASELINE = "train.strategy=baseline"
S = "train.strategy=sequential"
ALONE = "report.baseline=none"


def given(*settings: str, recipe: str = "demo") -> None:
    refuse_unused(settings, [load_config(recipe, settings)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.alpha=2", S), "train.alpha: it has no effect with train.strategy = sequential"),
        (("train.learn_w=masked", BASELINE), "train.learn_w: .*strategy = baseline"),
        (
            (
                "train.w_factor=2",
                "train.subclass_head=auxiliary",
                "train.hierarchical.learned_w.enabled=false",
            ),
            "train.w_factor: .*subclass_head = auxiliary",
        ),
        (
            ("train.w_factor=2", "train.hierarchical.learned_w.epochs=0"),
            "train.w_factor: .*learned_w off",
        ),
        (("train.sequential.class_all_layers.epochs=3",), "strategy = hierarchical"),
        (("train.hierarchical={fixed_w: {epochs: 3}}", BASELINE), r"fixed_w\.epochs: .*baseline"),
        (("train.baseline.all_layers.epochs=3", ALONE), "baseline.* and report.baseline = none"),
        (
            ("network.name=squeezenet", "train.crop_height=64"),
            "crop_height: .*network.name = squeezenet, which trains on patches",
        ),
        (
            ("network.name=fcn16s", "network.weights=edges", "train.flip=0"),
            "train.flip: .*fcn16s, which trains on variants",
        ),
        (("train.examples=variants", "train.scale_min=1"), "train.examples = variants, which"),
        (("train.scale_jitter=0.1", "train.examples=variants"), "train.scale_max"),
        (("network.name=squeezenet", "train.examples=crops"), "train.examples: .*patches"),
        (("train.sampling=all",), "train.sampling: .*lite, which takes whole images"),
        (("evaluation.stride=8",), "evaluation.stride: .*lite"),
        (("train.coarser.epochs=2",), r"train\.coarser\.epochs: .*lite"),
        (("network.name=smp:unet", "network.channels=32"), "network.channels: .*smp:unet"),
        (
            ("network.name=squeezenet", "network.head=pyramid"),
            "network.head: .*network.name = squeezenet",
        ),
        (("network.weights_file=mine.pt",), "weights_file: .*network.weights = imagenet"),
        (("network.weights=none", "train.encoder_factor=0.1"), "network.weights = none"),
        (("train.momentum=0.8",), "train.momentum: .*train.optimizer = adamw"),
        (("train.step_size=10",), "train.step_size: .*train.schedule = one_cycle"),
        (("train.gpu=false", "train.gpu_share=0.5"), "train.gpu_share: .*train.gpu = false"),
    ],
)
def test_a_setting_that_nothing_uses_is_refused(settings, message):
    with pytest.raises(UserError, match=f"--set .*{message}"):
        given(*settings)


@pytest.mark.parametrize(
    "settings",
    [
        ("train.baseline.all_layers.epochs=3",),
        ("train.alpha=2", "train.w_factor=2", "train.hierarchical.fixed_w.epochs=2"),
        ("network.name=squeezenet", "train.sampling=balanced", "evaluation.stride=8"),
        ("network.name=timm:resnet50", "network.channels=32", "network.head=pyramid"),
        ("train.optimizer=sgd", "train.momentum=0.8", "train.schedule=steps", "train.step_size=9"),
        ("network.weights=file", "network.weights_file=mine.pt", "train.encoder_factor=0.1"),
        ("network.name=fcn8s", "train.examples=crops", "train.crop_height=64"),
        # For `lhs hierarchy`, whatever is trained.
        (BASELINE, "hierarchy.rho=0.9"),
    ],
)
def test_one_that_is_used_is_not(settings):
    given(*settings)


@pytest.mark.thorough
@pytest.mark.parametrize("name", WEIGHTS)
def test_what_recipes_hold_for_other_networks_is_left_alone(name):
    name = name.replace("NAME", "resnet50")
    weights = "none" if name in PATCH_NETWORKS else "imagenet"
    given(f"network.name={name}", f"network.weights={weights}")
    for recipe in recipes():
        given(recipe=recipe)


def test_of_a_sweep_one_trial_that_uses_it_is_enough():
    trials = [load_config("demo", [setting]) for setting in (BASELINE, S)]
    refuse_unused(["train.sequential.class_all_layers.epochs=3"], trials)
    with pytest.raises(UserError, match=r"train\.alpha"):
        refuse_unused(["train.alpha=2"], trials)


def test_names_are_those_of_settings():
    known = dotted_names(Config().model_dump())
    for settings in ([], ["network.name=squeezenet", "network.weights=none", "train.gpu=false"]):
        for name in unused(load_config("demo", settings)):
            assert any(f"{key}.".startswith(f"{name}.") for key in known), name


def test_the_command_says_so(capsys):
    command = ["run", "demo", "--set", "train.alpha=2", "--set", "train.strategy=baseline"]
    assert run.main([*command, "--print-config"]) == 2
    assert "lhs: --set train.alpha: it has no effect" in capsys.readouterr().err
