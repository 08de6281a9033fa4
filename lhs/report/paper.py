"""The paper's tables with our scores beside the paper's; rows without a run stay empty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd

from lhs.config import IMAGE_KINDS
from lhs.report.groups import Group, grouped, labels, used
from lhs.report.page import render, table_of
from lhs.report.tables import dotted, mean_and_std

TITLES = {
    1: "Table 1: SIFTFlow",
    2: "Table 2: SIFTFlow, rho and K_j",
    3: "Table 3: Stanford Background",
    4: "Table 4: Barcelona",
    5: "Table 5: LM+Sun",
}
DATASETS = {"siftflow": (1, 2), "stanford": (3,), "barcelona": (4,), "lmsun": (5,)}
FOLDS = 5
"""Of Stanford Background."""
SCORES = ("per_pixel", "per_class")
USUAL = (0.93, 1.0)
"""rho and k_scale of all rows but Table 2's."""
LETTERS = {
    "label_clusters": "LC", "scene_names": "SN", "image_clusters": "IC",
    "image_embedding": "IC of the encoder's features", "classes": "classes",
    "file": "a given hierarchy",
    "random label_clusters": "random as LC", "random scene_names": "random as SN",
    "random image_clusters": "random as IC",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run: all its settings, nested, its scores by name, and its own name."""

    config: Mapping[str, Any]
    scores: Mapping[str, float]
    name: str = ""


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
        Those that differ in seed and fold alone are one row.

    Returns
    -------
    dict of int to pandas.DataFrame
        By the table's number: `method` (and what sets rows of one method apart), `paper_per_pixel`,
        `paper_per_class`, and for ours the mean and sample standard deviation (nan for one run) of
        both, `runs` and `note`: in what a run is less than the paper's row.

    Raises
    ------
    UserError
        If two runs have the same settings, seed and fold.
    """
    paper = paper_rows()
    found = grouped([run.name for run in runs], [used(dotted(run.config)) for run in runs])
    groups = _named(runs, found)
    tables = {}
    for number in TITLES:
        rows = []
        left = [
            (members, apart)
            for members, apart in groups
            if number in DATASETS.get(members[0].config["data"]["dataset"], ())
        ]
        for row in paper[paper["table"] == number].to_dict("records"):
            printed = {f"paper_{key}": _number(row[key]) for key in SCORES}
            ours = [one for one in left if _stands_in(one[0][0].config, row)]
            left = [one for one in left if one not in ours]
            rows += [
                {"method": row["method"] + apart, **printed, **_ours(members)}
                for members, apart in ours or [([], "")]
            ]
        # What is no row of Table 2 may be one of Table 1.
        for members, apart in left if number != 2 else []:
            empty = {f"paper_{key}": math.nan for key in SCORES}
            method = _name(members[0].config) + apart
            rows.append({"method": method, **empty, **_ours(members)})
        tables[number] = pd.DataFrame(rows)
    return tables


def unfitting(runs: Sequence[Run]) -> str:
    """A sentence on the runs that fit no row of the paper's tables; empty where all do."""
    rows = paper_rows().to_dict("records")
    known = ", ".join(DATASETS)
    elsewhere = [run for run in runs if run.config["data"]["dataset"] not in DATASETS]
    others = [
        run
        for run in runs
        if run not in elsewhere and not any(_stands_in(run.config, row) for row in rows)
    ]
    said = []
    if elsewhere:
        names = ", ".join(f"{run.name} ({run.config['data']['dataset']})" for run in elsewhere)
        said.append(f"The tables are of {known}; in none of them: {names}.")
    if others:
        names = ", ".join(run.name for run in others)
        said.append(f"With settings of no row of the paper, in rows of their own: {names}.")
    if said and len(elsewhere) + len(others) == len(runs):
        said.insert(0, "No run fits a row of the paper.")
    return " ".join(said)


def _named(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[list[Run], str]]:
    """The runs of each group, and what sets it apart from others of the same method and notes."""
    alike: dict[str, list[Group]] = {}
    for group in groups:
        config = runs[min(group.members.values())].config
        alike.setdefault(repr((_setting(config), _notes(config))), []).append(group)
    return [
        ([runs[place] for place in group.members.values()], f": {label}" if label else "")
        for some in alike.values()
        for group, label in zip(some, labels([group.settings for group in some]), strict=True)
    ]


def _setting(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the paper's rows differ in."""
    hierarchy = config["hierarchy"]
    learns = config["train"]["strategy"] != "baseline"
    kind = _kind(hierarchy)
    clusters = learns and kind.endswith("label_clusters")
    return (
        config["data"]["dataset"],
        " on ".join(filter(None, (config["network"]["name"], config["network"].get("encoder")))),
        config["train"]["strategy"],
        kind if learns else "",
        _region(hierarchy["region"]) if clusters else "",
        (float(hierarchy["rho"]), float(hierarchy["k_scale"]) if clusters else 1.0)
        if learns and kind != "classes"
        else USUAL,
        _has_pseudo_labels(config),
    )


def _kind(hierarchy: Mapping[str, Any]) -> str:
    """Its kind; of random subclasses also that of the hierarchy whose numbers they have."""
    kind = str(hierarchy["kind"])
    return f"{kind} {hierarchy['like']}" if kind == "random" else kind


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


def note_of(configs: Sequence[Mapping[str, Any]]) -> str:
    """How runs that differ in seed and fold alone fall short of a row of the paper."""
    notes = _notes(configs[0])
    if configs[0]["data"]["dataset"] == "stanford":
        folds = sorted({config["data"]["stanford"]["fold"] for config in configs})
        if len(folds) < FOLDS:
            listed = ", ".join(map(str, folds))
            notes.insert(0, f"fold{'s' * (len(folds) > 1)} {listed} only")
    return ", ".join(notes)


def _notes(config: Mapping[str, Any]) -> list[str]:
    data, train = config["data"], config["train"]
    notes = []
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
    if train["strategy"] != "baseline" and _kind(config["hierarchy"]).endswith(IMAGE_KINDS):
        notes.append(f"{config['hierarchy']['image_clusters']} image clusters")
    if config["network"]["weights"] == "none":
        notes.append("from random weights")
    if config["evaluation"]["stride"] != 1:
        notes.append(f"predicted at stride {config['evaluation']['stride']}")
    return notes


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
    note = note_of([run.config for run in members]) if members else ""
    return found | {"runs": len(members), "note": note}


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
    shown["runs"] = ["" if not count else str(count) for count in frame["runs"]]
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


def as_html(tables: Mapping[int, pd.DataFrame], note: str = "") -> str:
    """All tables as one page that needs nothing but itself; the note comes first."""
    shown = [(TITLES[number], table_of(written(frame))) for number, frame in tables.items()]
    return render("paper.html", tables=shown, note=note)
