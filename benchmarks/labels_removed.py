"""Stanford Background with labels removed: what pseudo-labels bring back (paper section 4.4).

Annotators skip whole objects. So of 80 % of fold 1's training images, drawn with a seed, half of
the labelled regions (`layers.txt`) lose their labels. Then `lite` is trained as in its recipes: the
baseline, S on label clusters of what is left (`naive`), S and H on those of the maps that the
baseline completed. The hierarchy of all labels is the truth that both others are compared with:

- adjusted Rand index of the subclasses that two hierarchies give the pixels that are still
  labelled, each in the label maps it was made of; by common class, weighted by pixels (over all
  classes at once it would be high for the classes alone);
- scores on the test images, whose labels are all there.

Algorithm 1's bound n* is the recipe's, times the share of pixels that is labelled: a bound in
samples means less where there are fewer of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from reporting import options, report
from sklearn.metrics import adjusted_rand_score

from lhs.config import Config
from lhs.data import open_dataset
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.hierarchy import Hierarchy
from lhs.loading import load_config

REMOVED_FROM, REMOVED, SEED = 0.8, 0.5, 0
"""Share of the training images that lose labels, and of their labelled regions that do."""
STEP = 4
"""Pixels between two that are compared, down and across."""


def remove_labels(source: Path, folder: Path) -> float:
    """Write the dataset with fewer labels into `folder`; the share of labelled pixels left."""
    labels = folder / "labels"
    labels.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "labels":
            (folder / path.name).symlink_to(path)
    for path in (source / "labels").iterdir():
        (labels / path.name).symlink_to(path)
    rng = np.random.default_rng(SEED)
    train = [scene.id for scene in open_dataset("stanford", source.parent).split("train")]
    chosen = set(rng.permutation(train)[: round(REMOVED_FROM * len(train))].tolist())
    before = after = 0
    for image in train:
        ids = np.loadtxt(source / "labels" / f"{image}.regions.txt", np.int16, ndmin=2)
        before += int((ids >= 0).sum())
        if image in chosen:
            layers = np.loadtxt(source / "labels" / f"{image}.layers.txt", np.int64, ndmin=2)
            regions = np.unique(layers[ids >= 0])
            lost = rng.permutation(regions)[: round(REMOVED * len(regions))]
            ids[np.isin(layers, lost)] = -1
            changed = labels / f"{image}.regions.txt"
            changed.unlink()
            np.savetxt(changed, ids, "%d")
        after += int((ids >= 0).sum())
    return after / before


def run(recipe: str, settings: list[str]) -> dict[str, Any]:
    """Run a recipe; the object that it prints last."""
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "lhs.run", "run", recipe, "--json", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def hierarchy_of(config: Config) -> tuple[Hierarchy, CheckedScenes]:
    """A hierarchy and the scenes that it is made of; what a run left is not made again."""
    from lhs.engine.cache import Stages
    from lhs.engine.graph import HIERARCHY, context_scenes
    from lhs.engine.stages.hierarchy import read_hierarchy
    from lhs.engine.storage import Storage

    storage = Storage(config.storage)
    stages = Stages(storage)
    made = stages.make(HIERARCHY, config)
    return read_hierarchy(storage, made.path), context_scenes(stages, config)


def agreements(configs: dict[str, Config]) -> dict[str, float]:
    """Weighted mean over the common classes of `full` of the adjusted Rand index with it."""
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.stages.scenes import worker_dataset

    with connected():
        made = {name: hierarchy_of(config) for name, config in configs.items()}
    subclasses: dict[str, list[np.ndarray]] = {name: [] for name in made}
    classes = []
    datasets = {
        name: worker_dataset(configs[name].data, scenes.pseudo_labels)
        for name, (_, scenes) in made.items()
    }
    for scene in datasets["naive"].split("train"):
        label_map = scene.label_map()[::STEP, ::STEP]
        labelled = label_map != datasets["naive"].void
        classes.append(label_map[labelled])
        for name, (hierarchy, _) in made.items():
            whole = datasets[name].scene(scene.id).label_map()
            subclasses[name].append(hierarchy.relabel(whole)[::STEP, ::STEP][labelled])
    label = np.concatenate(classes)
    own = {name: np.concatenate(parts) for name, parts in subclasses.items()}
    common = made["full"][0].common
    weights = np.array([np.count_nonzero(label == c) for c in common], float)
    return {
        name: float(
            np.average(
                [adjusted_rand_score(own["full"][label == c], own[name][label == c])
                 for c in common],
                weights=weights,
            )
        )
        for name in ("naive", "pseudo-labels")
    }  # fmt: skip


def table(scores: dict[str, dict[str, Any]], agreement: dict[str, float]) -> str:
    """One row per network."""
    lines = [
        "| | ARI with the hierarchy of all labels | per pixel | per class |",
        "|---|---|---|---|",
    ]
    for name, found in scores.items():
        kind = name.split(", ")[-1]
        index = f"{agreement[kind]:.3f}" if kind in agreement else ""
        lines.append(f"| {name} | {index} | {found['per_pixel']:.3f} | {found['per_class']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, help="at most so many in a phase, to try this out")
    parser.add_argument("--storage", type=Path, help="keep the runs here (default: nowhere)")
    chosen = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    source = (chosen.data_root / "stanford").resolve()
    with tempfile.TemporaryDirectory() as place:
        fewer = Path(place)
        share = remove_labels(source, fewer / "stanford")
        storage = chosen.storage or fewer / "results"
        both = [
            f"storage={storage}",
            *([f"train.max_steps={chosen.steps}"] if chosen.steps else []),
        ]
        bound = load_config("stanford-lite-s-lc", []).hierarchy.n_star
        assert isinstance(bound, int)
        naive = [*both, f"data.root={fewer}", f"hierarchy.n_star={round(bound * share)}"]
        pseudo = [*both, f"data.root={fewer}", "unlabelled.mode=pseudo_labels"]
        scores = {}
        for name, recipe, settings in (
            ("baseline", "stanford-lite-baseline", [*both, f"data.root={fewer}"]),
            ("S+LC, naive", "stanford-lite-s-lc", naive),
            ("S+LC, pseudo-labels", "stanford-lite-s-lc", pseudo),
            ("H+LC, pseudo-labels", "stanford-lite-h-lc", pseudo),
        ):
            scores[name] = run(recipe, settings)["scores"]
            print(name, scores[name], file=sys.stderr, flush=True)
        full = [*both, f"data.root={source.parent}"]
        compared = {"full": full, "naive": naive, "pseudo-labels": pseudo}
        agreement = agreements(
            {name: load_config("stanford-lite-s-lc", own) for name, own in compared.items()}
        )
    print(table(scores, agreement))
    report(
        "labels_removed",
        {"labelled": share, "agreement": agreement, "scores": scores},
        {"agreement of pseudo-labels": (agreement["pseudo-labels"], ">", agreement["naive"])},
    )


if __name__ == "__main__":
    main()
