"""The configuration: every bad input is one clear message, every good one comes back the same."""

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs import loading
from lhs.config import Config
from lhs.errors import UserError
from lhs.loading import RENAMED, build_config, load_config, recipes, stored_config


@pytest.fixture(autouse=True)
def no_warning_given_yet():
    loading._warn.cache_clear()


def refused(*settings_: str, recipe: str = "demo") -> str:
    with pytest.raises(UserError) as caught:
        load_config(recipe, settings_)
    return str(caught.value)


@pytest.fixture
def recipe(tmp_path):
    def write(content: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


# Recipes


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_packaged_recipe_loads_and_describes_itself(name):
    config = load_config(name)
    assert len(config.description) > 10
    assert "\n" not in config.description
    header = recipes()[name].read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith(f"# lhs run {name}"), "a recipe's header says its command"


def test_the_default_recipe_is_the_demo_and_needs_no_data():
    assert load_config() == load_config("demo")
    assert load_config().data.dataset == "synthetic"


def test_an_unknown_recipe_names_near_ones_and_all_that_are_allowed():
    message = refused(recipe="stanford-lite-basline")
    assert "'stanford-lite-basline'" in message
    assert "did you mean stanford-lite-baseline" in message
    for name in recipes():
        assert name in message


def test_a_recipe_is_put_over_the_one_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("hierarchy: {rho: 0.9, region: 65}\ntrain: {seed: 3}")
    path = tmp_path / "mine.yaml"
    path.write_text("extends: base.yaml\nhierarchy: {rho: 0.95}")
    config = load_config(str(path), ["train.seed=4"])
    assert (config.hierarchy.rho, config.hierarchy.region, config.train.seed) == (0.95, 65, 4)
    path.write_text("extends: stanford-lite-baseline\ntrain: {strategy: sequential}")
    expected = load_config("stanford-lite-s-lc")
    assert load_config(str(path)).train == expected.train
    assert load_config(str(path)).hierarchy == expected.hierarchy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: 3", "extends = 3, allowed is the name or path of one recipe"),
        ("extends: [demo, demo]", "allowed is the name or path of one recipe"),
        ("extends: dmeo", "unknown recipe 'dmeo': did you mean demo?"),
        ("extends: stanford-lite-s-lc", "extends 'stanford-lite-baseline' itself"),
    ],
)
def test_what_a_recipe_can_not_extend_is_reported(recipe, text, expected):
    path = recipe(text)
    message = refused(recipe=path)
    assert expected in message
    assert path in message


def test_a_recipe_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: mine.yaml")
    assert "allowed is one level" in refused(recipe=str(path))


def test_a_key_given_twice_in_a_recipe_names_both_lines(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("hierarchy:\n  rho: 0.9\n  region: 65\n  rho: 0.95\n")
    with pytest.raises(UserError, match=r"mine\.yaml: .*lines 2 and 4: 'rho' is given twice"):
        load_config(str(path))


@pytest.mark.parametrize("name", ["", "no such thing", "/nowhere/recipe.yaml", "~/nowhere.yaml"])
def test_a_recipe_that_is_nowhere_is_refused(name):
    assert f"unknown recipe {name!r}" in refused(recipe=name)


@pytest.mark.parametrize("name", ["x" * 5000, "~nouser/recipe.yaml", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name):
    message = refused(recipe=name)
    assert "unknown recipe" in message
    assert "x" * 300 not in message


def test_a_folder_is_no_recipe(tmp_path):
    message = refused(recipe=str(tmp_path))
    assert f"recipe {tmp_path}: found a folder, needed is a YAML file" in message


@pytest.mark.parametrize(
    "content",
    [
        "hierarchy: {rho: 0.9",
        "hierarchy:\n\t- rho",
        "a: b: c",
        "? [1]\n: 2",
        "!!python/object/apply:os.getcwd []",
        b"\xff\xfe\x00",
    ],
)
def test_garbage_is_not_readable_as_yaml(recipe, content):
    path = recipe(content)
    message = refused(recipe=path)
    assert path in message
    assert "not readable as YAML" in message


@pytest.mark.parametrize(
    ("content", "found"), [("- a\n- b", "list"), ("text", "str"), ("3", "int")]
)
def test_a_recipe_that_is_no_mapping_is_refused(recipe, content, found):
    path = recipe(content)
    message = refused(recipe=path)
    assert path in message
    assert f"found {found}" in message
    assert "mapping" in message


def test_a_dotted_key_in_a_recipe_says_how_to_write_it(recipe):
    message = refused(recipe=recipe("train.batch_size: 4"))
    assert (
        "unknown key 'train.batch_size': allowed in a recipe is train: {batch_size: ...}" in message
    )


@pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n"])
def test_an_empty_recipe_is_the_defaults(recipe, content):
    assert load_config(recipe(content)) == Config()


def test_keys_that_are_no_text_are_refused(recipe):
    assert "should be strings" in refused(recipe=recipe("1: 2"))


def test_all_mistakes_are_told_at_once(recipe):
    message = refused(recipe=recipe("hierarchy: {rho: 2, region: 8}\ndata: {fold: 3}"))
    for part in ("hierarchy.rho = 2", "hierarchy.region = 8", "data.fold"):
        assert part in message


def test_one_section_never_stands_for_two(recipe):
    # With an alias, --set of one would change the other.
    text = """
train:
  baseline: {new_layers: &phase {epochs: 1}, all_layers: *phase}
"""
    assert "anchors" in refused("train.baseline.new_layers.epochs=7", recipe=recipe(text))


def test_thousands_of_mistakes_are_one_short_message(recipe):
    text = "".join(f"key{n}: {'x' * 20}\n" for n in range(3000))
    message = refused(recipe=recipe(text))
    assert "unknown key 'key0'" in message
    assert "and 2980 more" in message
    assert len(message) < 100_000


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text", ["9" * 3000, "0x" + "f" * 100, "[" + "x, " * 5000 + "]", "'" + "x" * 50_000 + "'"]
)
def test_a_long_value_is_shown_by_its_start(recipe, text):
    for message in (
        refused(recipe=recipe(f"hierarchy: {{rho: {text}}}")),
        refused(f"hierarchy.rho={text}"),
    ):
        assert len(message) < 1000


def test_a_file_of_any_size_is_refused(recipe):
    assert "characters; allowed are" in refused(recipe=recipe(b"#" * 10**6))


def test_nul_is_no_part_of_a_value(recipe):
    assert "storage" in refused(r'storage="a\0b"')


def test_pseudo_labels_need_a_strategy_that_uses_them():
    message = refused("unlabelled.mode=pseudo_labels", recipe="barcelona-overfeat-baseline")
    assert "unlabelled.mode = 'pseudo_labels' needs train.strategy sequential or" in message
    config = load_config("barcelona-overfeat-s-lc", ["unlabelled.train_on_pseudo_labels=false"])
    assert config.unlabelled.train_on_pseudo_labels is False
    assert "unlabelled.below" in refused("unlabelled.below=0")


# Keys


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("hierarchy.rhoo=0.9", "hierarchy.rho"),
        ("train.batchsize=4", "train.batch_size"),
        ("train.baseline.all_layer.epochs=4", "train.baseline.all_layers.epochs"),
        ("hierachy.rho=0.9", "hierarchy.rho"),
    ],
)
def test_an_unknown_key_names_near_ones(setting, near):
    message = refused(setting)
    assert "unknown key" in message
    assert near in message


@pytest.mark.parametrize(
    "key", ["nonsense", "a.b.c", "a..b", "hierarchy.", ".hierarchy", "...", "a." * 5000]
)
def test_a_key_far_from_all_is_refused_too(key):
    assert "unknown key" in refused(f"{key}=1")


@pytest.mark.parametrize("setting", ["hierarchy.rho", "", "=0.9", " =0.9", "0.9"])
def test_a_setting_without_key_and_equals_is_refused(setting):
    message = refused(setting)
    assert f"--set {setting}" in message
    assert "key=value" in message


def test_a_setting_that_is_no_yaml_is_refused():
    assert "--set hierarchy.rho=[" in refused("hierarchy.rho=[")


@pytest.mark.parametrize("value", ["3", "text", "[1, 2]", "", "null"])
@pytest.mark.parametrize("section", ["hierarchy", "train.baseline", "train.baseline.all_layers"])
def test_a_section_is_no_single_setting(section, value):
    message = refused(f"{section}={value}")
    assert section in message


def test_a_single_setting_is_no_section():
    assert "hierarchy.rho" in refused("hierarchy.rho.deeper=1")
    assert "'rho' is a single setting" in refused("hierarchy.rho=0.9", "hierarchy.rho.deeper=1")


# Values


@pytest.mark.parametrize(
    "value", ["0", "0.0", "-0.1", "1.5", "1.0001", ".nan", ".inf", "x", "", "[]"]
)
def test_rho_out_of_range_is_refused(value):
    assert "hierarchy.rho = " in refused(f"hierarchy.rho={value}")


@pytest.mark.parametrize(
    "value",
    ["2", "128", "0", "-1", "-129", "0.5", "129.5", "x", "", "[129]", ".nan", "-.inf", "1e9"],
)
def test_a_region_that_is_not_odd_is_refused(value):
    message = refused(f"hierarchy.region={value}")
    assert "hierarchy.region = " in message
    assert "odd" in message
    assert "inf" in message


@pytest.mark.parametrize(
    "value", ["inf", ".inf", "Inf", ".Inf", "INF", ".INF", "+.inf", "infinity", "'inf'"]
)
def test_an_unbounded_region_in_all_spellings(value, recipe):
    for config in (
        load_config("demo", [f"hierarchy.region={value}"]),
        load_config(recipe(f"hierarchy: {{region: {value}}}")),
    ):
        assert config.hierarchy.region == math.inf
        assert config.dotted()["hierarchy.region"] == "inf"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.dataset=imagenet", "stanford"),
        ("data.on_bad_image=ignore", "skip"),
        ("data.max_train=0", "greater than or equal to 1"),
        ("data.stanford.fold=6", "less than or equal to 5"),
        ("data.stanford.fold=0", "greater than or equal to 1"),
        ("data.synthetic.unlabelled=0.95", "0.9"),
        ("data.synthetic.unlabelled=.nan", "nan"),
        ("context.variants=-1", "greater than or equal to 0"),
        ("context.superpixel_size=3", "greater than or equal to 4"),
        ("hierarchy.kind=clusters", "label_clusters"),
        ("hierarchy.n_star=-1", "largest_rare"),
        ("hierarchy.n_star=rare", "largest_rare"),
        ("hierarchy.k_scale=0", "greater than 0"),
        ("hierarchy.k_scale=.nan", "nan"),
        ("network.name=vgg", "lite"),
        ("train.strategy=joint", "hierarchical"),
        ("train.batch_size=0", "greater than or equal to 1"),
        ("train.batch_size=2.5", "integer"),
        ("train.scale_min=0", "greater than 0"),
        ("train.scale_max=0.5", "greater than or equal to 1"),
        ("train.class_weights=[1, -1]", "greater than or equal to 0"),
        ("train.class_weights=sqrt", "inverse_root"),
        ("train.ema=1", "less than 1"),
        ("train.sampling=balanced", "train.class_weights=inverse_root"),
        ("train.flip=1.1", "less than or equal to 1"),
        ("train.alpha=-1", "greater than or equal to 0"),
        ("train.alpha=.nan", "nan"),
        ("train.momentum=1", "less than 1"),
        ("train.baseline.all_layers.epochs=-1", "greater than or equal to 0"),
        ("train.baseline.all_layers.learning_rate=0", "greater than 0"),
        ("train.seed=-1", "greater than or equal to 0"),
        ("train.validate_every=0", "greater than or equal to 1"),
        ("data.held_out=0", "greater than or equal to 1"),
        ("data.held_out=test", "val"),
        ("data.long_side=20", "greater than or equal to 32"),
        ("data.folder.void=-1", "greater than or equal to 0"),
        ("data.folder.void=[0, 70000]", "less than or equal to 65535"),
        ("data.folder.void=[]", "at least 1 item"),
        ("data.folder.void=[true]", "valid integer"),
        ("data.folder.ids_from=-1", "greater than or equal to 0"),
        ("storage=", "string"),
        ("storage=''", "1"),
    ],
)
def test_a_value_out_of_range_names_key_and_what_is_allowed(setting, expected):
    message = refused(setting)
    assert setting.partition("=")[0] + " = " in message
    assert expected in message


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18",
        "hf_hub:a/b",
        "local-dir:/etc",
        "timm:resnet18",
        "../a",
        "a/b",
        "",
        "a\n",
    ],
)
def test_a_timm_model_is_named_not_fetched(name):
    message = refused(f"network.name={json.dumps('timm:' + name)}")
    assert "network.name = 'timm:" in message
    assert "bare name" in message
    assert load_config("demo", ["network.name=timm:resnet50.a1_in1k"]).network.name
    message = refused("network.name=smp:unet", f"network.encoder={json.dumps(name)}")
    assert "network.encoder = '" in message
    assert "bare name" in message


def test_an_encoder_is_named_for_decoders_of_smp_alone():
    config = load_config("demo", ["network.name=smp:unet", "network.encoder=resnet50.a1_in1k"])
    assert config.network.label == "smp:unet on resnet50.a1_in1k"
    assert load_config("demo", ["network.name=smp:unet"]).network.label == (
        "smp:unet on tf_efficientnet_lite0"
    )
    for name in ("lite", "timm:resnet18", "squeezenet"):
        message = refused(f"network.name={name}", "network.encoder=resnet18")
        assert f"encoder = 'resnet18': {name} does not use it" in message
        assert "smp:unet" in message
    message = refused("network.name=smp:pan")
    assert "smp:unet" in message
    assert "smp:segformer" in message


TRUTH = (
    "train.gpu", "train.compile", "train.baseline.new_layers.enabled", "train.coarser.enabled",
    "unlabelled.train_on_pseudo_labels",
    "data.allow_empty_classes", "tracking.register",
)  # fmt: skip


@pytest.mark.parametrize("key", TRUTH)
def test_true_and_false_and_the_words_yes_and_no(key):
    for truth, words in ((True, "true yes 'yes' 'true'"), (False, "false no 'no' 'false'")):
        for word in words.split():
            assert load_config("demo", [f"{key}={word}"]).dotted()[key] is truth
    for number in ("1", "0", "1.0"):
        assert "allowed are true and false" in refused(f"{key}={number}")
    for word in ("maybe", "''", "null", "[]"):
        assert f"{key} = " in refused(f"{key}={word}")


def test_these_are_all_settings_of_true_and_false():
    # With `train.coarser` and `train.baseline.new_layers` for all phases.
    settings = [key for key, value in Config().dotted().items() if isinstance(value, bool)]
    assert {key for key in settings if not key.endswith(".enabled")} == {
        key for key in TRUTH if not key.endswith(("enabled", "gpu"))
    }
    assert load_config("demo", ["train.gpu=auto"]).train.gpu == "auto"


@pytest.mark.parametrize(
    ("settings_", "told"),
    [
        (["train.subclass_context=crop", "train.strategy=baseline"], "found baseline, label_"),
        (["train.subclass_context=crop", "hierarchy.kind=scene_names"], "scene_names, crops"),
        (["train.subclass_context=crop", "train.examples=variants"], "label_clusters, variants"),
        (["train.subclass_context=crop", "network.name=squeezenet"], "label_clusters, patches"),
        (["evaluation.class_scores=best_subclass", "train.strategy=baseline"], "found baseline"),
        (
            [
                "evaluation.class_scores=summed_probabilities", "train.subclass_head=auxiliary",
                "train.hierarchical.learned_w.enabled=false",
            ],
            "found hierarchical and auxiliary",
        ),
        (["train.subclass_head=auxiliary"], "set train.hierarchical.learned_w.enabled=false"),
        (["train.subclass_head=auxiliary", "train.strategy=sequential"], "found sequential"),
        (["train.optimizer_state=kept", "train.strategy=sequential"], "found sequential"),
        (
            ["train.optimizer_state=kept", "train.hierarchical.learned_w.learning_rate=0.02"],
            "fixed_w at 0.01, learned_w at 0.02",
        ),
        (
            ["train.optimizer_state=kept", "train.hierarchical.fixed_w.enabled=false"],
            "fixed_w off, learned_w at 0.01",
        ),
    ],
)  # fmt: skip
def test_a_variant_of_h_is_refused_where_it_means_nothing(settings_, told):
    assert told in refused(*settings_)


def test_variants_of_h_are_taken_where_they_mean_something():
    load_config("demo", ["train.subclass_context=crop", "train.strategy=sequential"])
    load_config("demo", ["train.optimizer_state=kept", "evaluation.class_scores=best_subclass"])
    single = ["train.subclass_head=auxiliary", "train.hierarchical.learned_w.enabled=false"]
    assert not load_config("demo", single).train.has_w
    assert load_config("demo").train.has_w


def test_looking_at_scores_while_training_needs_images_that_are_kept_out():
    message = refused("train.validate_every=2")
    assert "train.validate_every = 2 needs data.held_out" in message
    config = load_config("demo", ["train.validate_every=2", "data.held_out=5"])
    assert config.data.held_out == 5


@pytest.mark.parametrize("key", ["train.alpha", "train.baseline.all_layers.learning_rate"])
def test_an_infinite_weight_or_rate_is_refused(key):
    assert key in refused(f"{key}=.inf")


@pytest.mark.parametrize(
    "key",
    ["hierarchy.rho", "hierarchy.region", "train.batch_size", "evaluation.stride", "description"],
)
def test_truth_is_no_number_and_no_text(key):
    assert key in refused(f"{key}=true")


# What lies over what


def test_part_of_a_phase_keeps_the_rest_of_it():
    before = load_config("stanford-lite-baseline").train
    after = load_config("stanford-lite-baseline", ["train.baseline.all_layers.epochs=3"]).train
    assert after.baseline.all_layers.epochs == 3
    assert after.baseline.all_layers.learning_rate == before.baseline.all_layers.learning_rate
    assert after.baseline.new_layers == before.baseline.new_layers
    assert after.sequential == before.sequential


def test_part_of_a_phase_in_a_recipe_keeps_the_defaults_of_the_rest(recipe):
    config = load_config(recipe("train: {sequential: {class_all_layers: {epochs: 2}}}"))
    default = Config().train.sequential
    assert config.train.sequential.class_all_layers.epochs == 2
    rate = config.train.sequential.class_all_layers.learning_rate
    assert rate == default.class_all_layers.learning_rate
    assert config.train.sequential.subclass_all_layers == default.subclass_all_layers


def test_the_last_setting_of_a_key_holds():
    config = load_config("demo", ["hierarchy.rho=0.5", "hierarchy.rho=0.6"])
    assert config.hierarchy.rho == 0.6


def test_numbers_as_people_write_them():
    key = "train.baseline.all_layers.learning_rate"
    for text in ("1e-3", "0.001", "1.0e-3", " 0.001"):
        assert load_config("demo", [f"{key}={text}"]).dotted()[key] == 0.001


def test_a_value_may_hold_equals_signs():
    assert load_config("demo", ["data.folder.path=/a=b"]).data.folder.path == "/a=b"


def test_a_configuration_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        Config().storage = "elsewhere"


def test_the_environment_names_the_places(monkeypatch):
    monkeypatch.setenv("LHS_STORAGE", "s3://bucket/lhs")
    monkeypatch.setenv("LHS_DATA_ROOT", "/data")
    assert Config().storage == "s3://bucket/lhs"
    assert Config().data.root == "/data"


def test_one_void_id_is_stored_as_before():
    folder = load_config("demo", ["data.folder.void=[9]"]).data.folder
    assert folder == load_config("demo", ["data.folder.void=9"]).data.folder
    assert folder.model_dump(mode="json")["void"] == 9
    several = load_config("demo", ["data.folder.void=[255, 0, 255]"])
    assert several.dotted()["data.folder.void"] == [0, 255]
    assert build_config(several.model_dump(mode="json")) == several


# Paths


PLACES = """
storage: results
data: {root: ../data, folder: {path: ., scenes: names.csv}}
hierarchy: {kind: file, file: mine/hierarchy.json, subclass_maps: mine/maps}
network: {weights_file: nets/vgg.pt}
"""


def test_relative_paths_in_a_recipe_start_at_its_folder(recipe, tmp_path, monkeypatch):
    path = Path(recipe(PLACES))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for one in (str(path), "../mine.yaml"):
        config = load_config(one)
        assert config.storage == str(tmp_path / "results")
        assert config.data.root == str(tmp_path.parent / "data")
        assert config.data.folder.path == str(tmp_path)
        # Relative to the folder of the dataset.
        assert config.data.folder.scenes == "names.csv"
        assert config.network.weights_file == str(tmp_path / "nets/vgg.pt")
        assert config.hierarchy.file == str(tmp_path / "mine/hierarchy.json")
        assert config.hierarchy.subclass_maps == str(tmp_path / "mine/maps")
    config = load_config(str(path), ["data.folder.path=here", "storage=there"])
    assert (config.data.folder.path, config.storage) == ("here", "there")


def test_each_of_two_recipes_has_its_own_folder(recipe, tmp_path):
    recipe(PLACES)
    (tmp_path / "more").mkdir()
    over = tmp_path / "more" / "over.yaml"
    over.write_text("extends: ../mine.yaml\nstorage: results\n")
    config = load_config(str(over))
    assert config.storage == str(tmp_path / "more" / "results")
    assert config.data.folder.path == str(tmp_path)


def test_other_places_stay_as_they_are(recipe, monkeypatch):
    for place in ("s3://bucket/folder", "~/folder", "/folder"):
        written = f"{{path: {place!r}}}"
        config = load_config(recipe(f"storage: {place}\ndata: {{folder: {written}}}"))
        assert config.storage == config.data.folder.path == place
    assert load_config("demo", ["data.root=here"]).data.root == "here"
    assert "NUL" in refused(recipe=recipe('data: {root: "a\\0b"}'))


# Round trips


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(recipes()))
def test_the_printed_configuration_is_a_recipe(name, tmp_path):
    config = load_config(name, ["hierarchy.region=inf", "data.max_train=7", "hierarchy.n_star=30"])
    path = tmp_path / "printed.yaml"
    path.write_text(config.yaml(), encoding="utf-8")
    assert load_config(str(path)) == config
    assert load_config(str(path)).yaml() == config.yaml()


def test_dotted_settings_give_the_configuration_back():
    config = load_config(
        "stanford-lite-baseline",
        ["hierarchy.region=inf", "train.gpu=false", "data.max_test=3", "hierarchy.rho=0.123456789"],
    )
    settings = [f"{key}={yaml.safe_dump(value)}" for key, value in config.dotted().items()]
    assert load_config("demo", settings) == config


def test_every_field_has_its_dotted_name():
    dotted = Config().dotted()
    assert {"storage", "data.stanford.fold", "train.hierarchical.learned_w.epochs"} <= set(dotted)
    assert not any(isinstance(value, dict) for value in dotted.values())


@pytest.mark.thorough
@settings(max_examples=50, deadline=None)
@given(
    rho=st.floats(0, 1, exclude_min=True),
    region=st.integers(0, 5000).map(lambda half: 2 * half + 1) | st.just(math.inf),
    n_star=st.integers(0, 10**6) | st.just("largest_rare"),
    as_text=st.booleans(),
)
def test_all_that_is_allowed_is_taken(rho, region, n_star, as_text):
    given_region = str(region) if as_text else region
    tree = {"hierarchy": {"rho": rho, "region": given_region, "n_star": n_star}}
    config = build_config(tree)
    assert (config.hierarchy.rho, config.hierarchy.region) == (rho, region)
    assert config.hierarchy.n_star == n_star
    assert build_config(yaml.safe_load(config.yaml())) == config


@settings(max_examples=50, deadline=None)
@given(st.floats().filter(lambda rho: not 0 < rho <= 1), st.integers().filter(lambda r: r % 2 == 0))
def test_nothing_else_is(rho, region):
    with pytest.raises(UserError, match=r"hierarchy\.rho"):
        build_config({"hierarchy": {"rho": rho}})
    with pytest.raises(UserError, match=r"hierarchy\.region"):
        build_config({"hierarchy": {"region": region}})


def test_settings_of_earlier_versions_are_left_out(tmp_path, caplog):
    """Stored runs have them; a warning says so."""
    tree = {"train": {"features_gb": 3.0, "batch_size": 5}}
    assert build_config(tree).train.batch_size == 5
    assert tree["train"]["features_gb"] == 3.0
    assert not caplog.records
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    for arguments in ((str(recipe),), ("demo", ["train.features_gb=0"])):
        config = load_config(*arguments)
        assert "train.features_gb" not in config.dotted()
        (record,) = caplog.records
        assert "train.features_gb is no longer a setting" in record.getMessage()
        caplog.clear()
        loading._warn.cache_clear()


OTHER = {
    "evaluation.every": 4, "unlabelled.every": 8, "unlabelled.train_on_filled": "no",
    "train.solver": "sgd",
}  # fmt: skip


def tree_of(key, value):
    """A nested mapping with one setting."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_setting_is_read_by_its_old_name_with_one_warning(old, recipe, caplog):
    new, value = RENAMED[old], OTHER.get(old, "no")
    expected = load_config("demo", [f"{new}={value}"])
    assert not caplog.records
    path = recipe(yaml.safe_dump({"extends": "demo"} | tree_of(old, value)))
    for _ in range(2):
        assert load_config("demo", [f"{old}={value}"]) == expected
        found = load_config(path)
        assert found.model_copy(update={"description": expected.description}) == expected
    (record,) = caplog.records
    assert f"{old} is now called {new}" in record.getMessage()


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_stored_setting_is_read_by_its_old_name_without_a_warning(old, caplog):
    value = OTHER.get(old, "no")
    tree = tree_of(old, value)
    assert build_config(tree) == build_config(tree_of(RENAMED[old], value)) != Config()
    assert tree == tree_of(old, value)
    assert not caplog.records


def test_an_old_name_in_a_recipe_gives_way_to_a_setting(recipe):
    path = recipe("train: {solver: sgd, coarser: {run: no}}")
    config = load_config(path, ["train.optimizer=adamw"])
    assert config.train.optimizer == "adamw"
    path = recipe("train: {optimizer: sgd}")
    assert load_config(path, ["train.solver=adamw"]).train.optimizer == "adamw"
    settings_ = ["train.coarser={epochs: 2, run: no}"]
    assert load_config(path, settings_).train.coarser.enabled is False


def test_the_old_and_the_new_name_together_are_refused(recipe):
    text = "train: {solver: sgd, optimizer: sgd}"
    for message in (
        refused(recipe=recipe(text)),
        refused("train.solver=sgd", "train.optimizer=sgd"),
    ):
        assert "train.solver" in message
        assert "old name of train.optimizer" in message
    with pytest.raises(UserError, match=r"old name of train\.optimizer"):
        build_config(yaml.safe_load(text))


def test_the_old_value_of_unlabelled_mode(caplog):
    expected = load_config("demo", ["unlabelled.mode=pseudo_labels"])
    assert load_config("demo", ["unlabelled.mode=filled"]) == expected
    (record,) = caplog.records
    assert "unlabelled.mode=filled is now unlabelled.mode=pseudo_labels" in record.getMessage()
    stored = expected.model_dump(mode="json")
    stored["unlabelled"]["mode"] = "filled"
    assert build_config(stored) == expected


def test_a_stored_run_that_names_no_head_had_a_pyramid():
    stored = Config().model_dump(mode="json")
    assert stored_config(stored) == Config()
    del stored["network"]["head"]
    stored["network"]["channels"] = 96
    network = stored_config(stored).network
    assert (network.head, network.width) == ("pyramid", 96)
    # Not a recipe of today.
    assert build_config({"network": {"channels": 96}}).network.head == "mlp"
