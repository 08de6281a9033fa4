"""Our scores beside the paper's: which row a run stands in, and what is said of it."""

from __future__ import annotations

import csv
import math
import statistics
from importlib import resources
from typing import Any

import pytest

from lhs.errors import UserError
from lhs.loading import load_config, recipes
from lhs.report.paper import Run, as_html, as_markdown, paper_rows, paper_tables, unfitting

OWN = [name for name in recipes() if set(name.split("-")) & {"clarifai", "overfeat", "fcn16s"}]
ROWS = {
    "siftflow-clarifai-baseline": "Clarifai baseline",
    "siftflow-clarifai-s-sn": "Clarifai+S+SN",
    "siftflow-clarifai-s-lc": "Clarifai+S+LC (R=129)",
    "siftflow-overfeat-baseline": "OverFeat baseline",
    "siftflow-overfeat-s-sn": "OverFeat+S+SN",
    "siftflow-overfeat-s-lc": "OverFeat+S+LC (R=129)",
    "siftflow-overfeat-s-lc-r227": "OverFeat+S+LC (R=227)",
    "siftflow-overfeat-s-lc-rinf": "OverFeat+S+LC (R=inf)",
    "siftflow-overfeat-h-lc": "OverFeat+H+LC (R=129)",
    "siftflow-fcn16s-baseline": "FCN (Long et al. 2014)",
    "siftflow-fcn16s-s-lc": "FCN+S+LC (R=129)",
    "siftflow-fcn16s-h-lc": "FCN+H+LC (R=129)",
    "barcelona-overfeat-baseline": "OverFeat baseline",
    "barcelona-overfeat-s-lc-naive": "OverFeat+S+LC (R=129) (Naive)",
    "barcelona-overfeat-s-lc": "OverFeat+S+LC (R=129)",
    "barcelona-overfeat-h-lc": "OverFeat+H+LC (R=129)",
    "lmsun-overfeat-baseline": "OverFeat baseline",
    "lmsun-overfeat-s-lc": "OverFeat+S+LC (R=129)",
    "lmsun-overfeat-h-lc": "OverFeat+H+LC (R=129)",
    "stanford-overfeat-baseline": "OverFeat baseline",
    "stanford-overfeat-s-ic": "OverFeat+S+IC (R=227)",
    "stanford-overfeat-s-lc": "OverFeat+S+LC (R=129)",
    "stanford-overfeat-s-lc-r227": "OverFeat+S+LC (R=227)",
    "stanford-overfeat-h-lc": "OverFeat+H+LC (R=227)",
    "stanford-fcn16s-baseline": "FCN (Long et al. 2014)",
    "stanford-fcn16s-s-lc": "FCN+S+LC (R=129)",
    "stanford-fcn16s-h-lc": "FCN+H+LC (R=129)",
}


def run(recipe: str, per_pixel: float = 0.5, *settings: str) -> Run:
    tree = load_config(recipe, settings).model_dump(mode="json")
    return Run(tree, {"per_pixel": per_pixel, "per_class": per_pixel / 2})


def filled(number: int, *runs: Run) -> list[dict[str, Any]]:
    frame = paper_tables(runs)[number]
    return [row for row in frame.to_dict("records") if row["runs"]]


def test_every_recipe_of_a_paper_s_network_is_known_here() -> None:
    assert set(OWN) == set(ROWS)


@pytest.mark.parametrize("recipe", OWN)
def test_a_recipe_stands_in_the_paper_s_row_and_its_header_says_its_score(recipe: str) -> None:
    number = {"siftflow": 1, "stanford": 3, "barcelona": 4, "lmsun": 5}[recipe.split("-")[0]]
    [row] = filled(number, run(recipe, 0.75))
    assert row["method"] == ROWS[recipe]
    assert (row["per_pixel"], row["per_class"], row["runs"]) == (0.75, 0.375, 1)
    header = recipes()[recipe].read_text().split("description")[0]
    assert f"{row['paper_per_pixel']:.3f} per pixel, {row['paper_per_class']:.3f} per" in header


def test_runs_with_and_without_pseudo_labels_are_distinguished() -> None:
    naive = run("lmsun-overfeat-s-lc", 0.6, "unlabelled.mode=naive")
    annotated = run("lmsun-overfeat-s-lc", 0.7, "unlabelled.train_on_pseudo_labels=false")
    few = run("lmsun-overfeat-s-lc", 0.8, "unlabelled.below=0.5", "unlabelled.stride=8")
    rows = {row["per_pixel"]: row for row in filled(5, naive, annotated, few)}
    assert rows[0.6]["method"] == "ours: overfeat+S+LC (R=129)"
    assert rows[0.7]["method"] == rows[0.8]["method"] == "OverFeat+S+LC (R=129)"
    assert "trained on annotated pixels" in rows[0.7]["note"]
    assert "pseudo-labels below 50%, pseudo-labels at stride 8" in rows[0.8]["note"]
    elsewhere = run("siftflow-overfeat-s-lc", 0.5, "unlabelled.mode=pseudo_labels")
    plain = run("siftflow-overfeat-s-lc", 0.4)
    assert {row["per_pixel"]: row["method"] for row in filled(1, elsewhere, plain)} == {
        0.5: "ours: overfeat+S+LC (R=129), pseudo-labels", 0.4: "OverFeat+S+LC (R=129)",
    }  # fmt: skip


def test_the_settings_of_table_2_stand_there() -> None:
    changed = run("siftflow-overfeat-s-lc", 0.75, "hierarchy.k_scale=1.5")
    assert [row["method"] for row in filled(2, changed)] == ["rho=93%, K x 1.5"]
    # Beside Table 1, not in it.
    assert [row["method"] for row in filled(1, changed)] == [
        "ours: overfeat+S+LC (R=129), rho=0.93, K x 1.5"
    ]
    usual = run("siftflow-overfeat-s-lc")
    assert [row["method"] for row in filled(2, usual)] == ["rho=93%, K"]
    assert [row["method"] for row in filled(1, usual)] == ["OverFeat+S+LC (R=129)"]


def test_image_clusters_stand_in_the_paper_s_row_by_gist_alone_and_tell_their_number() -> None:
    runs = [
        run("stanford-overfeat-s-ic", 0.5),
        run("stanford-overfeat-s-ic", 0.6, "hierarchy.image_clusters=20", "hierarchy.region=33"),
        run("stanford-overfeat-s-ic", 0.7, "hierarchy.kind=image_embedding"),
        run("stanford-lite-s-ic", 0.8),
        run("stanford-overfeat-baseline", 0.9),
    ]
    rows = {row["per_pixel"]: row for row in filled(3, *runs)}
    assert {score: row["method"] for score, row in rows.items()} == {
        0.5: "OverFeat+S+IC (R=227)",
        0.6: "OverFeat+S+IC (R=227)",
        0.7: "ours: overfeat+S+IC of the encoder's features",
        0.8: "ours: lite+S+IC",
        0.9: "OverFeat baseline",
    }
    for score, number in {0.5: 8, 0.6: 20, 0.7: 8, 0.8: 8}.items():
        assert f"{number} image clusters" in rows[score]["note"]
    assert "clusters" not in rows[0.9]["note"]


def test_controls_are_rows_of_their_own() -> None:
    recipe, random = "siftflow-overfeat-s-lc", "hierarchy.kind=random"
    runs = [
        run(recipe, 0.5),
        run(recipe, 0.6, random),
        run(recipe, 0.7, random, "hierarchy.like=scene_names", "hierarchy.region=33"),
        run(recipe, 0.8, random, "hierarchy.like=image_clusters"),
        run(recipe, 0.9, "hierarchy.kind=classes", "hierarchy.rho=0.5"),
    ]
    rows = {row["per_pixel"]: row for row in filled(1, *runs)}
    assert {score: row["method"] for score, row in rows.items()} == {
        0.5: "OverFeat+S+LC (R=129)",
        0.6: "ours: overfeat+S+random as LC (R=129)",
        0.7: "ours: overfeat+S+random as SN",
        0.8: "ours: overfeat+S+random as IC",
        0.9: "ours: overfeat+S+classes",
    }
    assert "8 image clusters" in rows[0.8]["note"]


def test_seeds_are_one_row_with_their_spread() -> None:
    values = [0.80, 0.83, 0.84]
    runs = [
        run("stanford-lite-s-lc", value, f"train.seed={seed}") for seed, value in enumerate(values)
    ]
    [row] = filled(3, *runs, run("siftflow-lite-s-lc"))
    assert row["method"] == "ours: lite+S+LC (R=129)"
    assert row["runs"] == 3
    assert row["per_pixel"] == pytest.approx(statistics.mean(values))
    assert row["per_pixel_std"] == pytest.approx(statistics.stdev(values))
    assert math.isnan(row["paper_per_pixel"])
    [single] = filled(3, runs[0])
    assert math.isnan(single["per_pixel_std"])


def test_folds_are_one_row_that_says_which_of_five() -> None:
    folds = [
        run("stanford-lite-s-lc", k / 10, f"data.stanford.fold={k}", f"train.seed={seed}")
        for k in range(1, 6)
        for seed in (0, 1)
    ]
    [row] = filled(3, *folds)
    assert (row["runs"], row["note"], row["per_pixel"]) == (10, "", pytest.approx(0.3))
    [row] = filled(3, *folds[:4])
    assert (row["runs"], row["note"]) == (4, "folds 1, 2 only")


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("stanford-lite-h-lc", "train.alpha=3.0"),
        ("stanford-lite-s-lc", "hierarchy.n_star=100"),
        ("stanford-overfeat-baseline", "train.sampling=balanced"),
        ("stanford-lite-baseline", "train.baseline.all_layers.epochs=30"),
    ],
)
def test_every_setting_but_seed_and_fold_has_a_row_of_its_own(recipe: str, setting: str) -> None:
    rows = filled(3, run(recipe, 0.5), run(recipe, 0.75, setting))
    assert {row["per_pixel"]: row["runs"] for row in rows} == {0.5: 1, 0.75: 1}
    key, _, value = setting.partition("=")
    named = [row["method"].endswith(f"{key.rpartition('.')[2]}={value}") for row in rows]
    assert named == [row["per_pixel"] == 0.75 for row in rows]


def test_twins_are_refused_by_name() -> None:
    tree = run("stanford-lite-s-lc").config
    # Another place, and settings that S does not use, make no other run.
    same = run("stanford-lite-s-lc", 0.6, "storage=/elsewhere", "train.alpha=2").config
    twins = [Run(tree, {}, "one-1234"), Run(same, {}, "two-5678")]
    with pytest.raises(UserError, match="one-1234 and two-5678 have the same settings, seed and"):
        paper_tables(twins)


@pytest.mark.parametrize(
    ("setting", "note"),
    [
        ("data.max_test=20", "20 test images"),
        ("data.max_train=30", "30 training images"),
        ("train.max_steps=9", "9 steps a phase"),
        ("evaluation.stride=8", "predicted at stride 8"),
        ("network.weights=none", "from random weights"),
    ],
)
def test_less_than_the_paper_s_run_has_a_note_and_a_row_of_its_own(setting: str, note: str) -> None:
    less = run("stanford-fcn16s-baseline", 0.2, setting)
    whole = run("stanford-fcn16s-baseline", 0.7)
    rows = filled(3, less, whole)
    assert [row["method"] for row in rows] == ["FCN (Long et al. 2014)"] * 2
    assert {row["per_pixel"]: note in row["note"] for row in rows} == {0.2: True, 0.7: False}


def test_without_runs_all_that_the_paper_prints_is_there_and_nothing_else() -> None:
    path = resources.files("lhs") / "report" / "paper_tables.csv"
    printed = list(csv.DictReader(path.read_text().splitlines()))
    tables = paper_tables([])
    assert sum(len(frame) for frame in tables.values()) == len(printed) == len(paper_rows())
    for number, frame in tables.items():
        rows = [row for row in printed if row["table"] == str(number)]
        assert frame["method"].tolist() == [row["method"] for row in rows]
        assert [f"{value:g}" for value in frame["paper_per_pixel"]] == [
            f"{float(row['per_pixel']):g}" for row in rows
        ]
        assert frame["per_pixel"].isna().all()
        assert not frame["runs"].any()


def test_markdown_and_html_hold_the_same_cells() -> None:
    tables = paper_tables([run("stanford-lite-s-lc", 0.8125)])
    text = as_markdown(3, tables[3])
    assert "| ours: lite+S+LC (R=129) |  |  | 0.812 | 0.406 | 1 | fold 1 only |" in text
    page = as_html(tables)
    for cell in ("ours: lite+S+LC (R=129)", "0.812", "fold 1 only", "Table 5: LM+Sun"):
        assert cell in page
    assert "nan" not in page + text


def test_runs_that_fit_no_row_are_named() -> None:
    fits, demo = run("siftflow-overfeat-s-lc"), run("demo")
    own = run("siftflow-lite-h-lc")
    assert unfitting([fits]) == ""
    named = [Run(one.config, one.scores, name) for name, one in (("a", demo), ("b", own))]
    text = unfitting([fits, *named])
    assert "a (synthetic)" in text
    assert "in rows of their own: b." in text
    assert "No run fits" not in text
    assert unfitting(named).startswith("No run fits a row of the paper. ")
    assert "No run fits" in as_html(paper_tables(named), unfitting(named))
