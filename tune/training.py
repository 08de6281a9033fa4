"""How long and how fast should H train, and how much should its subclasses count?

    lhs sweep tune/training.py                                up to a quarter of an hour a trial
    lhs sweep tune/training.py --set data.max_train=60 --set data.max_test=20 --name try
    ray submit cluster.yaml tune/training.py

Optuna proposes rates, alpha and lengths of the two steps of H; after each epoch a trial that is not
among the best third so far is stopped (ASHA). Scores are those on 114 training images, a fifth,
which are held out; test images are not used. The result is a table, the best trial first. Stages
before the training are made once.
"""

from lhs.run import run_file
from lhs.sweeps import Between, Search

SWEEP = Search(
    name="training",
    recipe="stanford-lite-h-lc",
    count=20,
    metric="per_class",
    patience=2,
    always={"data.held_out": 114, "train.validate_every": 1, "report.baseline": "none"},
    space={
        "train.hierarchical.fixed_w.learning_rate": Between(low=3e-4, high=1e-2, log=True),
        "train.hierarchical.fixed_w.epochs": Between(low=1, high=6),
        "train.hierarchical.learned_w.learning_rate": Between(low=1e-4, high=5e-3, log=True),
        "train.hierarchical.learned_w.epochs": Between(low=2, high=10),
        "train.alpha": Between(low=0.1, high=10.0, log=True),
    },
)

if __name__ == "__main__":
    run_file(__file__)
