"""The tables of kept runs, in Markdown, a text for each dataset; and the page they stand on."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lhs.errors import UserError
from lhs.evaluation.metrics import Scores, scores
from lhs.report.evidence import KeptRun, Planned, read_planned, read_runs
from lhs.report.groups import grouped, labels, used
from lhs.report.paper import DATASETS, FOLDS, paper_rows
from lhs.report.statistics import (
    FEW_IMAGES,
    SCORES,
    Difference,
    bootstrap,
    holm,
    images_of_classes,
    paired_t,
    resampled,
)
from lhs.report.tables import mean_and_std
from lhs.report.wording import MINUS, seconds
from lhs.sweeps import FOLD

NAMES = {"per_pixel": "per pixel", "per_class": "per class"}


@dataclass(frozen=True)
class _Row:
    """The runs of one variant, all of the same settings, by (seed, fold).

    Attributes
    ----------
    place
        The data and the network; only variants of one place are compared.
    """

    name: str
    variant: str
    place: str
    runs: Mapping[tuple[Any, ...], KeptRun]
    drawn: dict[Any, dict[str, np.ndarray]] = field(default_factory=dict)

    def resampled(self, seed: Any) -> dict[str, np.ndarray]:
        """Scores of the model of a seed on resamples of its images, drawn once."""
        if seed not in self.drawn:
            self.drawn[seed] = resampled(self.models[seed][1])
        return self.drawn[seed]

    @cached_property
    def scored(self) -> list[Scores]:
        """Scores of each run."""
        return [scores(run.counts.sum(axis=0)) for run in self.runs.values()]

    @cached_property
    def folded(self) -> bool:
        """Whether a model is five networks, each scored on its fold."""
        settings = next(iter(self.runs.values())).settings
        return (settings["data.dataset"], settings["data.stanford.split"]) == ("stanford", "folds")

    @cached_property
    def models(self) -> dict[Any, tuple[list[str], np.ndarray]]:
        """Test images and their counts by seed, of seeds with all folds; folds are pooled."""
        found = {}
        for seed in sorted({key[0] for key in self.runs}):
            parts = [run for key, run in sorted(self.runs.items()) if key[0] == seed]
            if not self.folded or len(parts) == FOLDS:
                images = [image for run in parts for image in run.images]
                found[seed] = images, np.concatenate([run.counts for run in parts])
        return found


def evidence_tables(folder: Path) -> dict[str, str]:
    """The tables of each dataset in a folder of kept runs.

    Raises
    ------
    UserError
        If the folder holds no runs and no plan, a file is damaged, two runs have the same settings,
        seed and fold, or runs that are compared were scored on different images.
    """
    found = {
        below.name: dataset_tables(below.name, read_runs(below), read_planned(below))
        for below in sorted(folder.iterdir())
        if below.is_dir() and any(below.glob("*.json"))
    }
    if not found:
        raise UserError(
            f"{folder}: found no kept runs (DATASET/RUN.json); `lhs tables --keep` writes them"
        )
    return found


def dataset_tables(dataset: str, runs: Sequence[KeptRun], planned: Planned) -> str:
    """All tables of one dataset: scores, differences, classes, what is missing."""
    rows = _rows(runs, planned)
    parts = [_missing(runs, planned)]
    if rows:
        parts = [
            _scores_table(dataset, rows), _difference_table(rows, planned),
            _class_table(rows, planned), _provenance(runs), *parts,
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


def _rows(runs: Sequence[KeptRun], planned: Planned) -> list[_Row]:
    groups = grouped([run.run for run in runs], [used(run.settings) for run in runs])
    by_variant: dict[str, list[Any]] = {variant: [] for variant, *_ in planned.runs}
    for group in groups:
        variant = runs[min(group.members.values())].variant
        by_variant.setdefault(variant, []).append(group)
    rows = []
    for variant, some in by_variant.items():
        for group, label in zip(some, labels([one.settings for one in some]), strict=True):
            place = {
                key: value
                for key, value in group.settings.items()
                if key.startswith(("data.", "network.", "evaluation."))
            }
            members = {key: runs[position] for key, position in group.members.items()}
            name = f"{variant}: {label}" if label else variant
            rows.append(_Row(name, variant, repr(sorted(place.items())), members))
    return rows


def _scores_table(dataset: str, rows: Sequence[_Row]) -> str:
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


def _difference_table(rows: Sequence[_Row], planned: Planned) -> str:
    lines = []
    for place in dict.fromkeys(row.place for row in rows):
        here = [row for row in rows if row.place == place]
        compared = [
            (name, key, *_difference(first, second, key), is_primary)
            for pairs, is_primary in ((planned.primary, True), (planned.further, False))
            for name, first, second in _pairs(here, pairs)
            for key in SCORES
        ]
        # A contrast that is not there yet counts in the correction too.
        p_values = [one[2].p for one in compared if one[-1]]
        padding = len(planned.primary) * len(SCORES) - len(p_values)
        corrected = iter(holm(p_values + [math.nan] * max(0, padding)))
        for name, key, difference, given, how, is_primary in compared:
            p = next(corrected) if is_primary else math.nan
            lines.append(
                [
                    name, NAMES[key], f"{difference.mean:+.4f}", _interval(difference),
                    "" if math.isnan(p) else f"{p:.3f}", _interval(given), how,
                ]
            )  # fmt: skip
    heads = ["first minus second", "score", "difference", "95 % interval", "p (Holm)",
             "given these models", "rests on"]  # fmt: skip
    return _table(heads, lines) if lines else ""


def _pairs(
    rows: Sequence[_Row], pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, _Row, _Row]]:
    """Rows to compare that have a seed in common."""
    for pair in pairs:
        both = ([row for row in rows if row.variant == variant] for variant in pair)
        for first, second in itertools.product(*both):
            if first.models.keys() & second.models.keys():
                yield f"{first.name} {MINUS} {second.name}", first, second


def _difference(first: _Row, second: _Row, key: str) -> tuple[Difference, Difference | None, str]:
    """A difference, the same given the models (if that is another), and what it rests on."""
    seeds = [seed for seed in first.models if seed in second.models]
    for seed in seeds:
        if first.models[seed][0] != second.models[seed][0]:
            raise UserError(
                f"{first.name} and {second.name}, seed {seed}: scored on different test images"
            )
    images = len(first.models[seeds[0]][0])
    drawn = [
        np.mean([row.resampled(seed)[key] for seed in seeds], axis=0) for row in (first, second)
    ]
    given = bootstrap(drawn[0], drawn[1], images)
    plural = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if first.folded:
        return given, None, f"{images} images, {plural}"
    pairs = [
        [getattr(scores(row.models[seed][1].sum(axis=0)), key) for seed in seeds]
        for row in (first, second)
    ]
    return paired_t(*pairs), given, plural


def _interval(difference: Difference | None) -> str:
    if difference is None or math.isnan(difference.low):
        return ""
    return f"{difference.low:+.4f} to {difference.high:+.4f}"


def _class_table(rows: Sequence[_Row], planned: Planned) -> str:
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
    planned_of: dict[str, list[tuple[int, int | None]]] = {}
    missing: dict[str, list[str]] = {}
    for variant, seed, fold in planned.runs:
        planned_of.setdefault(variant, []).append((seed, fold))
        if (variant, seed, fold) not in there:
            text = f"seed {seed}" + (f" fold {fold}" if fold else "")
            missing.setdefault(variant, []).append(text)
    if not missing:
        return ""
    listed = [
        f"{variant} ({'all' if len(some) == len(planned_of[variant]) else ', '.join(some)})"
        for variant, some in missing.items()
    ]
    count = sum(map(len, missing.values()))
    return f"Missing, {count} of {len(planned.runs)} planned runs: {'; '.join(listed)}."


def _table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
