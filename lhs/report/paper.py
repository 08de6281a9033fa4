"""The paper's tables with our scores beside the paper's; rows without a run stay empty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from lhs.config import IMAGE_KINDS
from lhs.report.page import render, table_of
from lhs.report.tables import mean_and_std

TITLES = {
    1: "Table 1: SIFTFlow",
    2: "Table 2: SIFTFlow, rho and K_j",
    3: "Table 3: Stanford Background",
    4: "Table 4: Barcelona",
    5: "Table 5: LM+Sun",
}
DATASETS = {"siftflow": (1, 2), "stanford": (3,), "barcelona": (4,), "lmsun": (5,)}
SCORES = ("per_pixel", "per_class")
USUAL = (0.93, 1.0)
"""rho and k_scale of all rows but Table 2's."""
LETTERS = {
    "label_clusters": "LC", "scene_names": "SN", "image_clusters": "IC",
    "image_embedding": "IC of the encoder's features",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run: all its settings, nested, and its scores by name."""

    config: Mapping[str, Any]
    scores: Mapping[str, float]


def paper_rows() -> pd.DataFrame:
    """All rows of the paper's Tables 1 to 5 as printed; empty cells are empty strings."""
    path = resources.files("lhs") / "report" / "paper_tables.csv"
    with resources.as_file(path) as file:
        return pd.read_csv(file, dtype={"region": str}, keep_default_na=False)


def paper_tables(runs: Sequence[Run]) -> dict[int, pd.DataFrame]:
    """Each table of the paper, its rows first, then runs that are no row of it.

    Parameters
    ----------
    runs
        Those with one setting and different seeds are one row.

    Returns
    -------
    dict of int to pandas.DataFrame
        By the table's number: `method`, `paper_per_pixel`, `paper_per_class`, and for ours the mean
        and sample standard deviation (nan for one seed) of both, `seeds` and `note`: how
        a run falls short of the paper's row.
    """
    paper = paper_rows()
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr((_setting(run.config), note_of(run.config))), []).append(run)
    tables = {}
    for number in TITLES:
        rows = []
        left = [
            members
            for members in groups.values()
            if number in DATASETS.get(members[0].config["data"]["dataset"], ())
        ]
        for row in paper[paper["table"] == number].to_dict("records"):
            printed = {f"paper_{key}": _number(row[key]) for key in SCORES}
            ours = [members for members in left if _stands_in(members[0].config, row)]
            left = [members for members in left if members not in ours]
            names = {"method": row["method"], **printed}
            rows += [{**names, **_ours(members)} for members in ours or [[]]]
        # What is no row of Table 2 may be one of Table 1.
        for members in left if number != 2 else []:
            empty = {f"paper_{key}": math.nan for key in SCORES}
            rows.append({"method": _name(members[0].config), **empty, **_ours(members)})
        tables[number] = pd.DataFrame(rows)
    return tables


def _setting(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """The settings in which runs of one row agree: all but seeds."""
    hierarchy = config["hierarchy"]
    learns = config["train"]["strategy"] != "baseline"
    clusters = learns and hierarchy["kind"] == "label_clusters"
    return (
        config["data"]["dataset"],
        config["network"]["name"],
        config["train"]["strategy"],
        hierarchy["kind"] if learns else "",
        _region(hierarchy["region"]) if clusters else "",
        (float(hierarchy["rho"]), float(hierarchy["k_scale"]) if clusters else 1.0)
        if learns
        else USUAL,
        _has_pseudo_labels(config),
    )


def _has_pseudo_labels(config: Mapping[str, Any]) -> bool:
    """Whether the hierarchy is made from a baseline's pseudo-labels too."""
    return bool(config["unlabelled"]["mode"] == "pseudo_labels")


def _region(value: Any) -> str:
    return "inf" if math.isinf(float(value)) else str(int(value))


def _stands_in(config: Mapping[str, Any], row: Mapping[Any, Any]) -> bool:
    """Whether a run has the settings of a row that is the paper's own."""
    if row["source"] != "paper":
        return False
    *named, settings, pseudo_labels = _setting(config)
    wanted = [row[key] for key in ("dataset", "network", "strategy", "hierarchy", "region")]
    if row["hierarchy"] in IMAGE_KINDS:
        # Its R is the side of the patches: image clusters have no window.
        wanted[-1] = ""
    varied = dict(part.split("=") for part in row["variant"].split(";") if "=" in part)
    if pseudo_labels != (row["variant"] == "imputed"):
        return False
    usual = dict(zip(("rho", "k_scale"), USUAL, strict=True))
    return named == wanted and settings == tuple(
        float(varied.get(key, value)) for key, value in usual.items()
    )


def note_of(config: Mapping[str, Any]) -> str:
    """How a run falls short of a row of the paper: fewer images, fewer steps."""
    data, train = config["data"], config["train"]
    notes = []
    if data["dataset"] == "stanford":
        notes.append(f"fold {data['stanford']['fold']} only")
    for key, what in (("max_train", "training"), ("max_test", "test")):
        if data[key] is not None:
            notes.append(f"{data[key]} {what} images")
    if _has_pseudo_labels(config):
        unlabelled = config["unlabelled"]
        if unlabelled["below"] != 0.9:
            notes.append(f"pseudo-labels below {unlabelled['below']:.0%}")
        if not unlabelled["train_on_pseudo_labels"]:
            notes.append("trained on annotated pixels")
        if unlabelled["stride"] != 1:
            notes.append(f"pseudo-labels at stride {unlabelled['stride']}")
    if train["max_steps"] is not None:
        notes.append(f"{train['max_steps']} steps a phase")
    if train["strategy"] != "baseline" and config["hierarchy"]["kind"] in IMAGE_KINDS:
        notes.append(f"{config['hierarchy']['image_clusters']} image clusters")
    if config["network"]["weights"] == "none":
        notes.append("from random weights")
    if config["evaluation"]["stride"] != 1:
        notes.append(f"predicted at stride {config['evaluation']['stride']}")
    return ", ".join(notes)


def _name(config: Mapping[str, Any]) -> str:
    _, network, strategy, kind, region, (rho, k_scale), pseudo_labels = _setting(config)
    name = f"ours: {network}"
    if strategy == "baseline":
        return f"{name} baseline"
    letter = {"sequential": "S", "hierarchical": "H"}[strategy]
    name += f"+{letter}+{LETTERS[kind]}"
    name += f" (R={region})" if region else ""
    name += ", pseudo-labels" if pseudo_labels else ""
    return name if (rho, k_scale) == USUAL else f"{name}, rho={rho:g}, K x {k_scale:g}"


def _number(value: Any) -> float:
    return math.nan if value == "" else float(value)


def _ours(members: Sequence[Run]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in SCORES:
        found[key], found[f"{key}_std"] = mean_and_std([run.scores[key] for run in members])
    seeds = {run.config["train"]["seed"] for run in members}
    return found | {"seeds": len(seeds), "note": note_of(members[0].config) if members else ""}


def written(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: scores with three decimals, nothing where there is nothing."""
    shown = pd.DataFrame({"method": frame["method"]})
    for key in SCORES:
        shown[f"paper {key.replace('_', ' ')}"] = [_score(v) for v in frame[f"paper_{key}"]]
    for key in SCORES:
        spread = frame[f"{key}_std"]
        shown[f"ours {key.replace('_', ' ')}"] = [
            _score(mean) + ("" if math.isnan(std) else f" ± {std:.3f}")
            for mean, std in zip(frame[key], spread, strict=True)
        ]
    shown["seeds"] = ["" if not count else str(count) for count in frame["seeds"]]
    shown["note"] = frame["note"]
    return shown


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def as_markdown(number: int, frame: pd.DataFrame) -> str:
    """A table in Markdown below its title."""
    shown = written(frame)
    lines = [f"## {TITLES[number]}", "", _line(shown.columns), _line(["---"] * len(shown.columns))]
    lines += [_line(row) for row in shown.itertuples(index=False, name=None)]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def as_html(tables: Mapping[int, pd.DataFrame]) -> str:
    """All tables as one page that needs nothing but itself."""
    shown = [(TITLES[number], table_of(written(frame))) for number, frame in tables.items()]
    return render("paper.html", tables=shown)
