"""The recipes by dataset, each with its cost, which its header says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lhs import loading
from lhs.config import Config

COST = re.compile(
    r"((?:about|some|under) [^;\n]*? on two cores|a GPU with \d+ GB for (?:a day|days)"
    r"|not yet run to its end)"
)
"""How headers of recipes say their cost."""
OWN = "depends on your images"


def recipe_lines() -> Iterator[str]:
    """A heading for each dataset, with what it needs, and below it a line for each recipe."""
    known = {name: loading.load_config(name) for name in loading.recipes()}
    costs = {
        name: OWN if config.data.dataset == "folder" else recipe_cost(name)
        for name, config in known.items()
    }
    wide, costly = (max(map(len, texts)) for texts in (known, costs.values()))
    datasets = dict.fromkeys(config.data.dataset for config in known.values())
    # What needs nothing comes first.
    for dataset in sorted(datasets, key=lambda name: (name != "synthetic", name != "folder", name)):
        yield f"{dataset}: {_needed(dataset)}"
        for name, config in known.items():
            if config.data.dataset == dataset:
                more = "; its baseline comes first" * _baseline_first(config)
                yield f"  {name:<{wide}}  {costs[name]:<{costly}}  {config.description}{more}"


def _needed(dataset: str) -> str:
    if dataset == "synthetic":
        return "needs nothing, the scenes are made"
    if dataset == "folder":
        return "needs images of your own, see `lhs data import`"
    return f"needs `lhs data get {dataset}`"


def _baseline_first(config: Config) -> bool:
    """Whether a run trains a baseline if there is none."""
    return config.train.strategy != "baseline" and (
        config.unlabelled.mode == "pseudo_labels" or config.report.baseline == "train"
    )


def recipe_cost(name: str) -> str:
    """What a packaged recipe's header, or that of the recipe it extends, says of its cost."""
    text = loading.recipes()[name].read_text(encoding="utf-8")
    header = "".join(line[1:] for line in text.splitlines(keepends=True) if line[:1] == "#")
    found = COST.search(header)
    if found:
        return " ".join(found[1].split())
    extended = re.search(r"^extends: (\S+)$", text, re.M)
    return recipe_cost(extended[1]) if extended else ""
