"""Does a hierarchy help, or do the phases that come with it? One sweep a dataset.

    lhs sweep tune/evidence.py                                          SIFTFlow: days on two cores
    lhs sweep tune/evidence.py --recipe stanford-lite-baseline
    lhs sweep tune/evidence.py --recipe demo                            the embedded scenes
    lhs sweep tune/evidence.py --set train.gpu_share=0.125 --resume     eight side by side on a GPU
    ray submit cluster.yaml tune/evidence.py

Each variant has a control that lacks one thing alone: S is compared with the same phases on random
subclasses and on the classes themselves. All variants of a dataset train equally many steps, and
equally many of all layers (but `baseline-frozen`, which never trains its encoder). Rates are the
recipes'. All have 12 epochs, six for each part of S: by `tune/lengths.py` six are enough on
Stanford, and three are too few on SIFTFlow.

Each finished trial is kept as a file below `docs/evidence`, and a trial that is there is not run
again; `lhs tables docs/evidence` makes the tables.
"""

from lhs.run import run_file
from lhs.sweeps import Protocol, Sweep

KEEP = "docs/evidence"
WARM_UP = 2
"""Epochs of new layers alone."""
BASELINE, S = {"train.strategy": "baseline"}, {"train.strategy": "sequential"}
# One cycle over both steps of H, as the baseline has.
H = {"train.strategy": "hierarchical", "train.optimizer_state": "kept"}
LC, SN, IC = (
    {"hierarchy.kind": kind} for kind in ("label_clusters", "scene_names", "image_clusters")
)
CLASSES = {"hierarchy.kind": "classes"}
RANDOM = {"hierarchy.kind": "random", "hierarchy.like": "label_clusters"}
DENSE = {"train.learn_w": "dense"}

PRIMARY = {
    "baseline": BASELINE,
    "baseline-restart": S | CLASSES,
    "s-lc": S | LC,
    "s-random": S | RANDOM,
    "h-lc": H | LC | DENSE,
}
FURTHER = {
    "baseline-weighted": BASELINE | {"train.class_weights": "inverse_root"},
    "baseline-frozen": BASELINE | {"train.baseline.all_layers.enabled": False},
    "s-lc-literal": S | LC | {"hierarchy.n_star": "largest_rare"},
    "s-ic": S | IC,
    "h-lc-masked": H | LC | {"train.learn_w": "masked"},
    "h-random": H | RANDOM | DENSE,
    "h-classes": H | CLASSES | DENSE,
}
WITH_SCENE_NAMES = FURTHER | {
    "s-sn": S | SN,
    "s-random-sn": S | RANDOM | {"hierarchy.like": "scene_names"},
}
# Fixed before any of these runs was made.
PRIMARY_CONTRASTS = (("s-lc", "s-random"), ("s-lc", "baseline-restart"))
FURTHER_CONTRASTS = (
    *((name, "baseline") for name in [*PRIMARY, *WITH_SCENE_NAMES] if name != "baseline"),
    ("s-sn", "s-random-sn"), ("s-ic", "s-random"), ("s-lc-literal", "s-lc"), ("s-lc", "s-ic"),
    ("h-lc", "h-random"), ("h-lc", "h-classes"), ("h-lc-masked", "h-lc"),
)  # fmt: skip


def phases(epochs):
    """Lengths of all strategies' phases, with `epochs` of all layers in each."""
    half, third = epochs // 2, epochs // 3
    lengths = {
        "baseline": {"new_layers": WARM_UP, "all_layers": epochs},
        "sequential": {
            "subclass_new_layers": WARM_UP // 2, "subclass_all_layers": half,
            "class_last_layer": WARM_UP - WARM_UP // 2, "class_all_layers": epochs - half,
        },
        "hierarchical": {"new_layers": WARM_UP, "fixed_w": third, "learned_w": epochs - third},
    }  # fmt: skip
    return {
        f"train.{strategy}.{phase}.epochs": length
        for strategy, parts in lengths.items()
        for phase, length in parts.items()
    }


def sweep(dataset, recipe, epochs, n_star, rounds):
    """The trials of one dataset: each of `rounds` is variants, and seeds and folds for all."""
    common = phases(epochs) | {
        "train.class_weights": "none", "report.baseline": "none", "hierarchy.n_star": n_star,
        # On CPUs as many trainings side by side as there are cores.
        "train.threads": 1,
    }  # fmt: skip
    variants, trials = [], []
    for members, repeats in rounds:
        for seed, more in repeats:
            for name, changes in members.items():
                trial = common | changes | {"train.seed": seed, "hierarchy.seed": seed} | more
                if name == "baseline-frozen":
                    trial["train.baseline.new_layers.epochs"] = WARM_UP + epochs
                variants.append(name)
                trials.append(trial)
    known = set(variants)
    further = [pair for pair in FURTHER_CONTRASTS if known.issuperset(pair)]
    return Sweep(
        name=f"evidence-{dataset}",
        recipe=recipe,
        trials=trials,
        protocol=Protocol(variants=variants, primary=PRIMARY_CONTRASTS, further=further, keep=KEEP),
    )


SEEDS = [(seed, {}) for seed in range(5)]
FOLDS, AGAIN = ([(seed, {"data.stanford.fold": fold}) for fold in range(1, 6)] for seed in range(2))

SWEEP = (
    # n_star: the bound that gives the paper's number of subclasses, 128 and 30.
    sweep(
        "siftflow", "siftflow-lite-baseline", 12, 1256,
        [(PRIMARY, SEEDS[:3]), (WITH_SCENE_NAMES, SEEDS[:1]), (PRIMARY, SEEDS[3:])],
    ),
    sweep(
        "stanford", "stanford-lite-baseline", 12, 8824,
        [(PRIMARY, FOLDS), (PRIMARY, AGAIN), (FURTHER, FOLDS)],
    ),
    sweep("synthetic", "demo", 12, 400, [(PRIMARY, SEEDS), (WITH_SCENE_NAMES, SEEDS)]),
)  # fmt: skip

if __name__ == "__main__":
    run_file(__file__)
