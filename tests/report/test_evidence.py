"""Kept runs: their files, their tables against scipy, and the page that shows them."""

from __future__ import annotations

import io
import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from lhs.errors import UserError
from lhs.evaluation.metrics import scores
from lhs.loading import load_config
from lhs.report.contrasts import Evidence, read_evidence
from lhs.report.evidence import (
    KeptRun,
    Planned,
    packed,
    read_planned,
    read_runs,
    unpacked,
    write_planned,
    write_run,
)
from lhs.report.evidence_tables import dataset_tables, evidence_tables, page_with
from lhs.report.figures import contrasts, to_png
from lhs.report.statistics import bootstrap, holm, resampled
from lhs.run import main

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "results.md"
SWEEPS = runpy.run_path(str(TOP / "tune" / "evidence.py"))["SWEEP"]
MAX_BYTES = 60_000
PRIMARY = (("s", "control"), ("s", "restart"))


def realistic(images: int, classes: int, seed: int = 0, side: int = 256) -> np.ndarray:
    """Counts as a trained model's: a few classes an image, each mistaken for a few others."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((images, classes, classes), np.int64)
    common = 1 / np.arange(1, classes + 1)
    for image in counts:
        there = rng.choice(classes, min(classes, 6), replace=False, p=common / common.sum())
        shares = rng.dirichlet(np.ones(len(there)))
        for label, share in zip(there, shares, strict=True):
            others = rng.choice(classes, min(classes - 1, 5), replace=False)
            image[label, others] = rng.poisson(share * side**2 * 0.15 * rng.dirichlet(np.ones(5)))
            image[label, label] += round(share * side**2 * 0.85)
    return counts


def kept(variant: str, seed: int, counts: np.ndarray, *settings: str, **more: Any) -> KeptRun:
    recipe = more.pop("recipe", "demo")
    config = load_config(recipe, [f"train.seed={seed}", f"hierarchy.seed={seed}", *settings])
    fields: dict[str, Any] = {
        "run": f"{variant}-{seed}", "variant": variant, "dataset": config.data.dataset,
        "classes": [f"class {n}" for n in range(counts.shape[1])], "settings": config.dotted(),
        "digests": {"data": "d" * 64, "hierarchy": None, "weights": "w" * 64},
        "versions": {"torch": "2.14.0"}, "device": "a card", "seconds": {"model": 90.0},
        "steps": 7, "evaluation": f"key {variant} {seed}",
        "images": [f"test/image_{n:04}" for n in range(len(counts))], "counts": counts,
    }  # fmt: skip
    return KeptRun(**fields | more)


def three_variants(seeds: int = 3) -> list[KeptRun]:
    """Runs of `s`, `control` and `restart`, apart by a setting each."""
    return [
        kept(
            variant, seed, realistic(12, 8, 10 * number + seed, 64), f"hierarchy.rho=0.{9 - number}"
        )
        for number, variant in enumerate(("s", "control", "restart"))
        for seed in range(seeds)
    ]


# Files


@pytest.mark.parametrize(("images", "classes"), [(200, 33), (143, 8), (48, 14)])
def test_counts_come_back_and_a_file_is_small(tmp_path: Path, images: int, classes: int) -> None:
    counts = realistic(images, classes)
    # Some 30 cells an image: more than models of these datasets have.
    assert np.count_nonzero(counts) / images > 20
    run = kept("s-lc", 0, counts, recipe="siftflow-lite-s-lc")
    path = write_run(tmp_path, run)
    assert path == tmp_path / "siftflow" / "s-lc-0.json"
    assert path.stat().st_size <= MAX_BYTES
    [back] = read_runs(path.parent)
    np.testing.assert_array_equal(back.counts, counts)
    assert back.counts.dtype == np.int64
    assert {**vars(back), "counts": 0} == {**vars(run), "counts": 0}
    assert json.loads(path.read_text())["fold"] is None


def test_counts_at_the_ends_and_none_at_all() -> None:
    counts = np.zeros((3, 2, 2), np.int64)
    np.testing.assert_array_equal(unpacked(packed(counts), 3, 2), counts)
    counts[0, 0, 0], counts[-1, -1, -1] = 1, 2**32 - 1
    np.testing.assert_array_equal(unpacked(packed(counts), 3, 2), counts)


def test_stanford_s_file_says_its_fold(tmp_path: Path) -> None:
    settings = "data.stanford.fold=3"
    path = write_run(tmp_path, kept("s", 4, realistic(3, 8), settings, recipe="stanford-lite-s-lc"))
    tree = json.loads(path.read_text())
    assert (tree["seed"], tree["fold"]) == (4, 3)


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"counts": "AAAA"}, {"images": ["one"]}, {"classes": None}, {"more": 1}],
)
def test_a_damaged_file_is_told_by_its_name(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_run(tmp_path, kept("s", 0, realistic(3, 8)))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"s-0\.json: not readable as a kept run"):
        read_runs(path.parent)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "found no JSON object"),
        ('"text"', "found no JSON object"),
        ("{}", "it has no schema, seed, fold, run, "),
        ('{"schema": 1, "images": [], "classes": []}', "it has no seed, fold, run, "),
    ],
)
def test_a_file_that_is_no_kept_run_is_told_what_it_lacks(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{path}: not readable as a kept run: {reason}"):
        read_runs(tmp_path)


def test_what_is_planned_comes_back(tmp_path: Path) -> None:
    planned = Planned(runs=(("s", 0, None),), primary=PRIMARY, further=())
    write_planned(tmp_path / "demo", planned)
    assert read_planned(tmp_path / "demo") == planned
    assert read_runs(tmp_path / "demo") == []
    assert read_planned(tmp_path) == Planned()


# Tables


def cells(text: str, first: str) -> list[list[str]]:
    """The rows of tables whose first cell is this."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if line[0] == first]


@pytest.mark.thorough
def test_means_and_differences_of_seeds_are_scipy_s() -> None:
    runs = three_variants()
    text = dataset_tables("synthetic", Evidence(runs, Planned(primary=PRIMARY)))
    found = {
        (run.variant, run.settings["train.seed"]): scores(run.counts.sum(axis=0)) for run in runs
    }
    [row] = cells(text, "s")
    values = [found["s", seed].per_pixel for seed in range(3)]
    assert row[1] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert row[4:] == ["3", "1 min 30 s"]
    tests = [
        stats.ttest_rel(*([getattr(found[v, seed], key) for seed in range(3)] for v in pair))
        for pair in PRIMARY
        for key in ("per_pixel", "per_class")
    ]
    corrected = holm([test.pvalue for test in tests])
    rows = cells(text, "s \N{MINUS SIGN} control") + cells(text, "s \N{MINUS SIGN} restart")
    assert len(rows) == len(tests) == 4
    for row, test, p in zip(rows, tests, corrected, strict=True):
        low, high = test.confidence_interval(0.95)
        assert row[3] == f"{low:+.4f} to {high:+.4f}"
        assert row[2] == f"{(low + high) / 2:+.4f}"
        assert row[4] == f"{p:.3f}"
        assert row[6] == "3 seeds"
    models = [[run.counts for run in runs if run.variant == v] for v in ("s", "control")]
    one, other = (
        np.mean([resampled(counts)["per_pixel"] for counts in some], axis=0) for some in models
    )
    given = bootstrap(one, other, 12)
    assert rows[0][5] == f"{given.low:+.4f} to {given.high:+.4f}"


def test_folds_are_pooled_and_bootstrapped_over_all_images() -> None:
    runs = [
        kept(
            variant, 0, realistic(6, 8, 10 * number + fold, 64), f"data.stanford.fold={fold}",
            f"hierarchy.rho=0.{9 - number}", recipe="stanford-lite-s-lc", run=f"{variant} {fold}",
            images=[f"{fold}/{n}" for n in range(6)],
        )
        for number, variant in enumerate(("s", "control"))
        for fold in range(1, 6)
    ]  # fmt: skip
    planned = Planned(primary=PRIMARY)
    text = dataset_tables("stanford", Evidence(runs, planned))
    pooled = [
        np.concatenate([run.counts for run in runs if run.variant == v]) for v in ("s", "control")
    ]
    one, other = (resampled(counts)["per_class"] for counts in pooled)
    expected = bootstrap(one, other, 30)
    row = cells(text, "s \N{MINUS SIGN} control")[1]
    totals = [scores(counts.sum(axis=0)).per_class for counts in pooled]
    assert row[2] == f"{totals[0] - totals[1]:+.4f}"
    assert row[3] == f"{expected.low:+.4f} to {expected.high:+.4f}"
    assert row[5:] == ["", "30 images, 1 seed"]
    # Not all folds of the control: no difference.
    assert not cells(dataset_tables("stanford", Evidence(runs[:-1], planned)), row[0])
    assert cells(text, "paper: FCN+H+LC (R=129)")[0][1:3] == ["0.882", "0.843"]


def test_missing_contrasts_count_in_the_correction() -> None:
    runs = [run for run in three_variants() if run.variant != "restart"]
    planned_runs = [(v, seed, None) for v in ("s", "control", "restart") for seed in range(4)]
    text = dataset_tables("synthetic", Evidence(runs, Planned(runs=planned_runs, primary=PRIMARY)))
    pairs = [[r for r in runs if r.variant == v] for v in ("s", "control")]
    p_values = [
        stats.ttest_rel(
            *([getattr(scores(r.counts.sum(0)), k) for r in some] for some in pairs)
        ).pvalue
        for k in ("per_pixel", "per_class")
    ]
    expected = holm([*p_values, 1, 1])
    rows = cells(text, "s \N{MINUS SIGN} control")
    assert [row[4] for row in rows] == [f"{p:.3f}" for p in expected[:2]]
    assert "Missing, 6 of 12 planned runs: s (seed 3); control (seed 3); restart (all)." in text


def test_missing_folds_are_named_by_seed() -> None:
    planned = [(v, seed, fold) for v in ("s", "c") for seed in range(2) for fold in range(1, 6)]
    runs = [
        kept("s", 0, realistic(6, 8), f"data.stanford.fold={fold}", recipe="stanford-lite-s-lc",
             run=f"s {fold}")
        for fold in (1, 3)
    ]  # fmt: skip
    text = dataset_tables("stanford", Evidence(runs, Planned(runs=planned)))
    assert "Missing, 18 of 20 planned runs: s (seed 0 fold 2, 4, 5 and seed 1); c (all)." in text


def test_classes_of_few_images_are_named_and_absent_ones_left_out() -> None:
    counts = realistic(12, 8, 0, 64)
    counts[:, 5] = 0
    counts[2:, 6] = 0
    counts[:2, 6, 6] = 9
    text = dataset_tables("synthetic", Evidence([kept("s", 0, counts)], Planned()))
    assert not cells(text, "class 5")
    assert cells(text, "class 6")[0][1] == "2"
    assert re.search(r"Fewer than 5 test images.*: .*class 6", text)


def test_twins_and_other_images_are_refused() -> None:
    runs = three_variants(1)
    with pytest.raises(UserError, match="runs s-0 and s-0 have the same settings, seed and fold"):
        dataset_tables("synthetic", Evidence([*runs, runs[0]], Planned()))
    other = kept("control", 0, runs[1].counts, "hierarchy.rho=0.8", images=["x"] * 12)
    with pytest.raises(UserError, match="s and control, seed 0: scored on different test images"):
        dataset_tables("synthetic", Evidence([runs[0], other], Planned(primary=PRIMARY)))


def test_networks_are_not_compared_and_one_variant_of_two_says_what_differs() -> None:
    runs = three_variants(2)
    runs.append(kept("s", 0, runs[0].counts, "hierarchy.rho=0.9", "network.channels=64", run="x"))
    text = dataset_tables("synthetic", Evidence(runs, Planned(primary=PRIMARY)))
    assert len(cells(text, "s: channels=64")) == 1
    assert len(cells(text, "s: channels=null \N{MINUS SIGN} control")) == 2
    assert not cells(text, "s: channels=64 \N{MINUS SIGN} control")


# The page


def test_the_command_prints_the_tables_and_puts_them_into_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in three_variants(2):
        write_run(tmp_path / "kept", run)
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- tables of synthetic -->\nold\n<!-- end -->\nafter\n")
    assert main(["tables", str(tmp_path / "kept"), "--page", str(page)]) == 0
    [text] = evidence_tables(read_evidence(tmp_path / "kept")).values()
    assert text in capsys.readouterr().out
    start = "before\n\n<!-- tables of synthetic -->\n\n"
    assert page.read_text() == f"{start}{text}\n\n<!-- end -->\nafter\n"
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    page.write_text("no place")
    assert main(["tables", str(tmp_path / "kept"), "--page", str(page)]) == 2
    assert "found 0 places for synthetic" in capsys.readouterr().err
    assert main(["tables", str(tmp_path)]) == 2
    assert "found no kept runs" in capsys.readouterr().err
    assert main(["tables", "a-run", "--page", str(page)]) == 2
    assert "allowed with one folder" in capsys.readouterr().err


def test_the_results_page_holds_what_the_repository_s_evidence_gives() -> None:
    """After new runs: lhs tables docs/evidence --page docs/results.md"""
    page = PAGE.read_text(encoding="utf-8")
    evidence = read_evidence(TOP / "docs" / "evidence")
    assert page_with(page, evidence_tables(evidence)) == page
    figure = contrasts({dataset: one.contrasts for dataset, one in evidence.items()})
    drawn, shown = to_png(figure), PAGE.with_suffix(".png").read_bytes()
    pixels = [np.asarray(Image.open(io.BytesIO(png))) for png in (drawn, shown)]
    np.testing.assert_array_equal(*pixels)


def test_kept_files_of_the_repository_are_small() -> None:
    for path in (TOP / "docs" / "evidence").glob("*/*.json"):
        assert path.stat().st_size <= MAX_BYTES, path


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_the_repository_s_plan_is_that_of_the_sweep(sweep: Any) -> None:
    planned = read_planned(TOP / "docs" / "evidence" / sweep.name.removeprefix("evidence-"))
    runs = [
        (variant, trial["train.seed"], trial.get("data.stanford.fold"))
        for variant, trial in zip(sweep.protocol.variants, sweep.trials, strict=True)
    ]
    assert list(planned.runs) == runs
    assert len(set(runs)) == len(runs)
    assert planned.primary == tuple(sweep.protocol.primary)
    assert planned.further == tuple(sweep.protocol.further)


# The protocol


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_variants_train_equally_many_steps(sweep: Any) -> None:
    """All together, and of all layers; a phase of new or last layers is a warm-up."""
    warm_ups = {"new_layers", "subclass_new_layers", "class_last_layer"}
    lengths = {}
    for variant, trial in zip(sweep.protocol.variants, sweep.trials, strict=True):
        start = f"train.{trial['train.strategy']}."
        phases = {
            key.split(".")[2]: value
            for key, value in trial.items()
            if key.startswith(start) and key.endswith(".epochs")
            and trial.get(key.replace("epochs", "enabled"), True)
        }  # fmt: skip
        of_all = sum(length for name, length in phases.items() if name not in warm_ups)
        lengths.setdefault(variant, set()).add((sum(phases.values()), of_all))
    frozen = lengths.pop("baseline-frozen")
    [(total, of_all)] = set.union(*lengths.values())
    assert frozen == {(total, 0)}
    assert total > of_all > 0
    # Nothing but the epochs of phases is set: rates are the recipe's for all.
    keys = {key for trial in sweep.trials for key in trial if key.count(".") > 2}
    assert all(key.endswith((".epochs", ".enabled")) for key in keys)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_controls_differ_in_one_thing(sweep: Any) -> None:
    trials = dict(zip(reversed(sweep.protocol.variants), reversed(sweep.trials), strict=True))
    seeds = {trial["train.seed"] == trial["hierarchy.seed"] for trial in sweep.trials}
    assert seeds == {True}

    def differences(one: str, other: str) -> set[str]:
        keys = trials[one].keys() | trials[other].keys()
        return {key for key in keys if trials[one].get(key) != trials[other].get(key)}

    kind = {"hierarchy.kind"}
    assert differences("s-lc", "baseline-restart") == kind
    assert differences("s-lc", "s-random") == kind | {"hierarchy.like"}
    assert differences("h-lc", "h-random") == kind | {"hierarchy.like"}
    assert differences("h-lc", "h-classes") == kind
    assert differences("h-lc", "h-lc-masked") == {"train.learn_w"}
    assert differences("s-lc", "s-lc-literal") == {"hierarchy.n_star"}
    assert differences("baseline", "baseline-weighted") == {"train.class_weights"}
    assert ("s-sn" in trials) == (sweep.name != "evidence-stanford")


def test_rounds_are_complete_one_after_the_other() -> None:
    """The first five of each are the primary variants of one seed or fold, and so on."""
    primary = {"baseline", "baseline-restart", "s-lc", "s-random", "h-lc"}
    for sweep, rounds in zip(SWEEPS, (3, 10, 5), strict=True):
        for place in range(rounds):
            chunk = slice(5 * place, 5 * place + 5)
            assert set(sweep.protocol.variants[chunk]) == primary
            keys = ("train.seed", "data.stanford.fold")
            assert len({tuple(t.get(k) for k in keys) for t in sweep.trials[chunk]}) == 1
