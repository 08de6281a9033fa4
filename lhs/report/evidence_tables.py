"""The tables of kept runs, in Markdown, a text for each dataset; and the page they stand on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhs.errors import UserError
from lhs.evaluation.metrics import scores
from lhs.report.contrasts import Contrast, Evidence, Variant
from lhs.report.evidence import KeptRun, Planned
from lhs.report.paper import DATASETS, paper_rows
from lhs.report.statistics import FEW_IMAGES, Difference, images_of_classes
from lhs.report.tables import mean_and_std
from lhs.report.wording import SCORE_NAMES, seconds
from lhs.sweeps import FOLD


def evidence_tables(evidence: Mapping[str, Evidence]) -> dict[str, str]:
    """The tables of each dataset.

    Raises
    ------
    UserError
        If two runs have the same settings, seed and fold, or runs that are compared were scored on
        different images.
    """
    return {dataset: dataset_tables(dataset, found) for dataset, found in evidence.items()}


def dataset_tables(dataset: str, evidence: Evidence) -> str:
    """All tables of one dataset: scores, differences, classes, what is missing."""
    parts = [_missing(evidence.runs, evidence.planned)]
    if rows := evidence.variants:
        parts = [
            _scores_table(dataset, rows), _difference_table(evidence.contrasts),
            _class_table(rows, evidence.planned), _provenance(evidence.runs), *parts,
        ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def page_with(page: str, tables: Mapping[str, str]) -> str:
    """A page with tables between its lines `<!-- tables of DATASET -->` and `<!-- end -->`.

    Raises
    ------
    UserError
        If it has no such lines for a dataset.
    """
    for dataset, text in tables.items():
        between = re.compile(rf"(<!-- tables of {dataset} -->\n).*?(<!-- end -->)", re.DOTALL)
        count = len(between.findall(page))
        if count != 1:
            raise UserError(
                f"--page: found {count} places for {dataset}, allowed is one: a line "
                f"`<!-- tables of {dataset} -->` and a line `<!-- end -->` below it"
            )
        # Backslashes would stand for groups.
        escaped = text.replace("\\", r"\\")
        page = between.sub(rf"\g<1>\n{escaped}\n\n\g<2>", page)
    return page


def _scores_table(dataset: str, rows: Sequence[Variant]) -> str:
    lines = []
    for row in rows:
        shown = []
        for key in ("per_pixel", "per_class", "mean_iou"):
            mean, std = mean_and_std([getattr(one, key) for one in row.scored])
            shown.append(f"{mean:.4f}" + ("" if math.isnan(std) else f" ± {std:.4f}"))
        trained = np.mean([run.seconds.get("model", math.nan) for run in row.runs.values()])
        lines.append([row.name, *shown, len(row.runs), seconds(float(trained))])
    if dataset in DATASETS:
        paper = paper_rows()
        own = paper[(paper["table"] == DATASETS[dataset][0]) & (paper["source"] == "paper")]
        lines += [
            [f"paper: {row.method}", row.per_pixel, row.per_class, "", "", ""]
            for row in own.itertuples()
        ]
    heads = ["variant", "per pixel", "per class", "mean IoU", "runs", "training"]
    return _table(heads, lines)


def _difference_table(contrasts: Sequence[Contrast]) -> str:
    lines = [
        [
            one.name, SCORE_NAMES[one.score], f"{one.difference.mean:+.4f}",
            _interval(one.difference), "" if math.isnan(one.p) else f"{one.p:.3f}",
            _interval(one.given), one.rests_on,
        ]
        for one in contrasts
    ]  # fmt: skip
    heads = ["first minus second", "score", "difference", "95 % interval", "p (Holm)",
             "given these models", "rests on"]  # fmt: skip
    return _table(heads, lines) if lines else ""


def _interval(difference: Difference | None) -> str:
    if difference is None or math.isnan(difference.low):
        return ""
    return f"{difference.low:+.4f} to {difference.high:+.4f}"


def _class_table(rows: Sequence[Variant], planned: Planned) -> str:
    """Accuracy by class of what the primary contrasts compare, and classes of few test images."""
    wanted = {variant for pair in planned.primary for variant in pair} | {"baseline"}
    shown = [row for row in rows if not planned.primary or row.variant in wanted]
    if not shown:
        return ""
    classes = next(iter(shown[0].runs.values())).classes
    totals = [scores(sum(run.counts.sum(axis=0) for run in row.runs.values())) for row in shown]
    counts = max(
        (run for row in shown for run in row.runs.values()), key=lambda run: len(run.images)
    ).counts
    if pooled := [one for row in shown for _, one in row.models.values()]:
        counts = pooled[0]
    images, pixels = images_of_classes(counts), counts.sum(axis=(0, 2))
    present = [int(label) for label in np.argsort(-pixels, kind="stable") if pixels[label]]
    lines = [
        [classes[label], images[label], *(f"{one.per_class_accuracy[label]:.3f}" for one in totals)]
        for label in present
    ]
    few = [classes[label] for label in present if images[label] < FEW_IMAGES]
    table = _table(["class", "test images", *(row.name for row in shown)], lines)
    if few:
        table += (
            f"\n\nFewer than {FEW_IMAGES} test images, so that little can be said of them: "
            f"{', '.join(few)}."
        )
    return table


def _provenance(runs: Sequence[KeptRun]) -> str:
    """What the runs were trained on."""
    devices = sorted({run.device for run in runs if run.device})
    versions = sorted({f"{name} {value}" for run in runs for name, value in run.versions.items()})
    digests = sorted(
        {
            f"{name} {run.digests[name][:12]}"  # type: ignore[index]
            for run in runs
            for name in ("data", "weights")
            if run.digests.get(name)
        }
    )
    return f"Trained on {'; '.join(devices)}. Versions: {', '.join(versions)}. Digests: " + (
        f"{', '.join(digests)}."
    )


def _missing(runs: Sequence[KeptRun], planned: Planned) -> str:
    """The planned runs that are not there, by variant."""
    folded = {fold for *_, fold in planned.runs} != {None}
    there = {
        (run.variant, run.settings["train.seed"], run.settings[FOLD] if folded else None)
        for run in runs
    }
    listed, count = [], 0
    for variant in dict.fromkeys(name for name, *_ in planned.runs):
        of_variant = [run for run in planned.runs if run[0] == variant]
        missing = [run for run in of_variant if run not in there]
        count += len(missing)
        if not missing:
            continue
        parts = []
        for seed in dict.fromkeys(seed for _, seed, _ in missing):
            folds = [fold for _, other, fold in missing if other == seed]
            whole = len(folds) == sum(other == seed for _, other, _ in of_variant)
            parts.append(f"seed {seed}" + ("" if whole else f" fold {', '.join(map(str, folds))}"))
        text = "all" if len(missing) == len(of_variant) else " and ".join(parts)
        listed.append(f"{variant} ({text})")
    if not listed:
        return ""
    return f"Missing, {count} of {len(planned.runs)} planned runs: {'; '.join(listed)}."


def _table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
